package service

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/wire"
)

// world is a sprite under test, with a folder as its disk.
type world struct {
	t      *testing.T
	root   string
	server *Server
	host   *httptest.Server
	local  *http.Client

	mu  sync.Mutex
	log []string
}

// StartService makes a world a Host that starts programs beside the test.
func (w *world) StartService(args []string, env map[string]string, dir string) (*Process, error) {
	program, err := exec.LookPath(args[0])
	if err != nil {
		return nil, err
	}
	vars := os.Environ()
	for key, value := range env {
		vars = append(vars, key+"="+value)
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	files = append(files, null)
	p := &Process{}
	for _, ours := range []**os.File{&p.Stdout, &p.Stderr} {
		read, write, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		*ours, files = read, append(files, write)
	}
	p.Pid, err = syscall.ForkExec(program, args, &syscall.ProcAttr{
		Dir: dir, Env: vars, Files: []uintptr{files[0].Fd(), files[1].Fd(), files[2].Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, err
	}
	ended := make(chan syscall.WaitStatus, 1)
	p.Ended = ended
	go func() {
		var status syscall.WaitStatus
		for {
			if _, err := syscall.Wait4(p.Pid, &status, 0, nil); err != syscall.EINTR {
				break
			}
		}
		ended <- status
	}()
	return p, nil
}

// newWorld returns a sprite that has begun on an empty disk.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, root: t.TempDir()}
	w.boot(&wire.SpriteInit{Name: "test"}, defaultPauses)
	return w
}

// boot starts the daemon's part anew on the same disk.
func (w *world) boot(in *wire.SpriteInit, p pauses) {
	w.t.Helper()
	w.server = New(Config{Host: w, Root: w.root, Log: func(level, message string, pairs ...string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.log = append(w.log, fmt.Sprint(level, " ", message, " ", pairs))
	}})
	w.server.services.pauses = p
	server := w.server
	mux := http.NewServeMux()
	mux.Handle(wire.SpritePath, server.HostHandler())
	mux.HandleFunc(wire.CallsPath, server.Calls)
	w.host = httptest.NewServer(mux)
	host := w.host
	w.t.Cleanup(func() {
		ended, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		server.Close(ended)
		host.Close()
	})
	if in == nil {
		return
	}
	server.Begin(in)
	w.local = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(w.root, ".sprite/api.sock"))
	}}}
	w.t.Cleanup(w.local.CloseIdleConnections)
}

// crash ends the daemon's part as a power cut would, but for its processes.
func (w *world) crash() {
	ended, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	w.server.Close(ended)
	w.host.Close()
}

// do asks as the host does; local as programs in the machine do.
func (w *world) do(method, path, body string) (int, string) {
	w.t.Helper()
	return w.ask(w.host.Client(), w.host.URL+"/sprite"+path, method, body)
}

func (w *world) asks(method, path, body string) (int, string) {
	w.t.Helper()
	return w.ask(w.local, "http://sprite"+path, method, body)
}

func (w *world) ask(client *http.Client, url, method, body string) (int, string) {
	w.t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	answer, err := client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer.StatusCode, string(data)
}

// events asks for a stream and returns what came, without the last event, which
// must be there and complete.
func (w *world) events(method, path, body string) []event {
	w.t.Helper()
	status, text := w.do(method, path, body)
	if status != 200 {
		w.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	var all []event
	lines := bufio.NewScanner(strings.NewReader(text)) // with its limit of 64 KiB, as clients have it
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, e)
	}
	if err := lines.Err(); err != nil {
		w.t.Fatal(err)
	}
	if len(all) == 0 || all[len(all)-1].Type != "complete" || len(all[len(all)-1].LogFiles) != 3 {
		w.t.Fatalf("%s %s: the last event is not complete: %s", method, path, text)
	}
	return all[:len(all)-1]
}

// told is events as text: types, and what was written.
func told(events []event) string {
	var b strings.Builder
	for _, e := range events {
		b.WriteString(e.Type)
		switch {
		case e.ExitCode != nil:
			fmt.Fprintf(&b, " %d", *e.ExitCode)
		case e.Type == "stdout" || e.Type == "stderr":
			b.WriteString(" " + strings.TrimSuffix(e.Data, "\n"))
		}
		b.WriteString("; ")
	}
	return b.String()
}

// put makes a service of a shell script.
func (w *world) put(name, script, more string) []event {
	w.t.Helper()
	return w.events("PUT", "/services/"+name+"?duration=0", sh(script, more))
}

func sh(script, more string) string {
	text, err := json.Marshal(script)
	if err != nil {
		panic(err)
	}
	return `{"cmd":"sh","args":["-c",` + string(text) + `]` + more + `}`
}

// state returns how a service does.
func (w *world) state(name string) State {
	w.t.Helper()
	status, text := w.do("GET", "/services/"+name, "")
	var v view
	if err := json.Unmarshal([]byte(text), &v); status != 200 || err != nil {
		w.t.Fatal(status, text, err)
	}
	return v.State
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("never happened: ", what)
		}
	}
}
