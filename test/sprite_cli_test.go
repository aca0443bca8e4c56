package test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// TestSpriteCommandLine is the life of a sprite at the keyboard, in a folder of
// its own.
func TestSpriteCommandLine(t *testing.T) {
	s := upSprites(t)
	dir := t.TempDir()
	sprite := func(t *testing.T, stdin string, args ...string) (string, string, int) {
		t.Helper()
		cmd := s.atSprites(dir, args...)
		cmd.Stdin = strings.NewReader(stdin)
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
	}
	must := func(t *testing.T, args ...string) string {
		t.Helper()
		out, errOut, code := sprite(t, "", args...)
		if code != 0 {
			t.Fatalf("atoll sprite %s: exit code %d: %s", strings.Join(args, " "), code, errOut)
		}
		return strings.TrimSpace(out)
	}
	if out := must(t, "create", "cli"); out != "cli" {
		t.Errorf("create says %q", out)
	}
	must(t, "use", "cli")

	t.Run("exec", func(t *testing.T) {
		out, errOut, code := sprite(t, "typed\n", "exec", "--env", "A=1,B=2", "--dir", "/tmp", "--", "sh", "-c", "cat; echo $A $B $PWD; whoami; echo oops >&2; exit 7")
		if out != "typed\n1 2 /tmp\nsprite\n" || errOut != "oops\n" || code != 7 {
			t.Errorf("out %q, err %q, code %d", out, errOut, code)
		}
		for _, tc := range []struct {
			code int
			args []string
		}{{127, []string{"no-such-program"}}, {126, []string{"/etc/passwd"}}, {137, []string{"sh", "-c", "kill -KILL $$"}}, {0, []string{"--tty", "--", "tty"}}, {2, nil}} {
			if out, errOut, code := sprite(t, "", append([]string{"exec"}, tc.args...)...); code != tc.code {
				t.Errorf("%v: exit code %d, %q, %q", tc.args, code, out, errOut)
			}
		}
		if _, errOut, code := sprite(t, "", "exec", "-s", "nobody", "true"); code != 1 || !strings.Contains(errOut, "atoll sprite list") {
			t.Errorf("in one that is not there: code %d, %q", code, errOut)
		}
	})
	t.Run("a console is left and come back to", func(t *testing.T) { spriteConsole(t, s, dir) })
	t.Run("services, the URL and the proxy", func(t *testing.T) {
		must(t, "services", "create", "web", "--http-port", "3000", "--duration", "100ms", "--", "python3", "-m", "http.server", "3000", "--directory", "/.sprite")
		if out := must(t, "services", "list"); !strings.Contains(out, "running") || !strings.Contains(out, "3000") {
			t.Errorf("the services are\n%s", out)
		}
		if out := must(t, "url"); !strings.HasPrefix(out, "http://cli.") {
			t.Errorf("the URL is %q", out)
		}
		spriteProxy(t, s, dir)
		must(t, "services", "stop", "web")
		must(t, "services", "delete", "web")
	})
	t.Run("files", func(t *testing.T) {
		tree := filepath.Join(dir, "tree")
		if err := os.MkdirAll(filepath.Join(tree, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, "sub", "tool"), []byte("#!/bin/sh\necho works\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		must(t, "file", "push", tree, ".")
		must(t, "file", "push", filepath.Join(tree, "sub", "tool"), "bin/")
		if out := must(t, "exec", "--", "sh", "-c", "tree/sub/tool && bin/tool"); out != "works\nworks" {
			t.Errorf("inside are %q", out)
		}
		must(t, "file", "pull", "tree", filepath.Join(dir, "back"))
		if info, err := os.Stat(filepath.Join(dir, "back", "sub", "tool")); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("came back %v, %v", info, err)
		}
	})
	t.Run("checkpoints, restore and a sprite from one", func(t *testing.T) {
		must(t, "exec", "--", "sh", "-c", "echo first > kept")
		if out := must(t, "checkpoint", "create", "--comment", "good"); out != "v1" {
			t.Errorf("its id is %q", out)
		}
		must(t, "exec", "--", "sh", "-c", "echo second > kept")
		must(t, "create", "--from", "cli@v1", "--skip-console", "cli-again")
		for _, name := range []string{"cli-again", "cli"} {
			if name == "cli" {
				must(t, "restore", "v1")
			}
			if out := must(t, "exec", "-s", name, "--", "cat", "kept"); out != "first" {
				t.Errorf("%s has %q", name, out)
			}
		}
		if out := must(t, "checkpoint", "list", "--include-auto"); !strings.Contains(out, "good") || !strings.Contains(out, "pre-restore-v1-") {
			t.Errorf("the checkpoints are\n%s", out)
		}
		if _, errOut, code := sprite(t, "", "restore", "v9"); code != 1 || !strings.Contains(errOut, "checkpoint list") {
			t.Errorf("restore of none: code %d, %q", code, errOut)
		}
	})
	must(t, "destroy", "--force", "cli-again")
	must(t, "destroy", "--force")
	if out := must(t, "list", "-q"); out != "" {
		t.Errorf("left are %q", out)
	}
}

// atSprites is an "atoll sprite" in a folder.
func (s *server) atSprites(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, append([]string{"sprite"}, args...)...)
	cmd.Dir, cmd.Env = dir, append(s.Env(), "ATOLL_DATA="+dataDir, "TERM=xterm")
	return cmd
}

// spriteConsole leaves a shell with the detach key and comes back to it.
func spriteConsole(t *testing.T, s *server, dir string) {
	seen := &terminal{}
	open := func(args ...string) (*exec.Cmd, *os.File) {
		cmd := s.atSprites(dir, args...)
		master, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 101})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { master.Close() })
		go io.Copy(seen, master)
		return cmd, master
	}
	cmd, keys := open("console")
	io.WriteString(keys, "stty size; kept=yes; echo re''ady\r")
	seen.await(t, "33 101")
	seen.await(t, "ready\r\n")
	io.WriteString(keys, "\x1c")
	seen.await(t, "comes back to it")
	if err := cmd.Wait(); err != nil {
		t.Errorf("left with %v", err)
	}
	cmd, keys = open("attach")
	io.WriteString(keys, "echo has-''$kept\r")
	seen.await(t, "has-yes")
	io.WriteString(keys, "exit 6\r")
	if cmd.Wait(); cmd.ProcessState.ExitCode() != 6 {
		t.Errorf("exit code %d", cmd.ProcessState.ExitCode())
	}
}

// terminal keeps what is shown.
type terminal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *terminal) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *terminal) await(t *testing.T, text string) {
	t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	shown := ""
	for end := time.Now().Add(patience); time.Now().Before(end); <-poll.C {
		s.mu.Lock()
		shown = s.b.String()
		s.mu.Unlock()
		if strings.Contains(shown, text) {
			return
		}
	}
	t.Fatalf("%q did not come; shown is:\n%s", text, shown)
}

// spriteProxy asks a service through a forwarded port.
func spriteProxy(t *testing.T, s *server, dir string) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := s.atSprites(dir, "proxy", "0:3000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	address, _, _ := strings.Cut(string(line[:n]), " is port ")
	body := ""
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for ; ctx.Err() == nil && !strings.Contains(body, "llm.txt"); <-poll.C {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			continue // it does not listen yet
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if body = string(b); err != nil {
			body = strconv.Quote(body) + err.Error()
		}
	}
	if ctx.Err() != nil {
		t.Errorf("through the proxy came %s", body)
	}
	cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the proxy ended with %v", err)
	}
}
