package machine

import (
	"strings"
	"testing"
	"time"
)

func TestAHoldCountsAsUseUntilItEnds(t *testing.T) {
	now := time.Now()
	u := &use{}
	u.last.Store(now.Add(-time.Hour).UnixNano())
	if idle := u.idle(now); idle < time.Hour {
		t.Errorf("unused it is idle for %s", idle)
	}
	u.hold(now, now.Add(time.Minute))
	u.hold(now, now.Add(time.Second)) // of another who holds it, for less
	if !u.busy(now.Add(59*time.Second)) || u.idle(now.Add(59*time.Second)) != 0 {
		t.Error("it is not held for a minute")
	}
	if idle := u.idle(now.Add(90 * time.Second)); idle != 30*time.Second {
		t.Errorf("30 s after the hold it is idle for %s", idle)
	}
	u.hold(now, now.Add(24*time.Hour))
	if u.busy(now.Add(MaxHold)) {
		t.Error("it is held for more than the longest time")
	}
	u.hold(now, now)
	if u.busy(now) {
		t.Error("a hold that has passed does not end it")
	}
}

func TestWhoIsCounted(t *testing.T) {
	for _, c := range []struct {
		machine Machine
		want    bool
	}{
		{Machine{State: Running}, true},
		{Machine{State: Stored}, true}, // by the engine, and its deadline runs on
		{Machine{State: Stored, Paused: true}, false},
		{Machine{State: Running, Lifecycle: Lifecycle{Lasting: true}}, true},
		{Machine{State: Frozen, Lifecycle: Lifecycle{Lasting: true}}, true},
		{Machine{State: Stored, Lifecycle: Lifecycle{Lasting: true}}, false},
	} {
		if got := c.machine.counted(); got != c.want {
			t.Errorf("%+v: counted %v", c.machine, got)
		}
	}
}

func TestCheckpointsAreNumberedUp(t *testing.T) {
	m := newInstance(Machine{ID: "i", State: Running, LastCheckpoint: 2}, nil)
	if n := m.nextCheckpoint(); n != 3 {
		t.Errorf("after v2 was deleted comes v%d", n)
	}
	at := noon
	m.setCheckpoints([]Checkpoint{
		{ID: "v1", CreatedAt: at}, {ID: "v5", CreatedAt: at.Add(time.Minute)},
		{ID: "pre-restore-v1-9999", Auto: true, CreatedAt: at.Add(2 * time.Minute)},
	})
	if n := m.nextCheckpoint(); n != 6 {
		t.Errorf("after v5 comes v%d", n)
	}
	if source := m.lastCheckpoint(); source != "v5" {
		t.Errorf("the disk came from %q", source)
	}
	m.rec.Restored = Restored{Checkpoint: "v1", At: at.Add(3 * time.Minute)}
	if source := m.lastCheckpoint(); source != "v1" {
		t.Errorf("after a restore the disk came from %q", source)
	}
	first := m.automaticID("v1", at)
	m.setCheckpoints(append(m.checkpoints(), Checkpoint{ID: first, Auto: true}))
	if again := m.automaticID("v1", at); again == first || !strings.HasPrefix(again, "pre-restore-v1-") {
		t.Errorf("two restores within a second: %s and %s", first, again)
	}
}

func TestNamesOfMachinesToBeAreTaken(t *testing.T) {
	e := &Engine{instances: map[string]*instance{}}
	first := Machine{Team: "t", Name: "n", Host: "h"}
	if err := e.takeNames(first); err != nil {
		t.Fatal(err)
	}
	if err := e.takeNames(first); err == nil {
		t.Error("two of a name are being made")
	}
	if _, err := e.Named("t", "n"); err == nil {
		t.Error("one that is being made is found")
	}
	e.giveNames(first)
	if err := e.takeNames(first); err != nil {
		t.Errorf("after one could not be made: %v", err)
	}
	for range 3 { // machines without names do not stand in each other's way
		if err := e.takeNames(Machine{Team: "t"}); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatACheckpointHoldsCountsAgainstTheDisk(t *testing.T) {
	for _, c := range []struct{ base, want int64 }{
		{0, 1000 * mib},
		{300 * mib, 700 * mib},
		{1000 * mib, diskLeast},
		{5000 * mib, diskLeast},
	} {
		if got := diskLimit(1000, c.base); got != c.want {
			t.Errorf("1000 MiB of which %d are used: %d", c.base, got)
		}
	}
}
