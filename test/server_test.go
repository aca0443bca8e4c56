package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

const (
	// firstStart is how long a server may take that has to build its base
	// template; laterStart one that finds it built.
	firstStart = 10 * time.Minute
	// patience is how long a condition may take to come true.
	patience = 60 * time.Second
)

// server is one running "atoll up".
type server struct {
	t      testing.TB
	cmd    *exec.Cmd
	listen string
	flags  []string
	log    *tail
	ended  chan struct{} // closed when the process is gone
	err    error         // how it ended, once ended is closed
	ready  time.Duration // from start to the ready line

	APIKey     string `json:"apiKey"`
	AdminToken string `json:"adminToken"`
	APIURL     string `json:"apiURL"`
	SandboxURL string `json:"sandboxURL"`
	Domain     string `json:"domain"`
	client     *client.Client
}

// up starts a server on the shared data directory and ends it, with every
// sandbox it still has, when the test is over.
func up(t testing.TB, flags ...string) *server {
	t.Helper()
	s := &server{t: t, listen: freeAddress(t), flags: flags}
	s.start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server's last words:\n%s", s.log)
		}
		s.clear()
		s.stop()
	})
	s.clear()
	return s
}

// freeAddress finds a port that nothing listens on. It is fixed for the life of
// a test, so that a server that is started again is found where it was.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs the binary until it says that it is ready.
func (s *server) start() {
	s.t.Helper()
	args := append([]string{"up", "--data", dataDir, "--listen", s.listen}, s.flags...)
	s.cmd = exec.Command(binary, args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	s.log = &tail{limit: 64 << 10}
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("start %s: %v", binary, err)
	}
	s.ended = make(chan struct{})
	ready := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(out)
		var once sync.Once
		for lines.Scan() {
			fmt.Fprintln(s.log, lines.Text())
			if strings.Contains(lines.Text(), "http://"+s.listen) {
				once.Do(func() { close(ready) })
			}
		}
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	select {
	case <-ready:
	case <-s.ended:
		s.t.Fatalf("the server ended before it was ready: %v\n%s", s.err, s.log)
	case <-time.After(firstStart):
		s.kill()
		s.t.Fatalf("the server was not ready after %v:\n%s", firstStart, s.log)
	}
	s.ready = time.Since(began)
	s.connect()
}

// connect reads the credentials that the server has written.
func (s *server) connect() {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(dataDir, "credentials.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(b, s); err != nil {
		s.t.Fatalf("credentials: %v", err)
	}
	s.client, err = client.New(client.Config{
		APIURL: s.APIURL, SandboxURL: s.SandboxURL, APIKey: s.APIKey, AdminToken: s.AdminToken,
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// kill ends the server as a crash would. Its sandboxes run on.
func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.ended
}

// stop asks the server to end, and its sandboxes with it.
func (s *server) stop() { s.end(syscall.SIGINT) }

// end asks the server to end by a signal and waits until it has.
func (s *server) end(signal syscall.Signal) {
	s.t.Helper()
	select {
	case <-s.ended:
		return
	default:
	}
	s.cmd.Process.Signal(signal)
	select {
	case <-s.ended:
		if s.err != nil {
			s.t.Errorf("the server did not end cleanly: %v\n%s", s.err, s.log)
		}
	case <-time.After(patience):
		s.kill()
		s.t.Errorf("the server did not end within %v:\n%s", patience, s.log)
	}
}

// clear ends every sandbox.
func (s *server) clear() {
	select {
	case <-s.ended:
		return
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	all, err := s.client.List(ctx, client.ListFilter{})
	if err != nil {
		s.t.Errorf("list what is left: %v", err)
		return
	}
	var wait sync.WaitGroup
	for _, sbx := range all {
		wait.Go(func() {
			if err := s.client.Kill(ctx, sbx.SandboxID); err != nil && !client.IsNotFound(err) {
				s.t.Errorf("end %s: %v", sbx.SandboxID, err)
			}
		})
	}
	wait.Wait()
}

// env is what a program needs to find this server, and nothing that would lead
// it elsewhere.
func (s *server) env() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "E2B_") && !strings.HasPrefix(kv, "ATOLL_") {
			env = append(env, kv)
		}
	}
	return append(env, "E2B_API_KEY="+s.APIKey, "E2B_API_URL="+s.APIURL, "E2B_SANDBOX_URL="+s.SandboxURL,
		"ATOLL_ADMIN_TOKEN="+s.AdminToken)
}

// sandbox is one sandbox under test.
type sandbox struct {
	client.Sandbox
	s *server
}

// create makes a sandbox that lives for d; the test fails if it cannot be made.
func (s *server) create(d time.Duration) sandbox {
	s.t.Helper()
	return s.createWith(client.NewSandbox{TemplateID: "base"}, d)
}

func (s *server) createWith(n client.NewSandbox, d time.Duration) sandbox {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	seconds := client.Seconds(d)
	n.Timeout, n.Secure = &seconds, true
	sbx, err := s.client.Create(ctx, n)
	if err != nil {
		s.t.Fatalf("create: %v", err)
	}
	return sandbox{sbx, s}
}

func (b sandbox) guest() *client.Guest { return b.s.client.Guest(b.Sandbox) }

// sh runs a shell script in the sandbox as root and returns its output; the
// error tells of a script that failed or of a sandbox that cannot be reached.
func (b sandbox) sh(script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := b.guest().As("root").Output(ctx, client.Command{Path: "/bin/bash", Args: []string{"-c", script}}, 1<<20)
	return strings.TrimSpace(string(out)), err
}

// must is sh where failure is the end of the test.
func (b sandbox) must(script string) string {
	b.s.t.Helper()
	out, err := b.sh(script)
	if err != nil {
		b.s.t.Fatalf("%s in %s: %v", script, b.SandboxID, err)
	}
	return out
}

// start begins a script that is left to itself.
func (b sandbox) start(script string) {
	b.s.t.Helper()
	b.must("setsid bash -c " + quote(script) + " >/dev/null 2>&1 </dev/null &")
}

// alive fails the test unless the sandbox runs commands.
func (b sandbox) alive() {
	b.s.t.Helper()
	if out := b.must("echo alive"); out != "alive" {
		b.s.t.Fatalf("%s answers %q", b.SandboxID, out)
	}
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// until calls f until it is true.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !f(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain for %s", patience, what)
		}
	}
}

// get makes one request to a port of a sandbox, by name.
func (b sandbox) get(port int, path string) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.s.SandboxURL+path, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Host = fmt.Sprintf("%d-%s.localhost", port, b.SandboxID)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	return res.StatusCode, body, errors.Join(err)
}

// tail keeps the end of what is written to it.
type tail struct {
	mu    sync.Mutex
	limit int
	b     []byte
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	if len(l.b) > 2*l.limit {
		l.b = bytes.Clone(l.b[len(l.b)-l.limit:])
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b[max(0, len(l.b)-l.limit):])
}
