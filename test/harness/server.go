// Package harness starts and ends real servers for the tests and the benchmark.
package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

const (
	// firstStart is how long a server may take, one that must build its base
	// template included.
	firstStart = 10 * time.Minute
	// endWithin is how long a server may take to end.
	endWithin = time.Minute
	logKept   = 64 << 10
)

// Server is one "atoll up". Its exported fields are what it wrote about itself
// when it was ready.
type Server struct {
	APIKey     string `json:"apiKey"`
	AdminToken string `json:"adminToken"`
	APIURL     string `json:"apiURL"`
	SandboxURL string `json:"sandboxURL"`
	Domain     string `json:"domain"`

	Client *client.Client `json:"-"`
	// Ready is how long the last start took until the ready line.
	Ready time.Duration `json:"-"`
	// Listen is its address, the same after every start.
	Listen string `json:"-"`

	binary, data string
	flags        []string
	cmd          *exec.Cmd
	log          *tail
	ended        chan struct{} // closed when the process is gone
	err          error         // how it ended, once ended is closed
}

// New prepares a server on a data directory and a free port. It is not started.
func New(binary, data string, flags ...string) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	ended := make(chan struct{})
	close(ended)
	return &Server{binary: binary, data: data, flags: flags, Listen: l.Addr().String(), log: &tail{limit: logKept}, ended: ended}, nil
}

// Start runs the server until it says that it is ready.
func (s *Server) Start() error {
	args := []string{"up", "--data", s.data, "--listen", s.Listen}
	if !slices.Contains(s.flags, "--templates") {
		args = append(args, "--templates", "base") // others take minutes to build
	}
	s.cmd = exec.Command(s.binary, append(args, s.flags...)...)
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.binary, err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	s.ended = ended
	go func() {
		lines := bufio.NewScanner(out)
		var once sync.Once
		for lines.Scan() {
			fmt.Fprintln(s.log, lines.Text())
			if strings.Contains(lines.Text(), "http://"+s.Listen) {
				once.Do(func() { close(ready) })
			}
		}
		s.err = s.cmd.Wait()
		close(ended)
	}()
	select {
	case <-ready:
	case <-ended:
		return fmt.Errorf("the server ended before it was ready: %w\n%s", errors.Join(s.err), s.log)
	case <-time.After(firstStart):
		s.Kill()
		return fmt.Errorf("the server was not ready after %v:\n%s", firstStart, s.log)
	}
	s.Ready = time.Since(began)
	return s.connect()
}

// connect reads the credentials that the server has written.
func (s *Server) connect() error {
	b, err := os.ReadFile(filepath.Join(s.data, "credentials.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, s); err != nil {
		return fmt.Errorf("read the credentials: %w", err)
	}
	s.Client, err = client.New(client.Config{
		APIURL: s.APIURL, SandboxURL: s.SandboxURL, APIKey: s.APIKey, AdminToken: s.AdminToken,
	})
	return err
}

// Running reports whether the process is there.
func (s *Server) Running() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// PID is the process id of the server.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Log returns the end of what the server has said.
func (s *Server) Log() string { return s.log.String() }

// Kill ends the server as a crash would. Its sandboxes run on.
func (s *Server) Kill() {
	if s.Running() {
		_ = s.cmd.Process.Kill() // fails only when it has just ended
		<-s.ended
	}
}

// Stop asks the server to end, and its sandboxes with it.
func (s *Server) Stop() error { return s.End(syscall.SIGINT) }

// End asks the server to end by a signal, and waits until it has.
func (s *Server) End(signal syscall.Signal) error {
	if !s.Running() {
		return nil
	}
	if err := s.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.ended:
		if s.err != nil {
			return fmt.Errorf("the server did not end cleanly: %w\n%s", s.err, s.log)
		}
		return nil
	case <-time.After(endWithin):
		s.Kill()
		return fmt.Errorf("the server did not end within %v:\n%s", endWithin, s.log)
	}
}

// Clear ends every sandbox and every sprite of the server.
func (s *Server) Clear(ctx context.Context) error {
	all, err := s.Client.List(ctx, client.ListFilter{})
	if err != nil {
		return fmt.Errorf("list what is left: %w", err)
	}
	sprites, _, err := s.Client.Sprites(ctx, "")
	if err != nil {
		return fmt.Errorf("list the sprites that are left: %w", err)
	}
	errs := make([]error, len(all)+len(sprites))
	var wait sync.WaitGroup
	for i, sprite := range sprites {
		wait.Go(func() {
			if err := s.Client.DeleteSprite(ctx, sprite.Name); err != nil && !client.IsNotFound(err) {
				errs[len(all)+i] = fmt.Errorf("destroy %s: %w", sprite.Name, err)
			}
		})
	}
	for i, sbx := range all {
		wait.Go(func() {
			if err := s.Client.Kill(ctx, sbx.SandboxID); err != nil && !client.IsNotFound(err) {
				errs[i] = fmt.Errorf("end %s: %w", sbx.SandboxID, err)
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// Env is what a program needs to find this server, and nothing that would lead
// it elsewhere.
func (s *Server) Env() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "E2B_") && !strings.HasPrefix(kv, "ATOLL_") && !strings.HasPrefix(kv, "SPRITE") {
			env = append(env, kv)
		}
	}
	return append(env, "E2B_API_KEY="+s.APIKey, "E2B_API_URL="+s.APIURL, "E2B_SANDBOX_URL="+s.SandboxURL,
		"SPRITE_TOKEN="+s.APIKey, "SPRITES_API_URL="+s.APIURL, "ATOLL_ADMIN_TOKEN="+s.AdminToken)
}

// DataDir is where servers under test keep their data between runs, so that
// the base template is built once: $ATOLL_TEST_DATA, or a folder of the user's cache.
func DataDir() (string, error) {
	dir := os.Getenv("ATOLL_TEST_DATA")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no place for the data; set ATOLL_TEST_DATA: %w", err)
		}
		dir = filepath.Join(cache, "atoll-test")
	}
	return dir, os.MkdirAll(dir, 0o700)
}

// Node is the JavaScript runtime that make found good enough or installed.
func Node(repository string) string { return node(repository, ".node") }

// Node24 is one that is new enough for the Sprites SDK.
func Node24(repository string) string { return node(repository, ".node24") }

func node(repository, folder string) string {
	own := filepath.Join(repository, "test", folder, "node_modules", ".bin", "node")
	if path, err := exec.LookPath(own); err == nil {
		return path
	}
	return "node"
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
