package test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// upWithInterpreter starts a server that has the template of the
// code-interpreter SDKs too. It is built once per data directory.
func upWithInterpreter(t *testing.T) *server {
	t.Helper()
	s := up(t, "--templates", "base,code-interpreter-v1")
	if err := s.AwaitTemplate(t.Context(), "code-interpreter-v1"); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCodeInterpreterSDKs(t *testing.T) {
	s := upWithInterpreter(t)
	t.Run("js", func(t *testing.T) { runSuite(t, s.in(t), "js", javaScript("interpreter/*.test.mjs")) })
	t.Run("py", func(t *testing.T) { runSuite(t, s.in(t), "py", python("interpreter_*.py")) })
}

// TestExamples runs agents of frameworks, with a script in place of the model.
// The frameworks bring hundreds of megabytes each, so those run that are asked
// for in ATOLL_TEST_EXAMPLES.
func TestExamples(t *testing.T) {
	names := strings.Fields(os.Getenv("ATOLL_TEST_EXAMPLES"))
	if len(names) == 0 {
		t.Skip("frameworks take ten minutes to install: make examples tests them")
	}
	s := upWithInterpreter(t)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(repository, "examples", name)
			began := time.Now()
			python := environment(t, dir)
			t.Logf("its packages were there after %v", time.Since(began).Round(time.Second))
			ctx, cancel := context.WithTimeout(t.Context(), suiteLimit)
			defer cancel()
			cmd := exec.CommandContext(ctx, python, "-B", "-W", "ignore", "test_agent.py")
			cmd.Dir, cmd.Env = dir, s.Env()
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// environment installs an example's packages beside it, unless those very
// versions are there, and returns its Python.
func environment(t *testing.T, dir string) string {
	t.Helper()
	venv := filepath.Join(dir, ".venv")
	python := filepath.Join(venv, "bin", "python")
	asked, err := os.ReadFile(filepath.Join(dir, "requirements.txt"))
	if err != nil {
		t.Fatal(err)
	}
	stamp := filepath.Join(venv, "installed.txt")
	if installed, err := os.ReadFile(stamp); err == nil && bytes.Equal(installed, asked) {
		return python
	}
	ctx, cancel := context.WithTimeout(t.Context(), suiteLimit)
	defer cancel()
	for _, command := range [][]string{
		{"python3", "-m", "venv", "--clear", venv},
		{python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", "requirements.txt"},
	} {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", command, err, out)
		}
	}
	if err := os.WriteFile(stamp, asked, 0o644); err != nil {
		t.Fatal(err)
	}
	return python
}
