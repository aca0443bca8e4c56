package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// atoll runs the binary as a person would, and returns both outputs and the
// exit code.
func atoll(t *testing.T, s *server, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append(s.Env(), "ATOLL_DATA="+dataDir)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// ok is atoll where anything but success ends the test.
func ok(t *testing.T, s *server, args ...string) string {
	t.Helper()
	out, errOut, code := atoll(t, s, "", args...)
	if code != 0 {
		t.Fatalf("atoll %s: exit code %d: %s", strings.Join(args, " "), code, errOut)
	}
	return strings.TrimSpace(out)
}

func TestCommandLine(t *testing.T) {
	s := up(t)

	t.Run("run passes input, output and exit code through", func(t *testing.T) {
		out, errOut, code := atoll(t, s, "typed\n", "run", "--rm", "--", "sh", "-c", "cat; echo oops >&2; exit 7")
		if out != "typed\n" || !strings.Contains(errOut, "oops") || code != 7 {
			t.Errorf("out %q, err %q, code %d", out, errOut, code)
		}
		if left := ok(t, s, "ls", "--json"); strings.Contains(left, "sandboxID\":\"") {
			t.Errorf("run --rm left %s", left)
		}
	})

	id := ok(t, s, "create", "--metadata", "from=cli")
	t.Run("ls", func(t *testing.T) {
		if out := ok(t, s, "ls"); !strings.Contains(out, id) {
			t.Errorf("no %s in\n%s", id, out)
		}
		var list []map[string]any
		if err := json.Unmarshal([]byte(ok(t, s, "ls", "--json")), &list); err != nil || len(list) != 1 {
			t.Errorf("%d listed, %v", len(list), err)
		}
	})
	t.Run("exec", func(t *testing.T) {
		if out := ok(t, s, "exec", id, "--", "whoami"); out != "user" {
			t.Errorf("exec says %q", out)
		}
		if _, _, code := atoll(t, s, "", "exec", id, "--", "sh", "-c", "exit 3"); code != 3 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("cp both ways, files and folders", func(t *testing.T) {
		dir := t.TempDir()
		tree := filepath.Join(dir, "tree")
		if err := os.MkdirAll(filepath.Join(tree, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"a": "one", "sub/b": "two"} {
			if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		ok(t, s, "cp", filepath.Join(tree, "a"), id+":/tmp/a")
		ok(t, s, "cp", tree, id+":/tmp/tree")
		if out := ok(t, s, "exec", id, "--", "cat", "/tmp/a", "/tmp/tree/a", "/tmp/tree/sub/b"); out != "oneonetwo" {
			t.Errorf("inside are %q", out)
		}
		back := filepath.Join(dir, "back")
		ok(t, s, "cp", id+":/tmp/tree", back)
		if b, err := os.ReadFile(filepath.Join(back, "sub", "b")); err != nil || string(b) != "two" {
			t.Errorf("came back %q, %v", b, err)
		}
	})
	t.Run("env", func(t *testing.T) {
		out := ok(t, s, "env")
		for _, line := range []string{"export E2B_API_KEY=", "export E2B_API_URL=", "export E2B_SANDBOX_URL="} {
			if !strings.Contains(out, line) {
				t.Errorf("no %q in\n%s", line, out)
			}
		}
	})
	t.Run("pause and resume", func(t *testing.T) {
		ok(t, s, "exec", id, "--", "sh", "-c", "echo kept > /dev/shm/kept")
		if out := ok(t, s, "pause", id); out != id {
			t.Errorf("pause says %q", out)
		}
		if out := ok(t, s, "ls"); !strings.Contains(out, "paused") {
			t.Errorf("ls shows\n%s", out)
		}
		if _, errOut, code := atoll(t, s, "", "exec", id, "--", "true"); code == 0 || !strings.Contains(errOut, "resume") {
			t.Errorf("exec in a paused one: code %d, %q", code, errOut)
		}
		if out := ok(t, s, "resume", id); out != id {
			t.Errorf("resume says %q", out)
		}
		if out := ok(t, s, "exec", id, "--", "cat", "/dev/shm/kept"); out != "kept" {
			t.Errorf("after its sleep it has %q", out)
		}
	})
	t.Run("fork and snapshot", func(t *testing.T) {
		copies := strings.Fields(ok(t, s, "fork", "-n", "3", "-q", id))
		if len(copies) != 3 {
			t.Fatalf("the copies are %v", copies)
		}
		ok(t, s, "snapshot", "create", id, "--name", "from-the-command-line")
		copies = append(copies, ok(t, s, "create", "--template", "from-the-command-line"))
		for _, c := range copies {
			if out := ok(t, s, "exec", c, "--", "cat", "/dev/shm/kept"); out != "kept" {
				t.Errorf("%s has %q", c, out)
			}
		}
		ok(t, s, append([]string{"kill"}, copies...)...)
		if out := ok(t, s, "snapshot", "ls"); !strings.Contains(out, "from-the-command-line") {
			t.Errorf("the snapshots are\n%s", out)
		}
		ok(t, s, "snapshot", "rm", "from-the-command-line")
		if out := ok(t, s, "snapshot", "ls", "--json"); strings.Contains(out, "from-the-command-line") {
			t.Errorf("removed, it is listed:\n%s", out)
		}
	})
	t.Run("logs and doctor", func(t *testing.T) {
		ok(t, s, "logs", id)
		ok(t, s, "doctor")
	})
	t.Run("kill", func(t *testing.T) {
		ok(t, s, "kill", id)
		if _, errOut, code := atoll(t, s, "", "kill", id); code == 0 || errOut == "" {
			t.Errorf("ending it twice: code %d, %q", code, errOut)
		}
	})
}
