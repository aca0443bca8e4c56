package test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

// recorder is a sandbox in which a program writes numbered records to memory,
// to a file and to SQLite.
type recorder struct {
	sandbox
	seen int // records that are known to be there
}

func (s *server) newRecorder() *recorder {
	s.t.Helper()
	r := &recorder{sandbox: s.create(time.Hour)}
	r.run("records.py", 8000)
	return r
}

func (r *recorder) ask(path string) (int, error) {
	code, body, err := r.get(8000, path)
	if err != nil || code != 200 {
		return 0, fmt.Errorf("%s of %s: %d %s %w", path, r.SandboxID, code, body, err)
	}
	return strconv.Atoi(string(body))
}

// look notes how many records there are, without reading them.
func (r *recorder) look() error {
	n, err := r.ask("/count")
	if err == nil {
		r.seen = max(r.seen, n)
	}
	return err
}

// verify compares memory, file and database with each other, and with what was
// seen before.
func (r *recorder) verify() error {
	n, err := r.ask("/")
	if err == nil && n < r.seen {
		err = fmt.Errorf("%s: %d records, there have been %d", r.SandboxID, n, r.seen)
	}
	r.seen = max(r.seen, n)
	return err
}

// verifyDisk compares file and database with what was seen before, where the
// program does not run any more.
func (r *recorder) verifyDisk() error {
	out, err := r.sh("python3 /root/records.py verify")
	if err != nil {
		return err
	}
	if n, err := strconv.Atoi(strings.TrimSpace(out)); err != nil || n < r.seen {
		return fmt.Errorf("%s: %q records on the disk, there have been %d", r.SandboxID, out, r.seen)
	}
	return nil
}

// span is how long tests last that go on until their time is over.
// ATOLL_TEST_SPAN=10m makes them look harder.
func span(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("ATOLL_TEST_SPAN")
	if s == "" {
		return 25 * time.Second
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestRecordsAreNeitherTornNorLost puts sandboxes that write without a pause to
// sleep, copies, snapshots and ends them at random moments.
func TestRecordsAreNeitherTornNorLost(t *testing.T) {
	s := up(t, "--linger", "100ms")
	t.Cleanup(s.clearSnapshots)
	end := time.Now().Add(span(t))
	var wait sync.WaitGroup
	for range 3 {
		r := s.newRecorder()
		wait.Go(func() {
			done := map[string]int{}
			for time.Now().Before(end) {
				<-time.After(time.Duration(rand.IntN(150)) * time.Millisecond)
				what, err := r.disturb()
				if err == nil {
					err = r.verify()
				}
				if err != nil {
					t.Errorf("%s: %v", what, err)
					return
				}
				done[what]++
			}
			if err := r.fromDisk(); err != nil {
				t.Error(err)
			}
			t.Logf("%s: %d records, %v", r.SandboxID, r.seen, done)
		})
	}
	wait.Wait()
}

// disturb does one thing to the sandbox, and says what.
func (r *recorder) disturb() (what string, err error) {
	if err := r.look(); err != nil {
		return "look", err
	}
	ctx := r.s.t.Context()
	switch rand.IntN(6) {
	case 0, 1:
		if err = r.tryPause(); err == nil {
			err = r.tryResume(client.ResumeOptions{})
		}
		return "pause and resume", err
	case 2:
		if err = r.tryPause(); err == nil {
			<-time.After(150 * time.Millisecond) // its memory is given back
			err = r.tryResume(client.ResumeOptions{})
		}
		return "pause, and resume later", err
	case 3:
		made, err := r.s.Client.Fork(ctx, r.SandboxID, 2, time.Hour)
		for _, f := range made {
			if err == nil && f.Error != nil {
				err = f.Error
			}
			if err == nil {
				err = r.copied(f.Sandbox.SandboxID)
			}
		}
		return "fork", err
	case 4:
		snapshot, err := r.s.Client.Snapshot(ctx, r.SandboxID, "")
		if err != nil {
			return "snapshot", err
		}
		made, err := r.s.Client.Create(ctx, client.NewSandbox{TemplateID: snapshot.SnapshotID, Secure: true})
		if err == nil {
			err = r.copied(made.SandboxID)
		}
		if err == nil {
			err = r.s.Client.DeleteSnapshot(ctx, snapshot.SnapshotID)
		}
		return "snapshot", err
	default:
		// A copy is ended in the middle of its sleep.
		made, err := r.s.Client.Fork(ctx, r.SandboxID, 1, time.Hour)
		if err != nil || made[0].Error != nil {
			return "fork and kill", fmt.Errorf("%w %v", err, made)
		}
		paused := make(chan struct{})
		go func() {
			defer close(paused)
			_ = r.s.Client.Pause(ctx, made[0].Sandbox.SandboxID, true) // it may be gone
		}()
		<-time.After(time.Duration(rand.IntN(60)) * time.Millisecond)
		err = r.s.Client.Kill(ctx, made[0].Sandbox.SandboxID)
		<-paused
		return "fork and kill", err
	}
}

// copied verifies a copy, in memory and after a reboot, and ends it.
func (r *recorder) copied(id string) error {
	c := &recorder{sandbox: r.s.full(id), seen: r.seen}
	err := c.verify()
	if err == nil && rand.IntN(3) == 0 {
		err = c.fromDisk()
	}
	if err != nil {
		return fmt.Errorf("a copy: %w", err)
	}
	return r.s.Client.Kill(r.s.t.Context(), id)
}

// fromDisk pauses the sandbox and starts it from its disk: what was there at
// the pause must be on it.
func (r *recorder) fromDisk() error {
	if err := r.look(); err != nil {
		return err
	}
	if err := r.tryPause(); err != nil {
		return err
	}
	if err := r.tryResume(client.ResumeOptions{Reboot: true}); err != nil {
		return err
	}
	return r.verifyDisk()
}
