package test

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

// onDisk are flags of a server on which a paused sandbox is on the disk alone,
// so that every resume restores an image.
var onDisk = []string{"--linger", "0"}

// pause puts the sandbox to sleep; the test fails if it cannot.
func (b sandbox) pause() {
	b.s.t.Helper()
	if err := b.tryPause(); err != nil {
		b.s.t.Fatalf("pause %s: %v", b.SandboxID, err)
	}
}

func (b sandbox) tryPause() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return b.s.Client.Pause(ctx, b.SandboxID, true)
}

// resume wakes the sandbox for an hour; the test fails if it cannot.
func (b sandbox) resume() {
	b.s.t.Helper()
	if err := b.tryResume(client.ResumeOptions{}); err != nil {
		b.s.t.Fatalf("resume %s: %v", b.SandboxID, err)
	}
}

func (b sandbox) tryResume(o client.ResumeOptions) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	hour := time.Hour
	o.Timeout = &hour
	_, _, err := b.s.Client.Resume(ctx, b.SandboxID, o)
	return err
}

// reboot wakes the sandbox from its disk alone.
func (b sandbox) reboot() {
	b.s.t.Helper()
	if err := b.tryResume(client.ResumeOptions{Reboot: true}); err != nil {
		b.s.t.Fatalf("reboot %s: %v", b.SandboxID, err)
	}
}

// fork makes copies that live for an hour; the test fails unless all are made.
func (b sandbox) fork(count int) []sandbox {
	b.s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	made, err := b.s.Client.Fork(ctx, b.SandboxID, count, time.Hour)
	if err != nil {
		b.s.t.Fatalf("fork %s: %v", b.SandboxID, err)
	}
	var copies []sandbox
	for _, f := range made {
		if f.Error != nil {
			b.s.t.Fatalf("fork %s: a copy failed: %v", b.SandboxID, f.Error)
		}
		copies = append(copies, b.s.full(f.Sandbox.SandboxID))
	}
	if len(copies) != count {
		b.s.t.Fatalf("fork %s: %d copies, want %d", b.SandboxID, len(copies), count)
	}
	return copies
}

// kill ends the sandbox.
func (b sandbox) kill() {
	b.s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.s.Client.Kill(ctx, b.SandboxID); err != nil && !client.IsNotFound(err) {
		b.s.t.Errorf("end %s: %v", b.SandboxID, err)
	}
}

// now is what the server tells of the sandbox at this moment.
func (b sandbox) now() client.Sandbox {
	b.s.t.Helper()
	return b.s.full(b.SandboxID).Sandbox
}

// put writes a file in the sandbox as root.
func (b sandbox) put(path, content string) {
	b.s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.guest().As("root").Upload(ctx, path, strings.NewReader(content)); err != nil {
		b.s.t.Fatalf("%s in %s: %v", path, b.SandboxID, err)
	}
}

// clearSnapshots removes every snapshot.
func (s *server) clearSnapshots() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	all, err := s.Client.Snapshots(ctx, client.SnapshotFilter{})
	if err != nil {
		s.t.Errorf("list what is left: %v", err)
	}
	for _, one := range all {
		if err := s.Client.DeleteSnapshot(ctx, one.SnapshotID); err != nil && !client.IsNotFound(err) {
			s.t.Errorf("remove %s: %v", one.SnapshotID, err)
		}
	}
}

// TestSleepersOutliveTheServer stops and kills the server beneath sandboxes in
// every depth of sleep.
func TestSleepersOutliveTheServer(t *testing.T) {
	s := up(t)
	const count = `i=0; while :; do i=$((i+1)); echo $i > /dev/shm/count; sleep 0.05; done`
	kinds := map[string]sandbox{}
	for _, kind := range []string{"running", "paused", "paused and lingering", "paused without memory"} {
		b := s.create(time.Hour)
		b.put("/root/kept", kind)
		b.start(count)
		until(t, "it to count", func() bool { out, err := b.sh("cat /dev/shm/count"); return err == nil && out != "" })
		kinds[kind] = b
	}
	kinds["paused"].pause()
	if err := s.Client.Pause(t.Context(), kinds["paused without memory"].SandboxID, false); err != nil {
		t.Fatal(err)
	}
	s.end(syscall.SIGTERM) // what was lingering is not any more
	s.start()
	for i, end := range []func(){func() { s.end(syscall.SIGTERM) }, s.Kill, s.Kill} {
		if i == 1 {
			kinds["paused and lingering"].pause()
		}
		end()
		s.start()
		for kind, b := range kinds {
			want := client.StatePaused
			if kind == "running" || kind == "paused and lingering" && i == 0 {
				want = client.StateRunning
			}
			if got := b.now().State; got != want {
				t.Fatalf("after restart %d the one that was %s is %s", i, kind, got)
			}
		}
	}
	for kind, b := range kinds {
		if kind != "running" {
			b.resume()
		}
		if got := b.must("cat /root/kept"); got != kind {
			t.Errorf("%s: its disk says %q", kind, got)
		}
		if kind == "paused without memory" {
			if out, err := b.sh("cat /dev/shm/count"); err == nil {
				t.Errorf("%s: its memory is there: %q", kind, out)
			}
			continue
		}
		first := b.must("cat /dev/shm/count")
		until(t, kind+" to count on", func() bool { out, err := b.sh("cat /dev/shm/count"); return err == nil && out != first && out != "" })
	}
}

// TestAPausedSandboxIsNotCounted lets a team have as many paused ones as it likes.
func TestAPausedSandboxIsNotCounted(t *testing.T) {
	s := up(t, "--max-sandboxes", "1")
	var all []sandbox
	for range 3 {
		b := s.create(time.Hour)
		b.pause()
		all = append(all, b)
	}
	all[0].resume()
	if err := all[1].tryResume(client.ResumeOptions{}); client.Status(err) != 429 {
		t.Errorf("one too many was resumed: %v", err)
	}
	if made, err := s.Client.Fork(t.Context(), all[0].SandboxID, 2, time.Minute); err == nil {
		for _, f := range made {
			if f.Error == nil || f.Error.Status != 429 {
				t.Errorf("a copy too many was made: %+v", f)
			}
		}
	} else if client.Status(err) != 429 {
		t.Errorf("copies beyond the limit: %v", err)
	}
	all[0].alive()
	all[0].pause()
	all[1].resume()
	all[1].alive()
}

// createOf makes a sandbox of a template or snapshot.
func (s *server) createOf(template string) sandbox {
	s.t.Helper()
	return s.createWith(client.NewSandbox{TemplateID: template}, time.Hour)
}
