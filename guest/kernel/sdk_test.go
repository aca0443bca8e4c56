package kernel_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// The published SDKs are where "make sdks" installs them; ATOLL_TEST_NODE_PATH
// and ATOLL_TEST_PYTHON name other places.
const sdks = "../../test"

func TestJavaScriptSDK(t *testing.T) {
	node := "node"
	if own, err := exec.LookPath(filepath.Join(sdks, ".node", "node_modules", ".bin", "node")); err == nil {
		node = own
	}
	drive(t, "NODE_PATH="+place("ATOLL_TEST_NODE_PATH", filepath.Join(sdks, "js", "node_modules")), node, "testdata/interpreter.cjs")
}

func TestPythonSDK(t *testing.T) {
	drive(t, "PYTHONDONTWRITEBYTECODE=1", place("ATOLL_TEST_PYTHON", filepath.Join(sdks, ".venv", "bin", "python")), "testdata/interpreter.py")
}

func place(variable, usual string) string {
	if s := os.Getenv(variable); s != "" {
		return s
	}
	path, err := filepath.Abs(usual)
	if err != nil {
		return usual
	}
	return path
}

// drive runs a program with an SDK that takes the kernel server for a sandbox.
func drive(t *testing.T, env string, command ...string) {
	w := newWorld(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	// The shell tells how the program ended: the spawner may have reaped this
	// child before os/exec asks.
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `"$@"; echo "ended with $?"`, "sh"}, command...)...)
	cmd.WaitDelay = time.Second // a program outlives its shell
	cmd.Env = append(os.Environ(), env, "E2B_API_KEY=e2b_0000000000000000000000000000000000000000",
		"E2B_DEBUG=true", "E2B_API_URL="+w.url, "E2B_SANDBOX_URL="+w.url)
	out, err := cmd.CombinedOutput()
	if (err != nil && !errors.Is(err, syscall.ECHILD)) || !bytes.HasSuffix(out, []byte("ended with 0\n")) {
		t.Fatalf("%v: %v (are the SDKs installed? make sdks)\n%s", command, err, out)
	}
	t.Logf("%s", out)
}
