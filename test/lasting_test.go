package test

import (
	"errors"
	"strings"
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

func TestBenchCheckpoint(t *testing.T) {
	e := useEngine(t, nil)
	m := e.create(t, sprite("one"))
	e.must(t, m.ID, `head -c 1G /dev/urandom > /root/big`)
	for i := range 12 {
		start := time.Now()
		if _, err := e.CreateCheckpoint(t.Context(), m.ID, machine.CheckpointSpec{}); err != nil {
			t.Fatal(err)
		}
		t.Logf("checkpoint %d: %v", i, time.Since(start))
		e.must(t, m.ID, `head -c 1M /dev/urandom > /root/small; mkdir -p /root/d; touch /root/d/{1..50}`)
	}
	for i := range 5 {
		start := time.Now()
		if _, err := e.RestoreCheckpoint(t.Context(), m.ID, "v2"); err != nil {
			t.Fatal(err)
		}
		restored := time.Since(start)
		e.must(t, m.ID, `true`)
		t.Logf("restore %d: %v, answers after %v", i, restored, time.Since(start))
	}
}

var _ = errors.Is

// TestTheLastFiveCheckpointsAreSeenInside looks at checkpoints from a sprite.
func TestTheLastFiveCheckpointsAreSeenInside(t *testing.T) {
	e := useEngine(t, func(c *machine.Config) { c.Templates, c.Pool, c.PoolMax = []string{"base", "sprite"}, 1, 1 })
	spec := sprite("seen")
	spec.Template = "sprite"
	m := e.create(t, spec)
	if got := e.must(t, m.ID, "ls /.sprite/checkpoints"); got != "" {
		t.Errorf("before the first there is %q", got)
	}
	e.must(t, m.ID, "echo 0 > /home/sprite/n; chown sprite /home/sprite/n; chmod 600 /home/sprite/n")
	for range 7 {
		e.checkpoint(t, m.ID, machine.CheckpointSpec{})
		e.must(t, m.ID, "echo $(($(cat /home/sprite/n) + 1)) > /home/sprite/n")
	}
	look := func(when, ids, contents string) {
		t.Helper()
		if got := e.must(t, m.ID, `cd /.sprite/checkpoints; echo $(ls); su sprite -c 'cat /.sprite/checkpoints/v*/home/sprite/n' | tr -d '\n'`); got != ids+"\n"+contents {
			t.Errorf("%s it sees %q", when, got)
		}
	}
	look("after seven", "all v3 v4 v5 v6 v7", "23456")
	e.must(t, m.ID, `cd /.sprite/checkpoints/; ! touch x && ! touch v7/x && ! rm v7 && ! echo 9 > v7/home/sprite/n`)
	if err := e.DeleteCheckpoint(t.Context(), m.ID, "v6"); err != nil {
		t.Fatal(err)
	}
	look("after one was deleted", "all v2 v3 v4 v5 v7", "12346")
	if got := e.must(t, m.ID, "su sprite -c 'ls /.sprite/checkpoints/all' 2>&1 || true"); !strings.Contains(got, "denied") {
		t.Errorf("a search from the root goes through all checkpoints: %q", got)
	}
	restored, err := e.RestoreCheckpoint(t.Context(), m.ID, "v3")
	if err != nil {
		t.Fatal(err)
	}
	if got := e.must(t, m.ID, "cat /home/sprite/n; ls -d /.sprite/checkpoints/pre-restore-v3-*/home"); !strings.HasPrefix(got, "2\n/.sprite") {
		t.Errorf("after the restore there is %q, %+v", got, restored)
	}
	e.must(t, m.ID, "test $(cat /.sprite/checkpoints/pre-restore-v3-*/home/sprite/n) = 7")
}

func (e *engine) checkpoint(t testing.TB, id string, spec machine.CheckpointSpec) machine.Checkpoint {
	t.Helper()
	c, err := e.CreateCheckpoint(t.Context(), id, spec)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
