package e2b

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/machine"
)

// The published SDKs are where "make sdks" installs them; ATOLL_TEST_NODE_PATH
// and ATOLL_TEST_PYTHON name other places.
const sdks = "../../test"

func TestJavaScriptSDK(t *testing.T) {
	modules := place("ATOLL_TEST_NODE_PATH", filepath.Join(sdks, "js", "node_modules"))
	node := "node"
	if own, err := exec.LookPath(filepath.Join(sdks, ".node", "node_modules", ".bin", "node")); err == nil {
		node = own
	}
	for _, program := range []string{"control.cjs", "sleep.cjs"} {
		drive(t, "NODE_PATH="+modules, node, filepath.Join("testdata", program))
	}
}

func TestPythonSDK(t *testing.T) {
	python := place("ATOLL_TEST_PYTHON", filepath.Join(sdks, ".venv", "bin", "python"))
	for _, program := range []string{"control.py", "sleep.py"} {
		drive(t, "PYTHONDONTWRITEBYTECODE=1", python, filepath.Join("testdata", program))
	}
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

// drive runs a program with an SDK against a door whose engine is a fake.
// It gives a team that may have 6 sandboxes, and those with the metadata wake=damaged
// cannot be woken with their memory.
func drive(t *testing.T, env string, command ...string) {
	w := newWorld(t)
	if _, err := w.accounts.SetMaxConcurrent(t.Context(), w.team, 6); err != nil {
		t.Fatal(err)
	}
	start := w.clock()
	tick := func() { w.advance(time.Millisecond) } // so that lists have an order
	w.engine.set(func(f *fakeEngine) {
		f.createHit = tick
		f.damaged = func(m *machine.Machine) bool { return m.Metadata["wake"] == "damaged" }
		f.samples = []machine.Sample{{Time: start.Add(2 * time.Millisecond), CPUs: 2, MemUsed: 1234}}
	})

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), env, "E2B_API_KEY="+w.key, "E2B_API_URL="+w.server.URL)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %v (are the SDKs installed? make sdks)\n%s", command, err, out)
	}
}
