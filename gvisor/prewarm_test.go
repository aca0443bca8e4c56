package gvisor

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A process that cannot be put under its limits must not start.
func TestPrewarmRefusesToRunWithoutLimits(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name, join string
		code       int
	}{
		{"no list", "", 111},
		{"no such cgroup", "/sys/fs/cgroup/missing/tasks\n", 112},
		{"nothing to join", "\n", 112},
	} {
		if c.join != "" {
			if err := os.WriteFile(filepath.Join(dir, "join"), []byte(c.join), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := exec.Command(filepath.Join(binDir, "atoll-prewarm"), "/bin/true", "true", "--bundle="+dir).Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != c.code {
			t.Errorf("%s: %v, want exit code %d", c.name, err, c.code)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "join"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(filepath.Join(binDir, "atoll-prewarm"), "/bin/true", "true", "--bundle="+dir).Run(); err != nil {
		t.Errorf("an empty list: %v", err)
	}
}
