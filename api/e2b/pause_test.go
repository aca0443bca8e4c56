package e2b

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/machine"
)

func TestCreateLifecycle(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		fields string
		want   machine.Lifecycle
		shown  lifecycleInfo
	}{
		{``, machine.Lifecycle{}, lifecycleInfo{OnTimeout: "kill"}},
		{`,"autoPause":false,"autoPauseMemory":false`, machine.Lifecycle{}, lifecycleInfo{OnTimeout: "kill"}},
		{`,"autoPause":true`, machine.Lifecycle{AutoPause: true}, lifecycleInfo{OnTimeout: "pause"}},
		{`,"autoPause":true,"autoPauseMemory":false,"autoResume":{"enabled":false}`, machine.Lifecycle{AutoPause: true, DiskOnly: true}, lifecycleInfo{OnTimeout: "pause"}},
		{`,"autoPause":true,"autoPauseMemory":true,"autoResume":{"enabled":true}`, machine.Lifecycle{AutoPause: true, AutoResume: true}, lifecycleInfo{OnTimeout: "pause", AutoResume: true}},
	} {
		id := w.create(`{"templateID":"base"` + tt.fields + `}`).SandboxID
		var info sandboxDetail
		w.get("/sandboxes/"+id, &info)
		if w.lastSpec().Lifecycle != tt.want || info.Lifecycle != tt.shown {
			t.Errorf("%s asks for %+v and shows %+v", tt.fields, w.lastSpec().Lifecycle, info.Lifecycle)
		}
	}
}

func TestPause(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		body, mode string
		stored     int64
	}{
		{``, "full", fakeImage}, {`{}`, "full", fakeImage}, {`{"memory":null}`, "full", fakeImage},
		{`{"memory":true}`, "full", fakeImage}, {`{"memory":false}`, "filesystem", 0},
	} {
		path := "/sandboxes/" + w.create(`{"templateID":"base"}`).SandboxID
		w.advance(time.Second)
		if a := w.do("POST", path+"/pause", tt.body); a.status != 204 {
			t.Fatalf("pause %s = %d %s", tt.body, a.status, a.body)
		}
		if a := w.do("POST", path+"/pause", tt.body); a.status != 409 || !strings.Contains(a.message(t), "paused already") {
			t.Errorf("second pause = %d %s", a.status, a.body)
		}
		asleep := w.clock()
		w.advance(time.Hour)
		var info sandboxDetail
		w.get(path, &info)
		if info.State != "paused" || info.Sleep != "stored" || info.PauseMode != tt.mode || info.MemoryStoredBytes != tt.stored || info.DiskUsedBytes != fakeDisk || !time.Time(info.EndAt).Equal(asleep) {
			t.Errorf("after pause %s the info is %+v", tt.body, info)
		}
	}
}

func TestPauseRefuses(t *testing.T) {
	w := newWorld(t)
	path := "/sandboxes/" + w.create(`{"templateID":"base"}`).SandboxID
	for _, tt := range []struct {
		path, body, mentions string
		status               int
	}{
		{path, `{"memory":"no"}`, "memory", 400},
		{path, `[]`, "object", 400},
		{path, `{"requireHealthyGuest":true}`, "requireHealthyGuest", 400},
		{"/sandboxes/inothing", ``, "not found", 404},
	} {
		if a := w.do("POST", tt.path+"/pause", tt.body); a.status != tt.status || !strings.Contains(a.message(t), tt.mentions) {
			t.Errorf("pause %s = %d %s, want %d with %q", tt.body, a.status, a.body, tt.status, tt.mentions)
		}
	}
	for _, tt := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("%w: the disk is full", machine.ErrUnavailable), 503}, {fmt.Errorf("%w: it has ended", machine.ErrNotFound), 404},
		{fmt.Errorf("%w: somebody was faster", machine.ErrConflict), 409}, {errors.New("a bug"), 500},
	} {
		w.engine.set(func(f *fakeEngine) { f.failWith = tt.err })
		if a := w.do("POST", path+"/pause", ""); a.status != tt.status || a.message(t) == "" {
			t.Errorf("pause that fails with %q = %d %s", tt.err, a.status, a.body)
		}
	}
}

func TestResumeAndConnect(t *testing.T) {
	w := newWorld(t)
	const left = 100 * time.Second // when it is paused
	day := 24 * time.Hour
	for _, tt := range []struct {
		route, body string
		paused      bool
		status      int
		left        time.Duration // afterwards
		reboot      bool
	}{
		{"/sandboxes/%s/resume", `{}`, true, 201, left, false},
		{"/sandboxes/%s/resume", ``, true, 201, left, false},
		{"/sandboxes/%s/resume", `{"timeout":200,"autoPause":false}`, true, 201, 200 * time.Second, false},
		{"/sandboxes/%s/resume", `{"timeout":0,"memory":false}`, true, 201, left, true},
		{"/sandboxes/%s/resume", `{"timeout":-1}`, true, 400, 0, false},
		{"/sandboxes/%s/resume", `{"timeout":86401}`, true, 400, 0, false},
		{"/sandboxes/%s/resume", `{"autoPause":true}`, true, 400, 0, false},
		{"/sandboxes/%s/resume", `{"timeout":200}`, false, 409, left, false},
		{"/sandboxes/%s/connect", `{"timeout":50}`, true, 201, left, false},
		{"/sandboxes/%s/connect", `{"timeout":50}`, false, 200, left, false},
		{"/sandboxes/%s/connect", `{}`, true, 400, 0, false},
		{"/sandboxes/%s/connect", ``, true, 400, 0, false},
		{"/v2/sandboxes/%s/connect", ``, true, 201, 300 * time.Second, false},
		{"/v2/sandboxes/%s/connect", `{"timeout":0}`, true, 201, left, false},
		{"/v2/sandboxes/%s/connect", `{"timeout":86400,"memory":false}`, true, 201, day, true},
		{"/v2/sandboxes/%s/connect", `{"memory":true}`, true, 201, 300 * time.Second, false},
		{"/v2/sandboxes/%s/connect", `{"memory":false}`, false, 200, 300 * time.Second, false},
		{"/v2/sandboxes/%s/connect", `{"memory":1}`, true, 400, 0, false},
		{"/v2/sandboxes/%s/connect", `{"timeout":1e9}`, true, 400, 0, false},
	} {
		s := w.create(`{"templateID":"base","timeout":100}`)
		if tt.paused {
			w.do("POST", "/sandboxes/"+s.SandboxID+"/pause", "")
			w.advance(time.Hour)
		}
		w.engine.set(func(f *fakeEngine) { f.resumes = nil })
		a := w.do("POST", fmt.Sprintf(tt.route, s.SandboxID), tt.body)
		m, _ := w.engine.Get(s.SandboxID)
		if a.status != tt.status || m.Paused != (tt.paused && tt.status != 201) {
			t.Errorf("%s %s (paused: %v) = %d %s, want %d", tt.route, tt.body, tt.paused, a.status, a.body, tt.status)
		}
		if a.status < 300 && !strings.Contains(string(a.body), s.EnvdAccessToken) {
			t.Errorf("%s answers %s without the token", tt.route, a.body)
		}
		if tt.left > 0 && m.Deadline.Sub(w.clock()) != tt.left {
			t.Errorf("%s %s leaves %v, want %v", tt.route, tt.body, m.Deadline.Sub(w.clock()), tt.left)
		}
		if r := w.engine.resumes; a.status == 201 && (len(r) != 1 || r[0].Reboot != tt.reboot || r[0].MaxConcurrent != 100) {
			t.Errorf("%s %s asked the engine %+v", tt.route, tt.body, r)
		}
	}
}

// Others may pause or resume a sandbox between the door's look at it and the
// engine's.
func TestConnectRaces(t *testing.T) {
	w := newWorld(t)
	id := w.create(`{"templateID":"base","timeout":100}`).SandboxID
	w.do("POST", "/sandboxes/"+id+"/pause", "")
	w.engine.set(func(f *fakeEngine) {
		f.resumeHit = func(m *machine.Machine) { m.Paused, m.State, m.Deadline = false, machine.Running, f.now() }
	})
	a := w.do("POST", "/v2/sandboxes/"+id+"/connect", "")
	if m, _ := w.engine.Get(id); a.status != 200 || m.Deadline.Sub(w.clock()) != 300*time.Second {
		t.Errorf("connect to one that somebody else resumed = %d with %v left", a.status, m.Deadline.Sub(w.clock()))
	}
	w.do("POST", "/sandboxes/"+id+"/pause", "")
	if a := w.do("POST", "/sandboxes/"+id+"/resume", "{}"); a.status != 409 {
		t.Errorf("resume of one that somebody else resumed = %d", a.status)
	}
}

func TestResumeFails(t *testing.T) {
	w := newWorld(t)
	id := w.create(`{"templateID":"base"}`).SandboxID
	w.do("POST", "/sandboxes/"+id+"/pause", "")
	for _, tt := range []struct {
		err      error
		status   int
		mentions []string
	}{
		{fmt.Errorf("%w: the memory of it has changed on the disk", machine.ErrDamaged), 409, []string{"has changed", `onResume "reboot"`, `on_resume="reboot"`, `"memory": false`}},
		{fmt.Errorf("%w: the memory needs a processor with AVX", machine.ErrIncompatible), 409, []string{"AVX", `onResume "reboot"`}},
		{fmt.Errorf("%w: shutting down", machine.ErrUnavailable), 503, []string{"shutting down"}},
		{errors.New("a bug"), 500, []string{"log"}},
	} {
		w.engine.set(func(f *fakeEngine) { f.wakeWith = tt.err })
		for _, route := range []string{"/v2/sandboxes/" + id + "/connect", "/sandboxes/" + id + "/resume"} {
			a := w.do("POST", route, "{}")
			for _, s := range tt.mentions {
				if a.status != tt.status || !strings.Contains(a.message(t), s) {
					t.Errorf("POST %s with %q = %d %s, want %d with %s", route, tt.err, a.status, a.body, tt.status, s)
				}
			}
		}
	}
	if a := w.do("POST", "/v2/sandboxes/"+id+"/connect", `{"memory":false}`); a.status != 201 {
		t.Errorf("connect without memory = %d %s", a.status, a.body)
	}
}

func TestPausedDoNotCountAgainstTheLimit(t *testing.T) {
	w := newWorld(t)
	w.accounts.SetMaxConcurrent(t.Context(), w.team, 1)
	id := w.create(`{"templateID":"base"}`).SandboxID
	w.do("POST", "/sandboxes/"+id+"/pause", "")
	other := w.create(`{"templateID":"base"}`).SandboxID
	connect := "/v2/sandboxes/" + id + "/connect"
	if a := w.do("POST", connect, ""); a.status != 429 || !strings.Contains(a.message(t), "limit is 1") {
		t.Errorf("connect over the limit = %d %s", a.status, a.body)
	}
	w.do("DELETE", "/sandboxes/"+other, "")
	w.accounts.SetMaxConcurrent(t.Context(), w.team, 0)
	for _, path := range []string{connect, "/sandboxes/" + id + "/resume"} {
		if a := w.do("POST", path, "{}"); a.status != 429 {
			t.Errorf("POST %s with a limit of 0 = %d %s", path, a.status, a.body)
		}
	}
	w.accounts.SetMaxConcurrent(t.Context(), w.team, 1)
	if a := w.do("POST", connect, ""); a.status != 201 {
		t.Errorf("connect within the limit = %d %s", a.status, a.body)
	}
}

func TestWhatAPausedSandboxAnswers(t *testing.T) {
	w := newWorld(t)
	id := w.create(`{"templateID":"base"}`).SandboxID
	w.engine.samples = []machine.Sample{{Time: w.clock(), MemUsed: 7, DiskUsed: 9}}
	w.engine.logs = []machine.LogEntry{{Message: "hello"}}
	if a := w.do("GET", "/sandboxes/"+id, ""); !strings.Contains(string(a.body), `"diskUsedBytes":9`) {
		t.Errorf("info = %s", a.body)
	}
	w.do("POST", "/sandboxes/"+id+"/pause", "")
	w.advance(24 * time.Hour)
	for _, tt := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/timeout", `{"timeout":10}`, 404}, {"POST", "/refreshes", ``, 404}, {"PUT", "/network", `{}`, 409},
		{"POST", "/fork", ``, 409}, {"POST", "/snapshots", `{}`, 404},
	} {
		if a := w.do(tt.method, "/sandboxes/"+id+tt.path, tt.body); a.status != tt.want || !strings.Contains(a.message(t), "is paused: resume it first") {
			t.Errorf("%s %s = %d %s", tt.method, tt.path, a.status, a.body)
		}
	}
	for path, want := range map[string]string{
		"/sandboxes/" + id + "/metrics":        `"memUsed":7`,
		"/sandboxes/metrics?sandbox_ids=" + id: `"memUsed":7`,
		"/v2/sandboxes/" + id + "/logs":        "hello",
	} {
		if a := w.do("GET", path, ""); a.status != 200 || !strings.Contains(string(a.body), want) {
			t.Errorf("GET %s = %d %s, want %s", path, a.status, a.body, want)
		}
	}
	if a := w.do("DELETE", "/sandboxes/"+id, ""); a.status != 204 {
		t.Errorf("kill = %d %s", a.status, a.body)
	}
}

// What the engine puts to sleep by itself is running for clients.
func TestSleepersAreRunning(t *testing.T) {
	w := newWorld(t)
	for _, state := range []machine.State{machine.Frozen, machine.Stored} {
		id := w.create(`{"templateID":"base"}`).SandboxID
		w.engine.doze(id, state)
		var info sandboxDetail
		w.get("/sandboxes/"+id, &info)
		if info.State != "running" || info.Sleep != string(state) || info.PauseMode != "" || !time.Time(info.EndAt).After(w.clock()) {
			t.Errorf("a %s sandbox is shown as %+v", state, info)
		}
		for _, tt := range []struct {
			method, path, body string
			want               int
		}{
			{"POST", "/v2/sandboxes/" + id + "/connect", ``, 200}, {"POST", "/sandboxes/" + id + "/resume", `{}`, 409},
			{"POST", "/sandboxes/" + id + "/timeout", `{"timeout":100}`, 204}, {"POST", "/sandboxes/" + id + "/refreshes", ``, 204},
			{"PUT", "/sandboxes/" + id + "/network", `{}`, 204}, {"POST", "/sandboxes/" + id + "/fork", ``, 201},
			{"POST", "/sandboxes/" + id + "/snapshots", `{}`, 201}, {"POST", "/sandboxes/" + id + "/pause", ``, 204},
		} {
			if a := w.do(tt.method, tt.path, tt.body); a.status != tt.want {
				t.Errorf("%s %s of a %s sandbox = %d %s, want %d", tt.method, tt.path, state, a.status, a.body, tt.want)
			}
		}
		if len(w.engine.resumes) != 0 {
			t.Error("a connect woke a sandbox that sleeps by itself")
		}
	}
}

func TestCountsLeaveOutPaused(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		id := w.create(`{"templateID":"base"}`).SandboxID
		if i == 0 {
			w.do("POST", "/sandboxes/"+id+"/pause", "")
		}
		if i == 1 {
			w.engine.doze(id, machine.Frozen)
		}
	}
	if a := w.do("GET", "/admin/sandboxes/running-counts", "", "X-Admin-Token", w.admin); string(a.body) != `{"`+w.team+`":2}` {
		t.Errorf("counts = %s", a.body)
	}
	var points []struct{ ConcurrentSandboxes int }
	if w.get("/teams/"+w.team+"/metrics", &points); points[len(points)-1].ConcurrentSandboxes != 2 {
		t.Errorf("team metrics %+v", points)
	}
	if a := w.do("POST", "/admin/teams/"+w.team+"/sandboxes/kill", "", "X-Admin-Token", w.admin); string(a.body) != `{"failedCount":0,"killedCount":3}` {
		t.Errorf("kill of all = %s", a.body)
	}
}

func TestIdempotencyKeyOfPausedAndForked(t *testing.T) {
	w := newWorld(t)
	create := func() string {
		a := w.do("POST", "/v2/sandboxes", `{"templateID":"base"}`, "Idempotency-Key", "k")
		return strings.Split(string(a.body), `"`)[3]
	}
	id := create()
	w.do("POST", "/sandboxes/"+id+"/fork", "")
	w.do("POST", "/sandboxes/"+id+"/pause", "")
	if again := create(); again != id {
		t.Errorf("the key of a paused sandbox gives %s, want %s", again, id)
	}
	w.do("DELETE", "/sandboxes/"+id, "")
	if again := create(); again == id || again[0] != 'i' {
		t.Errorf("the key of a sandbox that ended gives %s, want a new one", again)
	}
}

func TestListStates(t *testing.T) {
	w := newWorld(t)
	for i := range 6 {
		id := w.create(fmt.Sprintf(`{"templateID":"base","metadata":{"n":"%d"}}`, i)).SandboxID
		if i%2 == 0 {
			w.do("POST", "/sandboxes/"+id+"/pause", "")
		}
		w.advance(time.Second)
	}
	for _, tt := range []struct{ query, want, running, paused string }{
		{"", "5 4 3 2 1 0", "3", "3"}, {"state=running", "5 3 1", "3", ""}, {"state=paused", "4 2 0", "", "3"},
		{"state=paused,running&order=asc", "0 1 2 3 4 5", "3", "3"}, {"state=paused&metadata=n%3D2", "2", "", "1"},
		{"limit=2", "5 4", "3", "3"},
	} {
		var got []listedSandbox
		a := w.listInto("/v2/sandboxes?"+tt.query, &got)
		if numbers(got) != tt.want || a.header.Get("X-Total-Running") != tt.running || a.header.Get("X-Total-Paused") != tt.paused {
			t.Errorf("?%s lists %q with totals %q and %q", tt.query, numbers(got), a.header.Get("X-Total-Running"), a.header.Get("X-Total-Paused"))
		}
	}
	var got []listedSandbox
	if w.listInto("/sandboxes", &got); numbers(got) != "5 3 1" {
		t.Errorf("the v1 list has %q", numbers(got))
	}
	// A page goes on where it was, even if its last one was paused meanwhile.
	a := w.listInto("/v2/sandboxes?limit=3", &got)
	m := w.engine.machines[3]
	w.do("POST", "/sandboxes/"+m.ID+"/pause", "")
	if w.listInto("/v2/sandboxes?limit=3&nextToken="+a.header.Get("X-Next-Token"), &got); numbers(got) != "2 1 0" {
		t.Errorf("the second page has %q", numbers(got))
	}
}

// BenchmarkListPaused measures a page of 100 out of 1,000 paused sandboxes.
func BenchmarkListPaused(b *testing.B) {
	w := newWorld(b)
	start := w.clock()
	for i := range 1000 {
		at := start.Add(time.Duration(i) * time.Second)
		w.engine.machines = append(w.engine.machines, machine.Machine{
			ID: fmt.Sprintf("i%019d", i), Team: w.team, TemplateID: "base", Alias: "base", State: machine.Stored, Paused: true,
			CreatedAt: at, StartedAt: at, AsleepSince: at, Image: &machine.Image{Bytes: fakeImage},
			Metadata: map[string]string{"user": "ann", "n": fmt.Sprint(i)},
		})
	}
	for name, query := range map[string]string{
		"first": "state=paused", "filtered": "metadata=user%3Dann%26n%3D5",
		"last": "nextToken=" + cursor{at: start.Add(100 * time.Second), id: "i"}.String(),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("GET", "/v2/sandboxes?"+query, nil)
				r.Header.Set("X-API-Key", w.key)
				rec := httptest.NewRecorder()
				if w.door.ServeHTTP(rec, r); rec.Code != 200 {
					b.Fatalf("%d %s", rec.Code, rec.Body)
				}
			}
		})
	}
}
