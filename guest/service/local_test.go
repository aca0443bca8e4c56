package service

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/atoll-cloud/atoll/wire"
)

func TestSocket(t *testing.T) {
	w := newWorld(t)
	info, err := os.Stat(filepath.Join(w.root, ".sprite/api.sock"))
	if err != nil || info.Mode().Perm() != 0o666 {
		t.Error(info, err)
	}
	if status, text := w.asks("PUT", "/v1/services/web?duration=0", `{"cmd":"sleep","args":["1000"]}`); status != 200 || !strings.Contains(text, "started") {
		t.Error(status, text)
	}
	for _, path := range []string{"/v1/services/web", "/services/web"} {
		if status, text := w.asks("GET", path, ""); status != 200 || !strings.Contains(text, `"http_port":null`) {
			t.Error(path, status, text)
		}
	}
	if status, _ := w.asks("GET", "/v1/nothing", ""); status != 404 {
		t.Error(status)
	}
	if target, err := os.Readlink(filepath.Join(w.root, ".sprite/bin/sprite-env")); err != nil || !filepath.IsAbs(target) {
		t.Error(target, err)
	}
	// A daemon that starts anew finds the socket of the former one.
	w.crash()
	w.boot(&wire.SpriteInit{Name: "test"}, defaultPauses)
	if status, _ := w.asks("GET", "/v1/services", ""); status != 200 {
		t.Error(status)
	}
}

func TestTasks(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/tasks", `{"name":"build","expire":"30m"}`, 201},
		{"POST", "/v1/tasks", `{"name":"build","expire":60}`, 409},
		{"POST", "/v1/tasks", `{"name":"other"}`, 201},
		{"PUT", "/v1/tasks/build", `{"expire":"1h"}`, 200},
		{"PUT", "/v1/tasks", `{"name":"build","expire":3600}`, 200},
		{"PUT", "/v1/tasks/new", `{"expire":"5 minutes"}`, 200},
		{"POST", "/v1/tasks", `{"name":"long","expire":"61m"}`, 400},
		{"POST", "/v1/tasks", `{"name":"never","expire":0}`, 400},
		{"POST", "/v1/tasks", `{"name":"past","expire":-1}`, 400},
		{"POST", "/v1/tasks", `{"name":"","expire":5}`, 400},
		{"POST", "/v1/tasks", `{"name":"a/b","expire":5}`, 400},
		{"POST", "/v1/tasks", `{"name":"x","expire":{}}`, 400},
		{"POST", "/v1/tasks", ``, 400},
		{"GET", "/v1/tasks/build", "", 200},
		{"GET", "/v1/tasks/none", "", 404},
		{"DELETE", "/v1/tasks/other", "", 204},
		{"DELETE", "/v1/tasks/other", "", 404},
	} {
		if status, text := w.asks(c.method, c.path, c.body); status != c.status {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, status, text)
		}
	}
	_, text := w.asks("GET", "/v1/tasks", "")
	var list struct{ Tasks []task }
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list.Tasks) != 2 || list.Tasks[0].Name != "build" || list.Tasks[0].Expires.Before(list.Tasks[0].Started) {
		t.Error(text, err)
	}
	if _, err := w.server.tasks.hold("short", time.Millisecond, false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a task expires", func() bool { _, err := w.server.tasks.get("short"); return err != nil })
	if status, _ := w.do("GET", "/tasks", ""); status != 404 {
		t.Error("tasks are the machine's own:", status)
	}
}

// dial connects as the host does, and serves calls until it is closed.
func (w *world) dial(handler http.Handler) net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.host.URL, "http://"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: guest\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", wire.CallsPath, wire.CallsProtocol)
	read := bufio.NewReaderSize(conn, 16)
	answer, err := http.ReadResponse(read, nil)
	if err != nil || answer.StatusCode != 101 {
		w.t.Fatal(answer, err)
	}
	go new(http2.Server).ServeConn(&readAhead{conn, read}, &http2.ServeConnOpts{Handler: handler})
	return conn
}

type readAhead struct {
	net.Conn
	read *bufio.Reader
}

func (c *readAhead) Read(p []byte) (int, error) { return c.read.Read(p) }

func TestCalls(t *testing.T) {
	w := newWorld(t)
	w.server.calls.patience = 20 * time.Millisecond
	if status, text := w.asks("GET", "/info", ""); status != 503 || !strings.Contains(text, "not connected") {
		t.Error("with no host:", status, text)
	}
	w.server.calls.patience = 10 * time.Second
	waiting := make(chan string, 1)
	go func() {
		status, text := w.asks("GET", "/info", "")
		waiting <- fmt.Sprint(status, text)
	}()
	step := make(chan struct{})
	host := http.NewServeMux()
	host.HandleFunc("GET /info", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "first") })
	host.HandleFunc("POST /checkpoint", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
		w.(http.Flusher).Flush()
		<-step
		io.WriteString(w, " done")
	})
	host.HandleFunc("POST /checkpoints/{id}/restore", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, r.PathValue("id"))
	})
	w.dial(host)
	if got := <-waiting; got != "200first" {
		t.Error("a call that waited:", got)
	}
	r, _ := http.NewRequestWithContext(context.Background(), "POST", "http://sprite/v1/checkpoint", strings.NewReader(`{"comment":"c"}`))
	answer, err := w.local.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	begun := make([]byte, 15)
	if _, err := io.ReadFull(answer.Body, begun); err != nil || string(begun) != `{"comment":"c"}` {
		t.Errorf("what comes is not passed on at once: %q, %v", begun, err)
	}
	close(step)
	if text, err := io.ReadAll(answer.Body); err != nil || string(text) != " done" {
		t.Error(string(text), err)
	}
	if status, text := w.asks("POST", "/v1/checkpoints/v3/restore", ""); status != 202 || text != "v3" {
		t.Error(status, text)
	}
	if status, _ := w.asks("GET", "/v1/orgs/mine/sprites", ""); status != 404 {
		t.Error("the host's answers are passed on:", status)
	}
	// A new connection replaces the former; a broken one is none.
	second := w.dial(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "second") }))
	eventually(t, "the new connection is used", func() bool {
		_, text := w.asks("GET", "/v1/info", "")
		return text == "second"
	})
	second.Close()
	eventually(t, "the end of the connection is seen", func() bool { return !w.server.calls.isConnected() })
	w.server.calls.patience = time.Millisecond
	if status, _ := w.asks("GET", "/policy/network", ""); status != 503 {
		t.Error(status)
	}
	if status, text := w.ask(w.host.Client(), w.host.URL+wire.CallsPath, "GET", ""); status != 426 {
		t.Error("no upgrade:", status, text)
	}
}

// What a sprite asks of its organisation's API is the host's to judge.
func TestOrganisationIsPassedOn(t *testing.T) {
	w := newWorld(t)
	w.dial(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, r.Method, " ", r.URL.RequestURI(), " ", n, " ", err, " ", r.Header.Get(wire.CallUpgradeHeader))
	}))
	for _, c := range []struct{ method, path, body, want string }{
		{"GET", "/v1/orgs/mine/sprites?prefix=a%2Fb", "", "GET /orgs/mine/sprites?prefix=a%2Fb 0 <nil> "},
		{"POST", "/orgs/mine/sprites/a%2Fb/exec?cmd=ls", "in", "POST /orgs/mine/sprites/a%2Fb/exec?cmd=ls 2 <nil> "},
		{"PUT", "/v1/orgs/mine/sprites/a/fs/write?path=/x", strings.Repeat("x", 3<<20), "PUT /orgs/mine/sprites/a/fs/write?path=/x 3145728 <nil> "},
	} {
		if status, text := w.asks(c.method, c.path, c.body); status != 200 || text != c.want {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, text)
		}
	}
	r, _ := http.NewRequest("GET", "http://sprite/v1/orgs/mine/sprites/a/exec?cmd=ls", nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	answer, err := w.local.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != 200 || !strings.HasSuffix(string(text), " 1") {
		t.Errorf("a WebSocket: %d %s, %v", answer.StatusCode, text, err)
	}
}

func TestActivityIsReported(t *testing.T) {
	w := newWorld(t)
	w.server.activity.pause = 20 * time.Millisecond
	var mu sync.Mutex
	var reports []time.Time
	host := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.CallPolicy {
			return
		}
		var in wire.Activity
		err := json.NewDecoder(r.Body).Decode(&in)
		until, err2 := time.Parse(time.RFC3339, in.Until)
		if r.Method != http.MethodPut || r.URL.Path != wire.CallActivity || err != nil || err2 != nil {
			t.Error(r.Method, r.URL, err, err2)
		}
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, until)
	})
	// says waits for one more report, and checks that it tells of a time so long
	// after the deed that it follows.
	seen := 0
	says := func(what string, lasts time.Duration, deed func()) {
		t.Helper()
		before := time.Now().Truncate(time.Millisecond)
		deed()
		eventually(t, "a report of "+what, func() bool { mu.Lock(); defer mu.Unlock(); return len(reports) > seen })
		mu.Lock()
		defer mu.Unlock()
		seen = len(reports)
		if until := reports[seen-1]; until.Before(before.Add(lasts)) || until.After(time.Now().Add(lasts+time.Millisecond)) {
			t.Error(what, "holds for", until.Sub(before))
		}
	}
	says("what held before the host came", 10*time.Minute, func() {
		w.asks("POST", "/v1/tasks", `{"name":"before","expire":"10m"}`)
		w.dial(host)
	})
	says("a task that is refreshed", 20*time.Minute, func() { w.asks("PUT", "/v1/tasks/before", `{"expire":"20m"}`) })
	says("the end of the last task", 0, func() { w.asks("DELETE", "/v1/tasks/before", "") })
	start := time.Now()
	says("a touch", touchLasts, w.server.Touch)
	for range 10_000 {
		w.server.Touch()
	}
	eventually(t, "no report is planned", func() bool {
		w.server.activity.mu.Lock()
		defer w.server.activity.mu.Unlock()
		return !w.server.activity.planned
	})
	mu.Lock()
	defer mu.Unlock()
	if more := len(reports) - seen; more > int(time.Since(start)/(20*time.Millisecond))+1 {
		t.Error("too many reports:", more)
	}
}

// A sprite that is given a task the moment its host has connected says so at
// once, or it might be asleep by then.
func TestFirstTaskIsReportedAtOnce(t *testing.T) {
	w := newWorld(t)
	w.server.activity.pause = time.Hour
	reported := make(chan struct{}, 8)
	w.dial(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.CallActivity {
			reported <- struct{}{}
		}
	}))
	eventually(t, "the host is connected, and had nothing to hear", func() bool {
		w.server.activity.mu.Lock()
		defer w.server.activity.mu.Unlock()
		return w.server.calls.isConnected() && !w.server.activity.planned
	})
	w.asks("POST", "/v1/tasks", `{"name":"first"}`)
	select {
	case <-reported:
	case <-time.After(20 * time.Second):
		t.Fatal("the task was not reported")
	}
}

func TestPolicyIsUpToDate(t *testing.T) {
	w := newWorld(t)
	is := func(want string) func() bool {
		return func() bool {
			data, _ := os.ReadFile(filepath.Join(w.root, ".sprite/policy/network.json"))
			return string(data) == want
		}
	}
	w.server.Begin(&wire.SpriteInit{Policy: `{"rules":[]}`})
	if !is("{\"rules\":[]}\n")() {
		t.Error("what init says is not there")
	}
	w.dial(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"rules":[1]}`) }))
	eventually(t, "the host is asked when it connects", is("{\"rules\":[1]}\n"))
	if status, _ := w.do("PUT", "/policy/network", `{"rules":[2]}`); status != 204 || !is("{\"rules\":[2]}\n")() {
		t.Error("a change:", status)
	}
	if status, _ := w.do("PUT", "/policy/network", `{`); status == 204 || !is("{\"rules\":[2]}\n")() {
		t.Error("rubbish:", status)
	}
	if status, _ := w.asks("PUT", "/policy/network", `{}`); status == 204 || !is("{\"rules\":[2]}\n")() {
		t.Error("the sprite itself:", status)
	}
}
