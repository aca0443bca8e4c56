package test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/test/harness"
)

// patience is how long a condition may take to come true.
const patience = 60 * time.Second

// server is a server under test: what goes wrong with it ends the test.
type server struct {
	*harness.Server
	t testing.TB
}

// up starts a server on the shared data directory and ends it, with every
// sandbox it still has, when the test is over.
func up(t testing.TB, flags ...string) *server {
	t.Helper()
	h, err := harness.New(binary, dataDir, flags...)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{h, t}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server's last words:\n%s", h.Log())
		}
		s.stop()
	})
	s.start()
	s.clear()
	return s
}

func (s *server) start() {
	s.t.Helper()
	if err := s.Start(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) stop() { s.end(syscall.SIGINT) }

func (s *server) end(signal syscall.Signal) {
	s.t.Helper()
	if err := s.End(signal); err != nil {
		s.t.Error(err)
	}
}

// clear ends every sandbox.
func (s *server) clear() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Clear(ctx); err != nil {
		s.t.Error(err)
	}
}

// in is the same server, for a test within the one that started it.
func (s *server) in(t testing.TB) *server { return &server{s.Server, t} }

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
	sbx, err := s.Client.Create(ctx, n)
	if err != nil {
		s.t.Fatalf("create: %v", err)
	}
	return s.full(sbx.SandboxID)
}

// full is a sandbox with all that the server tells of it.
func (s *server) full(id string) sandbox {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	sbx, err := s.Client.Get(ctx, id)
	if err != nil {
		s.t.Fatalf("get %s: %v", id, err)
	}
	return sandbox{sbx, s}
}

func (b sandbox) guest() *client.Guest { return b.s.Client.Guest(b.Sandbox) }

// sh runs a shell script in the sandbox as root and returns its output; the
// error tells of a script that failed or of a sandbox that cannot be reached.
func (b sandbox) sh(script string) (string, error) { return b.long(patience, script) }

// long is sh with a time of its own.
func (b sandbox) long(limit time.Duration, script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
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
	return res.StatusCode, body, err
}
