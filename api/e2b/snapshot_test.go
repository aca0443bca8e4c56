package e2b

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/machine"
)

func TestFork(t *testing.T) {
	w := newWorld(t)
	s := w.create(`{"templateID":"base","metadata":{"user":"ann"}}`)
	path := "/sandboxes/" + s.SandboxID + "/fork"
	fork := func(body string) (out []forkResult) {
		t.Helper()
		a := w.do("POST", path, body)
		if err := json.Unmarshal(a.body, &out); a.status != 201 || err != nil {
			t.Fatalf("fork %s = %d %s", body, a.status, a.body)
		}
		return out
	}
	for body, want := range map[string]struct {
		count int
		left  time.Duration
	}{
		``: {1, 15 * time.Second}, `{}`: {1, 15 * time.Second}, `{"count":3,"timeout":60}`: {3, time.Minute},
	} {
		out := fork(body)
		if len(out) != want.count {
			t.Errorf("fork %s makes %d", body, len(out))
		}
		for _, one := range out {
			m, err := w.engine.Get(one.Sandbox.SandboxID)
			if err != nil || one.Error != nil || one.Sandbox.EnvdAccessToken == s.EnvdAccessToken || m.Deadline.Sub(w.clock()) != want.left {
				t.Errorf("fork %s gives %+v with %v left", body, one.Sandbox, m.Deadline.Sub(w.clock()))
			}
		}
	}

	for body, mentions := range map[string]string{
		`{"count":0}`: "1 to 100", `{"count":101}`: "1 to 100", `{"count":-1}`: "1 to 100", `{"count":1.5}`: "count", `{"count":"2"}`: "count",
		`{"timeout":0}`: "timeout", `{"timeout":86401}`: "timeout", `[]`: "object",
	} {
		if a := w.do("POST", path, body); a.status != 400 || !strings.Contains(a.message(t), mentions) {
			t.Errorf("fork %s = %d %s, want 400 with %q", body, a.status, a.body, mentions)
		}
	}
	if a := w.do("POST", "/sandboxes/inothing/fork", ""); a.status != 404 {
		t.Errorf("fork of nothing = %d", a.status)
	}

	w.accounts.SetMaxConcurrent(t.Context(), w.team, 7) // 6 run
	if out := fork(`{"count":3}`); out[0].Sandbox == nil || out[1].Error == nil || out[1].Error.Code != 429 || !strings.Contains(out[2].Error.Message, "limit is 7") {
		t.Errorf("fork over the limit gives %+v", out)
	}
	w.accounts.SetMaxConcurrent(t.Context(), w.team, 0)
	if a := w.do("POST", path, ""); a.status != 429 {
		t.Errorf("fork with a limit of 0 = %d", a.status)
	}
	w.accounts.SetMaxConcurrent(t.Context(), w.team, 100)
	w.engine.set(func(f *fakeEngine) { f.forkWith = errors.New("open /secret: no") })
	if out := fork(``); out[0].Sandbox != nil || out[0].Error.Code != 500 || strings.Contains(out[0].Error.Message, "secret") || out[0].Error.Message == "" {
		t.Errorf("a copy that fails gives %+v", out[0].Error)
	}
	w.engine.set(func(f *fakeEngine) { f.failWith = fmt.Errorf("%w: busy", machine.ErrUnavailable) })
	if a := w.do("POST", path, ""); a.status != 503 {
		t.Errorf("a fork that fails = %d", a.status)
	}
}

func TestSnapshots(t *testing.T) {
	w := newWorld(t)
	id := w.create(`{"templateID":"base"}`).SandboxID
	take := func(sandbox, body string) (s snapshotInfo) {
		t.Helper()
		a := w.do("POST", "/sandboxes/"+sandbox+"/snapshots", body)
		if err := json.Unmarshal(a.body, &s); a.status != 201 || err != nil {
			t.Fatalf("snapshot %s = %d %s", body, a.status, a.body)
		}
		return s
	}
	plain := take(id, `{}`)
	if plain.SnapshotID != "snap1:default" || plain.Names == nil || len(plain.Names) != 0 {
		t.Errorf("a snapshot without a name is %+v", plain)
	}
	if plain.SandboxID != id || plain.MemoryStoredBytes != fakeImage || plain.DiskUsedBytes != fakeDisk || time.Time(plain.CreatedAt).IsZero() {
		t.Errorf("a snapshot does not tell where it is from and what it takes: %+v", plain)
	}
	named := take(id, `{"name":"my-snap_1"}`)
	if named.SnapshotID != "default/my-snap_1:default" || !slices.Equal(named.Names, []string{"default/my-snap_1:default"}) {
		t.Errorf("a snapshot with a name is %+v", named)
	}
	again := take(id, `{"name":"default/my-snap_1:default","memory":true}`) // it is the same one, new
	other := w.create(`{"templateID":"base"}`).SandboxID
	take(other, ``)

	// Every way to write it starts a sandbox.
	for ref, want := range map[string]string{
		plain.SnapshotID: "snap1", "snap1": "snap1", again.SnapshotID: "snap2", "my-snap_1": "snap2", "default/my-snap_1": "snap2",
		"my-snap_1:latest": "snap2", "snap2:default": "snap2",
	} {
		if s := w.create(fmt.Sprintf(`{"templateID":%q}`, ref)); s.TemplateID != want {
			t.Errorf("create from %s made one of %s, want %s", ref, s.TemplateID, want)
		}
	}
	for _, ref := range []string{"my-snap_1:v2", "other/my-snap_1", "snap9"} {
		if a := w.do("POST", "/v2/sandboxes", fmt.Sprintf(`{"templateID":%q}`, ref)); a.status != 404 {
			t.Errorf("create from %s = %d", ref, a.status)
		}
	}
	if a := w.do("POST", "/v2/sandboxes", `{"templateID":"snap1"}`, "X-API-Key", w.otherKey); a.status != 404 {
		t.Errorf("another team's create = %d", a.status)
	}

	list := func(query string) string {
		t.Helper()
		var ids []string
		for next := ""; ; {
			var page []snapshotInfo
			a := w.get("/snapshots?limit=2&nextToken="+next+query, &page)
			for _, s := range page {
				ids = append(ids, s.SnapshotID)
			}
			if next = a.header.Get("X-Next-Token"); next == "" || len(page) == 0 {
				return strings.Join(ids, " ")
			}
		}
	}
	for query, want := range map[string]string{
		"": "snap4:default default/my-snap_1:default snap1:default", "&sandboxID=" + other: "snap4:default",
		"&sandboxID=" + id + "-" + clientID: "default/my-snap_1:default snap1:default", "&sandboxID=x": "",
		"&name=my-snap_1": "default/my-snap_1:default", "&name=default/my-snap_1:latest": "default/my-snap_1:default",
		"&name=my-snap_1:v2": "", "&name=snap1": "snap1:default", "&name=other/my-snap_1": "",
	} {
		if got := list(query); got != want {
			t.Errorf("snapshots?%s lists %q, want %q", query, got, want)
		}
	}
	if a := w.do("GET", "/snapshots", "", "X-API-Key", w.otherKey); string(a.body) != "[]" {
		t.Errorf("another team lists %s", a.body)
	}
	for _, query := range []string{"limit=0", "limit=101", "limit=x", "nextToken=x"} {
		if a := w.do("GET", "/snapshots?"+query, ""); a.status != 400 {
			t.Errorf("?%s = %d", query, a.status)
		}
	}

	// They are templates, but not in the lists of templates.
	var info templateView
	w.get("/templates/"+url.PathEscape(again.SnapshotID), &info)
	if info.TemplateID != "snap2" || info.Public || !slices.Equal(info.Names, []string{"default/my-snap_1"}) || !slices.Equal(info.Aliases, []string{"my-snap_1"}) {
		t.Errorf("its template is %+v", info)
	}
	if a := w.do("GET", "/v2/templates", ""); strings.Contains(string(a.body), "snap") {
		t.Errorf("the list of templates shows snapshots: %s", a.body)
	}
	if a := w.do("GET", "/templates/aliases/"+url.PathEscape("default/my-snap_1"), ""); a.status != 200 || !strings.Contains(string(a.body), `"public":false`) {
		t.Errorf("its alias = %d %s", a.status, a.body)
	}

	for _, tt := range []struct {
		id, key string
		want    int
	}{
		{again.SnapshotID, w.otherKey, 404}, {again.SnapshotID, w.key, 204}, {again.SnapshotID, w.key, 404},
		{plain.SnapshotID, w.key, 204}, {"snap4", w.key, 204}, {"base", w.key, 403}, {"base:default", w.key, 403},
	} {
		if a := w.do("DELETE", "/templates/"+url.PathEscape(tt.id), "", "X-API-Key", tt.key); a.status != tt.want {
			t.Errorf("delete %s = %d %s, want %d", tt.id, a.status, a.body, tt.want)
		}
	}
}

func TestSnapshotRefuses(t *testing.T) {
	w := newWorld(t)
	path := "/sandboxes/" + w.create(`{"templateID":"base"}`).SandboxID + "/snapshots"
	for name, mentions := range map[string]string{
		"My-Snap": "lower-case", "a b": "lower-case", "-a": "lower-case", "a/b": "lower-case", "../a": "lower-case", "é": "lower-case", "a:v1": "tags",
		strings.Repeat("a", 129): "lower-case", "base": "taken", "default/base": "taken", "default/": "lower-case", ":default": "lower-case",
	} {
		body, _ := json.Marshal(map[string]string{"name": name})
		if a := w.do("POST", path, string(body)); a.status != 400 || !strings.Contains(a.message(t), mentions) {
			t.Errorf("name %q = %d %s, want 400 with %q", name, a.status, a.body, mentions)
		}
	}
	for body, mentions := range map[string]string{`{"name":5}`: "name", `[]`: "object", `{"memory":false}`: "memory"} {
		if a := w.do("POST", path, body); a.status != 400 || !strings.Contains(a.message(t), mentions) {
			t.Errorf("%s = %d %s, want 400 with %q", body, a.status, a.body, mentions)
		}
	}
	if a := w.do("POST", "/sandboxes/inothing/snapshots", `{}`); a.status != 404 {
		t.Errorf("snapshot of nothing = %d", a.status)
	}
	if n := len(w.engine.Snapshots(machine.SnapshotQuery{Team: w.team})); n != 0 {
		t.Errorf("refused requests took %d snapshots", n)
	}
	w.engine.set(func(f *fakeEngine) { f.failWith = fmt.Errorf("%w: the disk is full", machine.ErrUnavailable) })
	if a := w.do("POST", path, `{}`); a.status != 503 {
		t.Errorf("a snapshot that fails = %d", a.status)
	}
}

func TestSlug(t *testing.T) {
	for name, want := range map[string]string{
		"default": "default", "My Team": "my-team", " A&B  c_9 ": "a-b-c-9", "团队": "id", "---": "id",
	} {
		if got := slug(account.Team{ID: "id", Name: name}); got != want {
			t.Errorf("slug of %q is %q, want %q", name, got, want)
		}
	}
}
