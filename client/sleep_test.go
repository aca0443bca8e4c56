package client_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/client/doortest"
)

func TestPauseAndResume(t *testing.T) {
	d := doortest.New(t, "")
	d.Add(client.Sandbox{SandboxID: "i1", EnvdAccessToken: doortest.GuestToken})
	c, ctx := d.Client(t), t.Context()
	if _, woken, err := c.Resume(ctx, "i1", client.ResumeOptions{}); err != nil || woken {
		t.Errorf("of one that runs: woken %v, %v", woken, err)
	}
	if err := c.Pause(ctx, "i1", true); err != nil {
		t.Fatal(err)
	}
	if err := c.Pause(ctx, "i1", true); client.Status(err) != http.StatusConflict {
		t.Errorf("the second pause: %v", err)
	}
	s, err := c.Get(ctx, "i1")
	if err != nil || s.State != client.StatePaused || s.Sleep != client.SleepStored || s.MemoryStoredBytes == 0 {
		t.Errorf("paused it is %+v, %v", s, err)
	}
	for state, want := range map[string]int{client.StatePaused: 1, client.StateRunning: 0} {
		if all, err := c.List(ctx, client.ListFilter{States: []string{state}}); err != nil || len(all) != want {
			t.Errorf("%d are %s, %v", len(all), state, err)
		}
	}
	hour := time.Hour
	s, woken, err := c.Resume(ctx, "i1", client.ResumeOptions{Timeout: &hour})
	if err != nil || !woken || s.EnvdAccessToken == "" {
		t.Errorf("resume: %+v, woken %v, %v", s, woken, err)
	}
	if s, err = c.Get(ctx, "i1"); err != nil || s.State != client.StateRunning || time.Until(s.EndAt) < 59*time.Minute {
		t.Errorf("resumed it is %+v, %v", s, err)
	}
	if err := c.Pause(ctx, "nobody", false); !client.IsNotFound(err) {
		t.Errorf("pause of nobody: %v", err)
	}
}

// What is asked for must arrive in E2B's words.
func TestSleepRequestsAsTheyAreSent(t *testing.T) {
	var sent string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sent = r.Method + " " + r.URL.RequestURI() + " " + string(body)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, map[bool]string{true: "[]", false: "{}"}[strings.HasSuffix(r.URL.Path, "/fork") || r.Method == "GET"])
	}))
	defer s.Close()
	c, err := client.New(client.Config{APIURL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, zero, odd := t.Context(), time.Duration(0), 1500*time.Millisecond
	for _, tc := range []struct {
		do   func() error
		want string
	}{
		{func() error { return c.Pause(ctx, "i", true) }, `POST /sandboxes/i/pause {"memory":true}`},
		{func() error { return c.Pause(ctx, "i", false) }, `POST /sandboxes/i/pause {"memory":false}`},
		{func() error { _, _, err := c.Resume(ctx, "i", client.ResumeOptions{}); return err }, `POST /v2/sandboxes/i/connect {}`},
		{func() error {
			_, _, err := c.Resume(ctx, "i", client.ResumeOptions{Timeout: &zero, Reboot: true})
			return err
		}, `POST /v2/sandboxes/i/connect {"timeout":0,"memory":false}`},
		{func() error { _, err := c.Fork(ctx, "i", 3, odd); return err }, `POST /sandboxes/i/fork {"count":3,"timeout":2}`},
		{func() error { _, err := c.Snapshot(ctx, "i", ""); return err }, `POST /sandboxes/i/snapshots {}`},
		{func() error { _, err := c.Snapshot(ctx, "i", "n"); return err }, `POST /sandboxes/i/snapshots {"name":"n"}`},
		{func() error {
			_, err := c.Snapshots(ctx, client.SnapshotFilter{SandboxID: "i", Name: "a/b:c"})
			return err
		}, `GET /snapshots?limit=100&name=a%2Fb%3Ac&sandboxID=i `},
		{func() error { return c.DeleteSnapshot(ctx, "a/b:c") }, `DELETE /templates/a%2Fb:c `},
		{func() error {
			_, err := c.Create(ctx, client.NewSandbox{TemplateID: "base", AutoPause: true, AutoPauseMemory: new(bool), AutoResume: &client.AutoResume{Enabled: true}})
			return err
		}, `POST /sandboxes {"templateID":"base","autoPause":true,"autoPauseMemory":false,"autoResume":{"enabled":true}}`},
	} {
		if err := tc.do(); err != nil || sent != tc.want {
			t.Errorf("sent %s, %v; want %s", sent, err, tc.want)
		}
	}
}

func TestForkTellsOfEachCopy(t *testing.T) {
	d := doortest.New(t, "")
	d.MaxSandboxes = 3
	d.Add(client.Sandbox{SandboxID: "i1", EnvdAccessToken: doortest.GuestToken})
	c, ctx := d.Client(t), t.Context()
	all, err := c.Fork(ctx, "i1", 3, time.Minute)
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	if all[0].Sandbox == nil || all[0].Sandbox.EnvdAccessToken == "" || all[0].Sandbox.SandboxID == all[1].Sandbox.SandboxID {
		t.Errorf("the first two are %+v and %+v", all[0], all[1])
	}
	if all[2].Sandbox != nil || client.Status(all[2].Error) != http.StatusTooManyRequests || all[2].Error.Error() == "" {
		t.Errorf("beyond the limit: %+v", all[2])
	}
	if b, err := json.Marshal(all[2]); err != nil || !strings.Contains(string(b), `"code":429`) {
		t.Errorf("as JSON: %s, %v", b, err)
	}
	if _, err := c.Fork(ctx, "nobody", 1, time.Minute); !client.IsNotFound(err) {
		t.Errorf("of nobody: %v", err)
	}
}

func TestForkRefusesHalfAnAnswer(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `[{"sandbox":{"sandboxID":"f1"}},{}]`)
	}))
	defer s.Close()
	c, err := client.New(client.Config{APIURL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := c.Fork(t.Context(), "i", 2, 0); err == nil {
		t.Errorf("got %+v", all)
	}
}

func TestSnapshots(t *testing.T) {
	d := doortest.New(t, "")
	d.PageSize = 2
	d.Add(client.Sandbox{SandboxID: "i1"})
	d.Add(client.Sandbox{SandboxID: "i2"})
	c, ctx := d.Client(t), t.Context()
	for n := range 5 {
		if _, err := c.Snapshot(ctx, fmt.Sprintf("i%d", n%2+1), ""); err != nil {
			t.Fatal(err)
		}
	}
	named, err := c.Snapshot(ctx, "i1", "ready")
	if err != nil || len(named.Names) != 1 || named.SandboxID != "i1" || named.MemoryStoredBytes == 0 {
		t.Fatalf("%+v, %v", named, err)
	}
	for _, tc := range []struct {
		filter client.SnapshotFilter
		want   int
	}{
		{client.SnapshotFilter{}, 6}, {client.SnapshotFilter{SandboxID: "i1"}, 4},
		{client.SnapshotFilter{Name: "ready"}, 1}, {client.SnapshotFilter{SandboxID: "i2", Name: "ready"}, 0},
	} {
		if all, err := c.Snapshots(ctx, tc.filter); err != nil || len(all) != tc.want {
			t.Errorf("%+v: %d snapshots, %v; want %d", tc.filter, len(all), err, tc.want)
		}
	}
	if s, err := c.Create(ctx, client.NewSandbox{TemplateID: named.SnapshotID}); err != nil {
		t.Errorf("create from it: %+v, %v", s, err)
	}
	if err := c.DeleteSnapshot(ctx, named.SnapshotID); err != nil {
		t.Error(err)
	}
	if err := c.DeleteSnapshot(ctx, named.SnapshotID); !client.IsNotFound(err) {
		t.Errorf("the second time: %v", err)
	}
}
