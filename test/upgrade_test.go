package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/test/harness"
)

// buildNext builds a server whose helper binaries are all of another version,
// the runtime included, as after an upgrade.
func buildNext(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	shell(t, []string{"ATOLL_SNAPSHOT_LEVEL=9999", "GOFLAGS=-buildvcs=false"}, "gvisor/build.sh", dir)
	files := filepath.Join(repository, "bundle", "files")
	guest, err := os.ReadFile(filepath.Join(files, "atoll-guest"))
	if err != nil {
		t.Fatal(err)
	}
	// What follows a program in its file changes what it is called, not what it does.
	if err := os.WriteFile(filepath.Join(dir, "atoll-guest"), append(guest, "next"...), 0o755); err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for _, name := range []string{"atoll-guest", "atoll-sandbox", "atoll-prewarm"} {
		replace[filepath.Join(files, name)] = filepath.Join(dir, name)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(dir, "atoll")
	shell(t, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-overlay", filepath.Join(dir, "overlay"), "-o", next, "./cmd/atoll")
	return next
}

// shell runs a command in the repository; the test ends if it fails.
func shell(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = repository, append(os.Environ(), env...)
	if !strings.Contains(name, "/") {
		cmd.Path, _ = exec.LookPath(name)
	} else {
		cmd.Path = filepath.Join(repository, name)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// TestAnUpgradeLosesNothing stops a server and starts one of another version
// beneath sandboxes that run, that are paused, and a snapshot; then goes back.
func TestAnUpgradeLosesNothing(t *testing.T) {
	next, err := harness.New(buildNext(t), dataDir, onDisk...)
	if err != nil {
		t.Fatal(err)
	}
	s := up(t, onDisk...)
	t.Cleanup(s.clearSnapshots)
	first := s.Server
	exchange := func(h *harness.Server) {
		t.Helper()
		s.end(syscall.SIGTERM)
		s.Server = h
		s.start()
	}
	running, paused, rebooted := s.newRecorder(), s.newRecorder(), s.newRecorder()
	snapshot, err := s.Client.Snapshot(t.Context(), paused.SandboxID, "")
	if err != nil {
		t.Fatal(err)
	}
	all := func(when string, sandboxes ...*recorder) {
		t.Helper()
		for _, r := range sandboxes {
			if err := r.verify(); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
		}
	}
	all("before", running, paused, rebooted)
	paused.pause()
	rebooted.pause()

	exchange(next)
	paused.resume()
	all("after the upgrade", running, paused)
	rebooted.reboot()
	if err := rebooted.verifyDisk(); err != nil {
		t.Error(err)
	}
	later := s.newRecorder()
	ofSnapshot := &recorder{sandbox: s.createOf(snapshot.SnapshotID)}
	all("made after the upgrade", later, ofSnapshot)
	for _, r := range []*recorder{running, paused} { // on the version they were made with
		r.pause()
		r.resume()
		all("asleep after the upgrade", r, &recorder{sandbox: r.fork(1)[0]})
	}
	for _, r := range []*recorder{paused, later} {
		r.pause()
	}

	exchange(first)
	paused.resume()
	later.resume()
	all("after going back", running, paused, later, ofSnapshot)
	rebooted.alive()
	s.create(time.Minute).alive()
}
