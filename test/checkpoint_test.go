package test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/machine"
)

// TestCheckpointSeesWhatTheGuestSees: files that a program writes while others
// read them are in the guest's memory for a while; a checkpoint has them whole.
func TestCheckpointSeesWhatTheGuestSees(t *testing.T) {
	e := useEngine(t, nil)
	m := e.create(t, sprite("one"))
	e.must(t, m.ID, `cd /root; echo a > f; cat f; echo b >> f; cat f; echo c >> f`)
	c, err := e.CreateCheckpoint(t.Context(), m.ID, machine.CheckpointSpec{})
	if err != nil {
		t.Fatal(err)
	}
	e.must(t, m.ID, `cd /root; rm f; echo changed > g`)
	if _, err := e.RestoreCheckpoint(t.Context(), m.ID, c.ID); err != nil {
		t.Fatal(err)
	}
	if got := e.must(t, m.ID, `cd /root; cat f; ls g 2>/dev/null || echo none`); got != "a\nb\nc\nnone" {
		t.Errorf("after the restore there is %q", got)
	}
}

func (e *engine) checkpoint(t testing.TB, id string, spec machine.CheckpointSpec) machine.Checkpoint {
	t.Helper()
	c, err := e.CreateCheckpoint(t.Context(), id, spec)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (e *engine) restore(t testing.TB, id, checkpoint string) machine.Machine {
	t.Helper()
	m, err := e.RestoreCheckpoint(t.Context(), id, checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (e *engine) ids(t testing.TB, id string) []string {
	t.Helper()
	all, err := e.Checkpoints(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]string, 0, len(all))
	for _, c := range all {
		ids = append(ids, c.ID)
	}
	return ids
}

func TestCheckpointsAreListedAndNumbered(t *testing.T) {
	e := useEngine(t, nil)
	m := e.create(t, sprite("one"))
	e.must(t, m.ID, "head -c 20M /dev/urandom > /root/f; sync")
	first := e.checkpoint(t, m.ID, machine.CheckpointSpec{Comment: "before it"})
	if first.ID != "v1" || first.Comment != "before it" || first.Source != "" || first.Bytes < 20*mib || first.Auto || first.Machine != m.ID {
		t.Errorf("the first is %+v", first)
	}
	second := e.checkpoint(t, m.ID, machine.CheckpointSpec{})
	if second.ID != "v2" || second.Source != "v1" {
		t.Errorf("the second is %+v", second)
	}
	for _, id := range []string{"v2", "v1"} {
		if err := e.DeleteCheckpoint(t.Context(), m.ID, id); err != nil {
			t.Fatal(err)
		}
	}
	e.reopen(t, nil, false)
	if third := e.checkpoint(t, m.ID, machine.CheckpointSpec{}); third.ID != "v3" {
		t.Errorf("a number was given again: %+v", third)
	}
	restored := e.restore(t, m.ID, "v3")
	if restored.Restored.Checkpoint != "v3" || restored.State != machine.Running || restored.Fresh != "" {
		t.Errorf("after the restore it is %+v", restored)
	}
	fourth := e.checkpoint(t, m.ID, machine.CheckpointSpec{})
	if fourth.ID != "v4" || fourth.Source != "v3" {
		t.Errorf("after a restore the next is %+v", fourth)
	}
	ids := e.ids(t, m.ID)
	if len(ids) != 3 || ids[0] != "v3" || !strings.HasPrefix(ids[1], "pre-restore-v3-") || ids[2] != "v4" {
		t.Errorf("there are %v", ids)
	}
	e.reopen(t, nil, false)
	if again := e.ids(t, m.ID); !slices.Equal(again, ids) {
		t.Errorf("the next server knows %v, this one knew %v", again, ids)
	}
	// What was there before the restore is there as well.
	e.must(t, m.ID, "rm /root/f")
	e.restore(t, m.ID, ids[1])
	e.must(t, m.ID, "test $(wc -c < /root/f) = 20971520")
}

func TestCheckpointsThatCannotBe(t *testing.T) {
	e := useEngine(t, nil)
	m := e.create(t, sprite("one"))
	c := e.checkpoint(t, m.ID, machine.CheckpointSpec{})
	ctx := t.Context()
	for what, err := range map[string]error{
		"restore of none":     second(e.RestoreCheckpoint(ctx, m.ID, "v9")),
		"restore of a path":   second(e.RestoreCheckpoint(ctx, m.ID, "../v1")),
		"restore of nobody's": second(e.RestoreCheckpoint(ctx, "nobody", "v1")),
		"delete of none":      e.DeleteCheckpoint(ctx, m.ID, "v9"),
		"list of nobody's":    second(e.Checkpoints(ctx, "nobody")),
		"one of nobody":       second(e.CreateCheckpoint(ctx, "nobody", machine.CheckpointSpec{})),
		"from none":           second(e.Create(ctx, from("two", m.ID, "v9"))),
		"from nobody's":       second(e.Create(ctx, from("two", "nobody", "v1"))),
		"from another team's": second(e.Create(ctx, func() machine.CreateSpec { s := from("two", m.ID, c.ID); s.Team = "other"; return s }())),
	} {
		if !errors.Is(err, machine.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := e.CreateCheckpoint(ctx, m.ID, machine.CheckpointSpec{Comment: strings.Repeat("x", 5000)}); !errors.Is(err, machine.ErrInvalid) {
		t.Errorf("a long comment: %v", err)
	}
	if ids := e.ids(t, m.ID); !slices.Equal(ids, []string{"v1"}) {
		t.Errorf("what failed left %v", ids)
	}
	e.must(t, m.ID, "true")
}

func second[V any](_ V, err error) error { return err }

// from asks for a sprite made of a checkpoint.
func from(name, source, id string) machine.CreateSpec {
	spec := sprite(name)
	spec.From = &machine.CheckpointRef{Machine: source, ID: id}
	return spec
}

// TestRestoresAtOnce asks for restores and checkpoints at the same time: one
// restore is done, the other is refused or done after it, and nothing is lost.
func TestRestoresAtOnce(t *testing.T) {
	e := useEngine(t, nil)
	m := e.create(t, sprite("one"))
	e.must(t, m.ID, "echo 1 > /root/f")
	e.checkpoint(t, m.ID, machine.CheckpointSpec{})
	e.must(t, m.ID, "echo 2 > /root/f")
	e.checkpoint(t, m.ID, machine.CheckpointSpec{})
	var group sync.WaitGroup
	results := make([]error, 6)
	for i := range results {
		group.Go(func() {
			if i < 4 {
				_, results[i] = e.RestoreCheckpoint(context.Background(), m.ID, fmt.Sprintf("v%d", 1+i%2))
			} else {
				_, results[i] = e.CreateCheckpoint(context.Background(), m.ID, machine.CheckpointSpec{})
			}
		})
	}
	group.Wait()
	done := 0
	for i, err := range results {
		switch {
		case err == nil && i < 4:
			done++
		case err != nil && (i >= 4 || !errors.Is(err, machine.ErrConflict)):
			t.Errorf("%d: %v", i, err)
		}
	}
	if _, err := e.RestoreCheckpoint(context.Background(), m.ID, "v9"); !errors.Is(err, machine.ErrNotFound) {
		t.Errorf("a restore of none after all: %v", err)
	}
	if done == 0 {
		t.Errorf("no restore was done: %v", results)
	}
	if got := e.must(t, m.ID, "cat /root/f"); got != "1" && got != "2" {
		t.Errorf("it has %q", got)
	}
	if ids := e.ids(t, m.ID); len(ids) != 4+done {
		t.Errorf("after %d restores there are %v", done, ids)
	}
}

// TestARestoreEndsWhatRuns: who waits for a program hears at once that it is gone.
func TestARestoreEndsWhatRuns(t *testing.T) {
	e := useEngine(t, nil)
	m := e.create(t, sprite("one"))
	c := e.checkpoint(t, m.ID, machine.CheckpointSpec{})
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		close(began)
		_, err := e.sh(context.Background(), m.ID, "touch /dev/shm/runs; sleep 1000")
		ended <- err
	}()
	<-began
	until(t, "it to run", func() bool { _, err := e.sh(t.Context(), m.ID, "test -e /dev/shm/runs"); return err == nil })
	e.restore(t, m.ID, c.ID)
	if err := <-ended; err == nil {
		t.Error("what ran has ended as if all were well")
	}
	e.must(t, m.ID, "! pgrep sleep && ! test -e /dev/shm/runs")
}

// TestRestoreFromEveryDepthOfSleep, of a disk and of memory, which goes on where
// it was, while what ran in between does not.
func TestRestoreFromEveryDepthOfSleep(t *testing.T) {
	e := useEngine(t, nil)
	m := e.create(t, sprite("one"))
	const count = `setsid bash -c 'i=0; while :; do i=$((i+1)); echo $i > /dev/shm/count; sleep 0.02; done' >/dev/null 2>&1 </dev/null &`
	e.must(t, m.ID, "echo then > /root/f; "+count)
	until(t, "it to count", func() bool {
		out, err := e.sh(t.Context(), m.ID, "cat /dev/shm/count")
		return err == nil && out > "10"
	})
	disk := e.checkpoint(t, m.ID, machine.CheckpointSpec{})
	memory := e.checkpoint(t, m.ID, machine.CheckpointSpec{Memory: true})
	if disk.Image != nil || memory.Image == nil || memory.Image.Bytes == 0 {
		t.Fatalf("they are %+v and %+v", disk, memory)
	}
	for _, depth := range []machine.State{machine.Running, machine.Frozen, machine.Stored} {
		for _, c := range []machine.Checkpoint{disk, memory} {
			e.must(t, m.ID, "echo now > /root/f; echo now > /dev/shm/now")
			e.sink(t, m.ID, depth)
			asleep := e.checkpoint(t, m.ID, machine.CheckpointSpec{})
			if got, _ := e.Get(m.ID); got.State != depth {
				t.Errorf("a checkpoint made one that was %s %s", depth, got.State)
			}
			e.restore(t, m.ID, c.ID)
			if got := e.must(t, m.ID, "cat /root/f; cat /dev/shm/now 2>/dev/null || echo none"); got != "then\nnone" {
				t.Errorf("%s, of %s: it has %q", depth, c.ID, got)
			}
			if c.Image != nil {
				first := e.must(t, m.ID, "cat /dev/shm/count")
				until(t, "it to count on", func() bool {
					out, err := e.sh(t.Context(), m.ID, "cat /dev/shm/count")
					return err == nil && out != "" && out != first
				})
			}
			e.restore(t, m.ID, asleep.ID)
			if got := e.must(t, m.ID, "cat /root/f"); got != "now" {
				t.Errorf("%s: what was kept of it asleep has %q", depth, got)
			}
		}
	}
}

// sink puts a machine to sleep that deep, as the engine does with idle ones.
func (e *engine) sink(t testing.TB, id string, depth machine.State) {
	t.Helper()
	policy := &machine.IdlePolicy{IgnoreCPU: true}
	if depth != machine.Running {
		policy.Freeze = time.Millisecond
	}
	if depth == machine.Stored {
		policy.Store = time.Millisecond
	}
	if _, err := e.SetIdle(t.Context(), id, policy); err != nil {
		t.Fatal(err)
	}
	until(t, "it to sleep", func() bool { m, err := e.Get(id); return err == nil && m.State == depth })
	if _, err := e.SetIdle(t.Context(), id, &machine.IdlePolicy{IgnoreCPU: true}); err != nil {
		t.Fatal(err)
	}
}

// TestASpriteFromACheckpoint is a copy with names and an identity of its own.
func TestASpriteFromACheckpoint(t *testing.T) {
	e := useEngine(t, nil)
	source := e.create(t, sprite("one"))
	e.must(t, source.ID, "echo kept > /root/f; setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo in memory > /dev/shm/f")
	disk := e.checkpoint(t, source.ID, machine.CheckpointSpec{})
	memory := e.checkpoint(t, source.ID, machine.CheckpointSpec{Memory: true})
	e.must(t, source.ID, "echo changed > /root/f")
	of := map[string]string{}
	for name, c := range map[string]machine.Checkpoint{"disk": disk, "memory": memory} {
		m := e.create(t, from(name, source.ID, c.ID))
		of[name] = m.ID
		if m.Parent != source.ID || m.Name != name || m.ControlToken == source.ControlToken || m.DiskMB != source.DiskMB {
			t.Errorf("%s: it is %+v", name, m)
		}
		want := "kept\n" + name
		if c.Image != nil {
			want += "\nin memory"
		}
		if got := e.must(t, m.ID, "cat /root/f; hostname; cat /dev/shm/f 2>/dev/null || true"); got != want {
			t.Errorf("%s: it has %q", name, got)
		}
		if ids := e.ids(t, m.ID); len(ids) > 0 {
			t.Errorf("%s: it has the checkpoints %v", name, ids)
		}
	}
	if got := e.must(t, source.ID, "cat /root/f"); got != "changed" {
		t.Errorf("the source has %q", got)
	}
	if err := e.Kill(t.Context(), source.ID, machine.ReasonKilled); err != nil {
		t.Fatal(err)
	}
	for name, id := range of { // without what they came from
		e.must(t, id, "echo more >> /root/f")
		if _, err := e.Restart(t.Context(), id); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := e.must(t, id, "cat /root/f"); got != "kept\nmore" {
			t.Errorf("%s: after a restart it has %q", name, got)
		}
	}
	if _, err := os.Stat(e.checkpointFolder(source.ID)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the checkpoints of one that ended are still there: %v", err)
	}
}
