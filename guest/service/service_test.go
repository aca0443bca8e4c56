package service

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/wire"
)

func TestServiceLives(t *testing.T) {
	w := newWorld(t)
	if status, text := w.do("GET", "/services", ""); status != 200 || strings.TrimSpace(text) != "[]" {
		t.Error("no services:", status, text)
	}
	got := told(w.events("PUT", "/services/web?duration=30s", sh("echo hello; echo oops >&2; exec sleep 0.2", "")))
	if got != "started; stdout hello; stderr oops; exit 0; " && got != "started; stderr oops; stdout hello; exit 0; " {
		t.Error(got)
	}
	eventually(t, "what ended by itself starts again", func() bool { return w.state("web").Status == "running" })
	w.put("web", "exec sleep 2000", "")
	if got := told(w.put("web", "exec sleep 1000", "")); got != "stopping; exit 143; stopped; started; " {
		t.Error("another command:", got)
	}
	first := w.state("web")
	if first.Status != "running" || first.PID == 0 || first.StartedAt == "" || first.Name != "web" {
		t.Error(first)
	}
	again := w.put("web", "exec sleep 1000", "")
	if told(again) != "started; " || !strings.Contains(again[0].Data, "already runs") || w.state("web").PID != first.PID {
		t.Error("the same command:", again)
	}
	if got := told(w.events("POST", "/services/web/start?duration=0", "")); got != "started; " || w.state("web").PID != first.PID {
		t.Error("start of what runs:", got)
	}
	if got := told(w.events("POST", "/services/web/restart?duration=0s", "")); got != "stopping; exit 143; stopped; started; " || w.state("web").PID == first.PID {
		t.Error("restart:", got)
	}
	if got := told(w.events("POST", "/services/web/stop", "")); got != "stopping; exit 143; stopped; " {
		t.Error("stop:", got)
	}
	if s := w.state("web"); s.Status != "stopped" || s.PID != 0 || s.StartedAt != "" {
		t.Error(s)
	}
	if status, _ := w.do("POST", "/services/web/stop", ""); status != 409 {
		t.Error("stop of what is stopped:", status)
	}
	if status, text := w.do("DELETE", "/services/web", ""); status != 204 || text != "" {
		t.Error("delete:", status, text)
	}
	if status, _ := w.do("GET", "/services/web", ""); status != 404 {
		t.Error("after delete:", status)
	}
	if data, err := os.ReadFile(filepath.Join(w.root, ".sprite/logs/services/web.log")); err != nil || !strings.Contains(string(data), "Z [stderr] oops\n") {
		t.Errorf("the log: %q, %v", data, err)
	}
	if data, err := os.ReadFile(filepath.Join(w.root, ".sprite/logs/services/web.stdout.log")); err != nil || !strings.HasPrefix(string(data), "hello\n") {
		t.Errorf("the log of the output: %q, %v", data, err)
	}
}

func TestRequestsThatCannotBeMeant(t *testing.T) {
	w := newWorld(t)
	w.put("db", "exec sleep 1000", "")
	w.put("web", "exec sleep 1000", `,"needs":["db"],"http_port":3000`)
	w.put("idle", "exec sleep 1000", "")
	w.events("POST", "/services/idle/stop", "")
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/services/none", "", 404, "no such service"},
		{"POST", "/services/none/start", "", 404, "none"},
		{"POST", "/services/none/stop", "", 404, ""},
		{"POST", "/services/none/restart", "", 404, ""},
		{"GET", "/services/none/logs", "", 404, ""},
		{"DELETE", "/services/none", "", 404, ""},
		{"DELETE", "/services/db", "", 409, "web"},
		{"PUT", "/services/x", "", 400, "decode"},
		{"PUT", "/services/x", "{", 400, "decode"},
		{"PUT", "/services/x", "{}", 400, "cmd"},
		{"PUT", "/services/x", `{"cmd":"a"}{}`, 400, "behind"},
		{"PUT", "/services/x", `{"cmd":"a","args":"b"}`, 400, "args"},
		{"PUT", "/services/x", `{"cmd":"a","http_port":70000}`, 400, "65535"},
		{"PUT", "/services/x", `{"cmd":"a","env":{"A=B":"c"}}`, 400, "environment"},
		{"PUT", "/services/x", `{"cmd":"a","needs":["nobody"]}`, 400, "nobody"},
		{"PUT", "/services/x", `{"cmd":"a","needs":["x"]}`, 400, "x → x"},
		{"PUT", "/services/db", `{"cmd":"a","needs":["web"]}`, 400, "db → web → db"},
		{"PUT", "/services/x", `{"cmd":"a","http_port":3001}`, 409, "web"},
		{"PUT", "/services/x?duration=soon", `{"cmd":"a"}`, 400, "duration"},
		{"PUT", "/services/..%2Fx", `{"cmd":"a"}`, 400, "name"},
		{"PUT", "/services/web.stdout", `{"cmd":"a"}`, 400, "log files"},
		{"PUT", "/services/" + strings.Repeat("x", 101), `{"cmd":"a"}`, 400, "name"},
		{"PUT", "/services/x", `{"cmd":"` + strings.Repeat("x", maxDefinition) + `"}`, 413, ""},
		{"POST", "/services/signal", `{"name":"db","signal":"NONE"}`, 400, "NONE"},
		{"POST", "/services/signal", `{"name":"db"}`, 400, "signal"},
		{"POST", "/services/signal", `{"name":"none","signal":"HUP"}`, 404, ""},
		{"POST", "/services/signal", `{"name":"idle","signal":"HUP"}`, 409, ""},
		{"POST", "/services/web", "", 405, ""},
		{"GET", "/services/web/logs?lines=-1", "", 400, "lines"},
	} {
		status, text := w.do(c.method, c.path, c.body)
		if status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s %s %.40s: %d %s", c.method, c.path, c.body, status, text)
		}
	}
	if _, err := os.Stat(filepath.Join(w.root, ".sprite/services/x.json")); err == nil {
		t.Error("a refused definition is on the disk")
	}
}

func TestServicesStartWithTheMachine(t *testing.T) {
	w := newWorld(t)
	w.put("zoo", "exec sleep 1000", "")
	w.put("bar", "exec sleep 1000", `,"needs":["zoo"],"env":{"A":"b"}`)
	w.put("off", "exec sleep 1000", "")
	w.events("POST", "/services/off/stop", "")
	w.crash()
	// Half a write, and what is none of ours.
	for _, name := range []string{unfinished + "1", "broken.json"} {
		if err := os.WriteFile(filepath.Join(w.root, ".sprite/services", name), []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.boot(&wire.SpriteInit{Name: "test", Fresh: "the memory was lost"}, defaultPauses)
	eventually(t, "both services start", func() bool {
		return w.state("zoo").Status == "running" && w.state("bar").Status == "running"
	})
	began := func(name string) time.Time {
		at, err := time.Parse(time.RFC3339Nano, w.state(name).StartedAt)
		if err != nil {
			t.Error(err)
		}
		return at
	}
	if !began("zoo").Before(began("bar")) {
		t.Error("what is needed does not start first")
	}
	if s := w.state("off"); s.Status != "stopped" {
		t.Error("a stop does not outlast a boot:", s)
	}
	if got := told(w.events("POST", "/services/off/start?duration=0", "")); got != "started; " {
		t.Error(got)
	}
	if data, err := os.ReadFile(filepath.Join(w.root, ".sprite/fresh")); err != nil || !strings.Contains(string(data), "the memory was lost") {
		t.Errorf("no note: %q, %v", data, err)
	}
	// What has begun does not begin again.
	pid := w.state("zoo").PID
	w.server.Begin(&wire.SpriteInit{Policy: `{"rules":[]}`})
	if w.state("zoo").PID != pid {
		t.Error("a second init started services anew")
	}
	if data, err := os.ReadFile(filepath.Join(w.root, ".sprite/policy/network.json")); err != nil || string(data) != "{\"rules\":[]}\n" {
		t.Errorf("the policy: %q, %v", data, err)
	}
}

func TestOnlySpritesHaveServices(t *testing.T) {
	w := &world{t: t, root: t.TempDir()}
	w.boot(nil, defaultPauses)
	if status, _ := w.do("GET", "/services", ""); status != 404 {
		t.Error(status)
	}
	if _, err := os.Stat(filepath.Join(w.root, ".sprite")); err == nil {
		t.Error("something was written")
	}
}

func TestCirclesOnTheDisk(t *testing.T) {
	w := newWorld(t)
	w.crash()
	for name, text := range map[string]string{
		"a": `{"cmd":"sleep","args":["1000"],"needs":["b"]}`,
		"b": `{"cmd":"sleep","args":["1000"],"needs":["a"]}`,
		"c": `{"cmd":"sleep","args":["1000"],"needs":["a"],"http_port":80}`,
		"d": `{"cmd":"sleep","args":["1000"],"http_port":81}`,
		"e": `{"cmd":"sleep","args":["1000"]}`,
	} {
		if err := os.WriteFile(filepath.Join(w.root, ".sprite/services", name+".json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.boot(&wire.SpriteInit{Name: "test"}, defaultPauses)
	eventually(t, "what is right starts", func() bool { return w.state("e").Status == "running" })
	for name, says := range map[string]string{"a": "a → b → a", "b": "b → a → b", "c": `needs service "a"`, "d": "service c holds"} {
		if s := w.state(name); s.Status != "failed" || !strings.Contains(s.Error, says) {
			t.Error(name, s)
		}
	}
	if status, text := w.do("POST", "/services/a/start", ""); status != 200 || !strings.Contains(text, "put it anew") {
		t.Error(status, text)
	}
}

// A service that crashes for ever is started ever less often.
func TestCrashesCostLittle(t *testing.T) {
	w := &world{t: t, root: t.TempDir()}
	w.boot(&wire.SpriteInit{Name: "test"}, pauses{first: 5 * time.Millisecond, most: 80 * time.Millisecond, calm: time.Hour})
	events := w.events("PUT", "/services/bad?duration=1m", sh("echo no; exit 3", ""))
	if told(events) != "started; stdout no; exit 3; " {
		t.Error(told(events))
	}
	eventually(t, "it is started again", func() bool { return w.state("bad").RestartCount >= 7 })
	w.server.services.mu.Lock()
	pause := w.server.services.services["bad"].pause
	w.server.services.mu.Unlock()
	if pause != 80*time.Millisecond {
		t.Error("the pause after many crashes:", pause)
	}
	eventually(t, "it waits", func() bool {
		s := w.state("bad")
		return s.Status == "failed" && s.NextRestartAt != "" && strings.Contains(s.Error, "exit code 3")
	})
	if got := told(w.events("POST", "/services/bad/stop", "")); !strings.HasSuffix(got, "stopped; ") {
		t.Error(got)
	}
	count := w.state("bad").RestartCount
	if s := w.state("bad"); s.Status != "stopped" || s.NextRestartAt != "" || s.Error != "" {
		t.Error(s)
	}
	w.put("other", "exec sleep 1000", "")
	if w.state("bad").RestartCount != count {
		t.Error("a stop does not stick")
	}
}

func TestPauses(t *testing.T) {
	pause, total := time.Duration(0), time.Duration(0)
	var all []string
	for range 9 {
		pause = defaultPauses.next(pause, time.Second)
		total += pause
		all = append(all, pause.String())
	}
	if got := strings.Join(all, " "); got != "1s 2s 4s 8s 16s 32s 1m0s 1m0s 1m0s" {
		t.Error(got)
	}
	if got := defaultPauses.next(time.Minute, 30*time.Second); got != time.Second {
		t.Error("after half a minute of running:", got)
	}
}

func TestWhatCannotStart(t *testing.T) {
	w := newWorld(t)
	events := w.events("PUT", "/services/x", `{"cmd":"/no/such/program"}`)
	if len(events) != 1 || events[0].Type != "error" || !strings.Contains(events[0].Data, "no/such") {
		t.Error(events)
	}
	if s := w.state("x"); s.Status != "failed" || s.NextRestartAt == "" || s.Error == "" {
		t.Error(s)
	}
	events = w.events("PUT", "/services/y", `{"cmd":"sleep","args":["1000"],"needs":["x"]}`)
	if len(events) != 1 || events[0].Type != "error" || !strings.Contains(events[0].Data, `"x"`) {
		t.Error(events)
	}
	w.events("PUT", "/services/x?duration=0", `{"cmd":"sleep","args":["1000"]}`)
	if got := told(w.events("POST", "/services/y/start?duration=0", "")); got != "started; " || w.state("x").Status != "running" {
		t.Error(got)
	}
}

func TestStartBringsWhatIsNeeded(t *testing.T) {
	w := newWorld(t)
	w.put("db", "exec sleep 1000", "")
	w.put("web", "exec sleep 1000", `,"needs":["db"]`)
	w.events("POST", "/services/web/stop", "")
	w.events("POST", "/services/db/stop", "")
	w.events("POST", "/services/web/start?duration=0", "")
	if s := w.state("db"); s.Status != "running" {
		t.Error(s)
	}
}

func TestStubbornServicesAreKilled(t *testing.T) {
	w := newWorld(t)
	w.put("hard", `trap "" TERM; echo up; while :; do sleep 1; done`, "")
	eventually(t, "it ignores the signal", func() bool {
		_, text := w.do("GET", "/services/hard/logs", "")
		return strings.Contains(text, "up")
	})
	if got := told(w.events("POST", "/services/hard/stop?timeout=0.05s", "")); got != "stopping; exit 137; stopped; " {
		t.Error(got)
	}
}

// What a service leaves behind ends with it.
func TestChildrenEnd(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(w.root, "child")
	w.put("parent", "sleep 1000 & echo $! > "+file+"; exit 1", "")
	eventually(t, "the child is gone", func() bool {
		data, _ := os.ReadFile(file)
		pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
		return err == nil && !alive(pid)
	})
}

// alive reports whether a process runs; one that has ended and that nobody has
// asked for does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestSignals(t *testing.T) {
	// Under nohup the shell would find SIGHUP ignored, and could not trap it.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	w := newWorld(t)
	w.put("s", `trap 'echo hup' HUP; trap 'echo usr; exit 0' USR1; echo up; while :; do sleep 0.01; done`, "")
	logged := func(text string) func() bool {
		return func() bool {
			_, log := w.do("GET", "/services/s/logs", "")
			return strings.Contains(log, text)
		}
	}
	eventually(t, "it runs", logged("up"))
	for _, name := range []string{`"SIGHUP"`, `"hup"`, `1`} {
		if status, text := w.do("POST", "/services/signal", `{"name":"s","signal":`+name+`}`); status != 204 || text != "" {
			t.Error(name, status, text)
		}
		eventually(t, "it hears", logged("hup"))
	}
	if status, _ := w.do("POST", "/services/signal", `{"name":"s","signal":"KILL"}`); status != 204 {
		t.Error(status)
	}
	eventually(t, "a kill counts as a crash", func() bool { return strings.Contains(w.state("s").Error, "SIGKILL") || w.state("s").RestartCount > 0 })
	for text, want := range map[string]syscall.Signal{"TERM": 15, "SIGINT": 2, " usr2 ": 12, "9": 9} {
		if got, err := parseSignal(text); err != nil || got != want {
			t.Error(text, got, err)
		}
	}
	for _, text := range []string{"", "0", "65", "-1", "SIG", "TERMINATE"} {
		if got, err := parseSignal(text); err == nil {
			t.Error(text, got)
		}
	}
}

func TestDeleteEndsTheProcess(t *testing.T) {
	w := newWorld(t)
	w.put("x", "exec sleep 1000", "")
	pid := w.state("x").PID
	if status, _ := w.do("DELETE", "/services/x", ""); status != 204 || alive(pid) {
		t.Error(status)
	}
	w.put("x", "exec sleep 1000", "")
	if s := w.state("x"); s.Status != "running" {
		t.Error("made again:", s)
	}
}

func TestURLPort(t *testing.T) {
	w := newWorld(t)
	answers := func(want string) {
		t.Helper()
		if status, text := w.do("GET", "/url-port", ""); status != 200 || strings.TrimSpace(text) != want {
			t.Error(status, text)
		}
	}
	answers(`{"port":8080}`)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	w.put("other", "exec sleep 1000", "")
	w.put("web", fmt.Sprintf("exec python3 -m http.server %d --bind 127.0.0.1", port), fmt.Sprintf(`,"http_port":%d`, port))
	w.events("POST", "/services/web/stop", "")
	want := fmt.Sprintf(`{"port":%d,"service":"web"}`, port)
	answers(want)
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal("it was not started, or not awaited:", err)
	}
	conn.Close()
	answers(want)
	// One that crashes is not started for being asked.
	w.put("web", "exit 1", fmt.Sprintf(`,"http_port":%d`, port))
	eventually(t, "it has crashed", func() bool { return w.state("web").Status == "failed" })
	before := w.state("web").RestartCount
	for range 50 {
		answers(want)
	}
	if after := w.state("web").RestartCount; after > before+2 {
		t.Error("restarts for requests:", after-before)
	}
}
