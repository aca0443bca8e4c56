package test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/machine"
)

// pool is the engine's disk pool, and checkpointFolder where a machine's
// checkpoints are in it.
func (e *engine) pool() string { return filepath.Join(engineDir(), "disks", "pool", "trees") }

func (e *engine) checkpointFolder(id string) string {
	return filepath.Join(e.pool(), "checkpoints", id)
}

// counting is a program that counts in memory.
const counting = `setsid bash -c 'i=0; while :; do i=$((i+1)); echo $i > /dev/shm/count; sleep 0.02; done' >/dev/null 2>&1 </dev/null &`

// TestALastingMachineOutlivesItsGuest ends the guest in every way there is.
func TestALastingMachineOutlivesItsGuest(t *testing.T) {
	e := useEngine(t, nil)
	m := e.create(t, sprite("one"))
	stored := func() machine.Machine {
		t.Helper()
		var now machine.Machine
		until(t, "it to be on its disk", func() bool {
			now, _ = e.Get(m.ID)
			return now.State == machine.Stored
		})
		return now
	}
	for _, end := range []struct {
		name, fresh string
		do          func()
	}{
		{"killed from outside", machine.ReasonExited, func() { killGuest(t, m.ID) }},
		{"out of memory", machine.ReasonMemory, func() { _, _ = e.sh(t.Context(), m.ID, "head -c 4G /dev/zero | tail > /dev/null") }},
		{"lost while the server was down", machine.ReasonLost, func() {
			if err := e.close(false); err != nil {
				t.Fatal(err)
			}
			until(t, "all processes to end", func() bool { return killGuest(t, m.ID) == 0 })
			next, err := openEngine(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			*e = *next
		}},
	} {
		e.must(t, m.ID, "echo "+strconv.Quote(end.name)+" > /root/f; touch /dev/shm/f")
		end.do()
		now := stored()
		if now.Image != nil || now.Slot != 0 || now.Fresh != end.fresh {
			t.Errorf("%s: it is %+v", end.name, now)
		}
		if got := e.must(t, m.ID, "cat /root/f; ls /dev/shm"); got != end.name {
			t.Errorf("%s: afterwards it has %q", end.name, got)
		}
		if now, _ := e.Get(m.ID); now.State != machine.Running || now.Fresh != end.fresh {
			t.Errorf("%s: in use it is %+v", end.name, now)
		}
	}
	restarted, err := e.Restart(t.Context(), m.ID)
	if err != nil || restarted.Fresh != "" || restarted.State != machine.Running {
		t.Errorf("after a restart it is %+v, %v", restarted, err)
	}
	e.must(t, m.ID, "test -s /root/f")
	e.sink(t, m.ID, machine.Stored)
	if _, err := e.Restart(t.Context(), m.ID); err != nil {
		t.Error(err)
	}
	e.must(t, m.ID, "test -s /root/f")
}

// TestALastingMachineSleepsThroughTheServersEnd keeps its memory when all other
// machines are ended.
func TestALastingMachineSleepsThroughTheServersEnd(t *testing.T) {
	e := useEngine(t, nil)
	m := e.create(t, sprite("one"))
	if _, err := e.EditDoor(t.Context(), m.ID, func(door map[string]string) { door["k"] = "v" }); err != nil {
		t.Fatal(err)
	}
	e.must(t, m.ID, counting)
	until(t, "it to count", func() bool { out, err := e.sh(t.Context(), m.ID, "cat /dev/shm/count"); return err == nil && out != "" })
	for _, depth := range []machine.State{machine.Running, machine.Frozen, machine.Stored} {
		e.sink(t, m.ID, depth)
		e.reopen(t, nil, true)
		now, err := e.Named("team", "one")
		if err != nil || now.ID != m.ID || now.State != machine.Stored || now.Image == nil || now.Door["k"] != "v" {
			t.Fatalf("one that was %s is %+v, %v", depth, now, err)
		}
		first := e.must(t, m.ID, "cat /dev/shm/count")
		until(t, "it to count on", func() bool {
			out, err := e.sh(t.Context(), m.ID, "cat /dev/shm/count")
			return err == nil && out > "" && out != first
		})
	}
}

// TestALastingMachineWhoseImageIsDamagedStartsFresh, and says so.
func TestALastingMachineWhoseImageIsDamagedStartsFresh(t *testing.T) {
	e := useEngine(t, nil)
	m := e.create(t, sprite("one"))
	for _, file := range []string{"pages.img", "image.json", ""} {
		e.must(t, m.ID, "echo kept > /root/f; touch /dev/shm/f")
		e.sink(t, m.ID, machine.Stored)
		path := filepath.Join(e.pool(), "memories", "@", m.ID, file)
		if file == "" {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		} else if err := os.Truncate(path, 100); err != nil {
			t.Fatal(err)
		}
		if got := e.must(t, m.ID, "cat /root/f; ls /dev/shm"); got != "kept" {
			t.Errorf("without %q it has %q", file, got)
		}
		if now, _ := e.Get(m.ID); !strings.Contains(now.Fresh, "damaged") {
			t.Errorf("without %q it says %q", file, now.Fresh)
		}
	}
	// The memory of a checkpoint likewise.
	c := e.checkpoint(t, m.ID, machine.CheckpointSpec{Memory: true})
	if got, _ := e.Get(m.ID); !strings.Contains(got.Fresh, "damaged") {
		t.Errorf("a checkpoint changed why it started fresh: %q", got.Fresh)
	}
	if restored := e.restore(t, m.ID, c.ID); restored.Fresh != "" {
		t.Errorf("after a restore it says %q", restored.Fresh)
	}
}

func TestNamesAreUniqueAndFreeAgain(t *testing.T) {
	e := useEngine(t, nil)
	ctx := t.Context()
	m := e.create(t, sprite("one"))
	if _, err := e.Create(ctx, sprite("one")); !errors.Is(err, machine.ErrConflict) || errors.Is(err, machine.ErrHostTaken) {
		t.Errorf("a second of that name: %v", err)
	}
	other := sprite("one")
	other.Team = "other"
	if _, err := e.Create(ctx, other); !errors.Is(err, machine.ErrHostTaken) {
		t.Errorf("a second of that host: %v", err)
	}
	other.Host = "one-x"
	theirs := e.create(t, other)
	e.reopen(t, nil, false)
	for name, find := range map[string]func() (machine.Machine, error){
		m.ID:      func() (machine.Machine, error) { return e.Named("team", "one") },
		theirs.ID: func() (machine.Machine, error) { return e.AtHost("one-x") },
	} {
		if found, err := find(); err != nil || found.ID != name {
			t.Errorf("found %s, %v", found.ID, err)
		}
	}
	if err := e.Kill(ctx, m.ID, machine.ReasonKilled); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Named("team", "one"); !errors.Is(err, machine.ErrNotFound) {
		t.Errorf("one that ended: %v", err)
	}
	if again := e.create(t, sprite("one")); again.ID == m.ID {
		t.Error("it is the same")
	}
	nameless := sprite("")
	if _, err := e.Create(ctx, nameless); !errors.Is(err, machine.ErrInvalid) {
		t.Errorf("a sprite without a name: %v", err)
	}
	if _, err := e.Fork(ctx, theirs.ID, machine.ForkSpec{Count: 1, Timeout: time.Minute}); !errors.Is(err, machine.ErrInvalid) {
		t.Errorf("a fork of a sprite: %v", err)
	}
}

// TestOnlyUseKeepsASpriteAwake however busy its programs are; a hold counts as use.
func TestOnlyUseKeepsASpriteAwake(t *testing.T) {
	e := useEngine(t, nil)
	spec := sprite("one")
	spec.Lifecycle.Idle = &machine.IdlePolicy{Freeze: 500 * time.Millisecond, Store: time.Hour, IgnoreCPU: true}
	m := e.create(t, spec)
	e.must(t, m.ID, "setsid bash -c 'while :; do :; done' >/dev/null 2>&1 </dev/null &")
	frozen := func() bool { now, _ := e.Get(m.ID); return now.State == machine.Frozen }
	until(t, "it to freeze", frozen)
	e.must(t, m.ID, "true")
	until := func(d time.Duration) time.Time { return time.Now().Add(d) }
	if err := e.Hold(m.ID, until(3*time.Second)); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(2500 * time.Millisecond)
	for time.Now().Before(end) {
		if frozen() {
			t.Fatal("it sleeps though it is held")
		}
		<-time.After(20 * time.Millisecond)
	}
	waitFor(t, "it to freeze after the hold", frozen)
	if err := e.Hold("nobody", until(time.Second)); !errors.Is(err, machine.ErrNotFound) {
		t.Errorf("a hold of nobody: %v", err)
	}
}

func waitFor(t testing.TB, what string, f func() bool) { t.Helper(); until(t, what, f) }

// TestSleepersAreNotCounted lets a team have as many sprites as it likes that
// are on the disk alone.
func TestSleepersAreNotCounted(t *testing.T) {
	limit := func(c *machine.Config) { c.TeamLimit = func(string) int { return 1 } }
	e := useEngine(t, limit)
	create := func(name string) (machine.Machine, error) {
		spec := sprite(name)
		spec.MaxConcurrent = 1
		return e.Create(t.Context(), spec)
	}
	one, err := create("one")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := create("two"); !errors.Is(err, machine.ErrLimit) {
		t.Errorf("one too many: %v", err)
	}
	e.sink(t, one.ID, machine.Stored)
	two, err := create("two")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.sh(t.Context(), one.ID, "true"); !errors.Is(err, machine.ErrLimit) {
		t.Errorf("one too many woke: %v", err)
	}
	e.reopen(t, limit, false)
	killGuest(t, two.ID)
	until(t, "the other to be on its disk", func() bool { now, _ := e.Get(two.ID); return now.State == machine.Stored })
	e.must(t, one.ID, "true")
	if _, err := e.RestoreCheckpoint(t.Context(), one.ID, e.checkpoint(t, one.ID, machine.CheckpointSpec{}).ID); err != nil {
		t.Errorf("a restore needs a place more: %v", err)
	}
	if err := e.Kill(t.Context(), one.ID, machine.ReasonKilled); err != nil {
		t.Fatal(err)
	}
	e.must(t, two.ID, "true")
}
