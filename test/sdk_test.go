package test

import (
	"bufio"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/test/harness"
)

// suiteLimit bounds one run of one SDK's tests.
const suiteLimit = 10 * time.Minute

// result is one test of an SDK's suite, as its reporter tells it.
type result struct {
	Name    string  `json:"name"`
	File    string  `json:"file"`
	OK      bool    `json:"ok"`
	Skipped bool    `json:"skipped"`
	Millis  float64 `json:"millis"`
	Error   string  `json:"error"`
	Output  string  `json:"output"`
}

func TestJavaScriptSDK(t *testing.T) {
	s := up(t)
	runSuite(t, s, "js", javaScript("*.test.mjs"))
}

func TestPythonSDK(t *testing.T) {
	s := up(t)
	runSuite(t, s, "py", python("test_*.py"))
}

func TestLimitOfSandboxesPerTeam(t *testing.T) {
	s := up(t, "--max-sandboxes", "3")
	t.Run("js", func(t *testing.T) { runSuite(t, s, "js", javaScript("limit/*.test.mjs")) })
	t.Run("py", func(t *testing.T) { runSuite(t, s, "py", python("limit_*.py")) })
}

func javaScript(pattern string) []string {
	args := []string{harness.Node(repository), "--test", "--test-reporter=./reporter.mjs", "--test-reporter-destination=stdout"}
	files, _ := filepath.Glob(filepath.Join(repository, "test", "js", filepath.FromSlash(pattern)))
	return append(args, files...)
}

func python(pattern string) []string {
	return []string{filepath.Join(repository, "test", ".venv", "bin", "python"), "-B", "run.py", pattern}
}

// runSuite runs one SDK's tests and reports each as a test of ours.
func runSuite(t *testing.T, s *server, dir string, command []string) {
	ctx, cancel := context.WithTimeout(context.Background(), suiteLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = filepath.Join(repository, "test", dir)
	cmd.Env = s.Env()
	cmd.WaitDelay = 5 * time.Second
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the suite (make sdks installs what it needs): %v", err)
	}
	count, failed := 0, 0
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var r result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Logf("%s", lines.Bytes())
			continue
		}
		if r.Name == "" {
			t.Log(r.Output)
			continue
		}
		count++
		t.Run(r.File+"/"+r.Name, func(t *testing.T) {
			t.Logf("took %.0f ms", r.Millis)
			switch {
			case r.Skipped:
				t.Skip("the suite skipped it")
			case !r.OK:
				failed++
				t.Error(r.Error)
			}
		})
	}
	err = cmd.Wait()
	if count == 0 {
		t.Fatalf("no test ran: %v\n%s", err, errors.String())
	}
	if err != nil && failed == 0 {
		t.Fatalf("the suite failed: %v\n%s", err, errors.String())
	}
}
