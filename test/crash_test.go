package test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

// kills is how often the server is killed; ATOLL_TEST_KILLS=500 looks closer.
func kills(t *testing.T) int {
	t.Helper()
	s := os.Getenv("ATOLL_TEST_KILLS")
	if s == "" {
		return 42
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const (
	// killWithin is the latest moment, after something was asked for, at which
	// the server is killed: then most of it is over.
	killWithin = 120 * time.Millisecond
	// crashLinger is how long paused sandboxes stay in memory too.
	crashLinger = 50 * time.Millisecond
)

// victim is what the server is killed over.
type victim struct {
	awake  *recorder // something is asked of this one
	asleep *recorder // this one sleeps through it all
	copy   string    // a paused copy of the first, in steps that need one
}

// step is something that is asked of a server just before it is killed.
type step struct {
	name   string
	before func(v *victim) error // makes the sandboxes ready for it
	ask    func(ctx context.Context, c *client.Client, v *victim) error
	after  string // the state of the sandbox if it was confirmed
}

var steps = []step{
	{name: "pause", after: client.StatePaused, ask: func(ctx context.Context, c *client.Client, v *victim) error {
		return c.Pause(ctx, v.awake.SandboxID, true)
	}},
	{name: "pause without memory", after: client.StateRunning, before: forkAsleep, ask: func(ctx context.Context, c *client.Client, v *victim) error {
		if _, _, err := c.Resume(ctx, v.copy, client.ResumeOptions{}); err != nil {
			return err
		}
		return c.Pause(ctx, v.copy, false)
	}},
	{name: "resume from memory", after: client.StateRunning, before: func(v *victim) error { return v.awake.tryPause() }, ask: wakeUp},
	{name: "resume from disk", after: client.StateRunning, before: func(v *victim) error {
		err := v.awake.tryPause()
		<-time.After(3 * crashLinger)
		return err
	}, ask: wakeUp},
	{name: "fork", after: client.StateRunning, ask: func(ctx context.Context, c *client.Client, v *victim) error {
		_, err := c.Fork(ctx, v.awake.SandboxID, 2, time.Hour)
		return err
	}},
	{name: "snapshot", after: client.StateRunning, ask: func(ctx context.Context, c *client.Client, v *victim) error {
		_, err := c.Snapshot(ctx, v.awake.SandboxID, "")
		return err
	}},
	{name: "end of a paused one", after: client.StateRunning, before: forkAsleep, ask: func(ctx context.Context, c *client.Client, v *victim) error {
		return c.Kill(ctx, v.copy)
	}},
}

func wakeUp(ctx context.Context, c *client.Client, v *victim) error {
	_, _, err := c.Resume(ctx, v.awake.SandboxID, client.ResumeOptions{})
	return err
}

func forkAsleep(v *victim) error {
	ctx, c := context.Background(), v.awake.s.Client
	made, err := c.Fork(ctx, v.awake.SandboxID, 1, time.Hour)
	if err != nil {
		return err
	}
	if made[0].Error != nil {
		return made[0].Error
	}
	v.copy = made[0].Sandbox.SandboxID
	return c.Pause(ctx, v.copy, true)
}

// TestKillAtEveryStepOfSleep kills the server at growing delays after a pause,
// a resume, a fork or a snapshot was asked for. Afterwards every sandbox either
// runs with all that it had or sleeps with all of it, what was confirmed holds,
// and in the end nothing is left on the host.
func TestKillAtEveryStepOfSleep(t *testing.T) {
	warm := up(t)
	warm.create(time.Minute).alive()
	warm.clear()
	warm.stop()
	before := takeInventory(t)

	s := up(t, "--linger", crashLinger.String())
	v := &victim{awake: s.newRecorder(), asleep: s.newRecorder()}
	if err := v.asleep.look(); err != nil {
		t.Fatal(err)
	}
	v.asleep.pause()
	n := kills(t)
	for i := range n {
		step, delay := steps[i%len(steps)], killWithin*time.Duration(i)/time.Duration(n)
		confirmed, err := killDuring(s, v, step, delay)
		if err == nil {
			err = v.survived(step, confirmed, i%10 == 0)
		}
		if err != nil {
			t.Fatalf("kill %d, %v after %s was asked for (confirmed: %v): %v", i, delay, step.name, confirmed, err)
		}
	}
	t.Logf("%d kills; %d and %d records", n, v.awake.seen, v.asleep.seen)
	s.clearSnapshots()
	s.clear()
	s.stop()
	for _, what := range leftBehind(t, before) {
		t.Errorf("left behind: %s", what)
	}
}

// killDuring asks for something, kills the server after a delay, starts the
// next, and reports whether what was asked for had been confirmed.
func killDuring(s *server, v *victim, step step, delay time.Duration) (confirmed bool, err error) {
	if err := v.awake.look(); err != nil {
		return false, fmt.Errorf("before it: %w", err)
	}
	if step.before != nil {
		if err := step.before(v); err != nil {
			return false, fmt.Errorf("before it: %w", err)
		}
	}
	c, answer := s.Client, make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		answer <- step.ask(ctx, c, v)
	}()
	<-time.After(delay)
	s.Kill()
	confirmed = <-answer == nil
	return confirmed, s.Start()
}

// survived looks at everything that the server knows after it was killed.
func (v *victim) survived(step step, confirmed, wakeTheOther bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := v.awake.s.Client
	now, err := c.Get(ctx, v.awake.SandboxID)
	if err != nil {
		return fmt.Errorf("the sandbox is gone: %w", err)
	}
	if confirmed && now.State != step.after {
		return fmt.Errorf("the sandbox is %s", now.State)
	}
	if now.State == client.StatePaused {
		if err := v.awake.tryResume(client.ResumeOptions{}); err != nil {
			return fmt.Errorf("wake the sandbox: %w", err)
		}
	}
	if err := v.awake.verify(); err != nil {
		return err
	}
	if other, err := c.Get(ctx, v.asleep.SandboxID); err != nil || other.State != client.StatePaused {
		return fmt.Errorf("the one that slept is %s: %w", other.State, err)
	}
	if wakeTheOther {
		if err := v.asleep.tryResume(client.ResumeOptions{}); err != nil {
			return fmt.Errorf("wake the one that slept: %w", err)
		}
		if err := v.asleep.verify(); err != nil {
			return err
		}
		if err := v.asleep.tryPause(); err != nil {
			return err
		}
	}
	if err := v.others(ctx, c, step, confirmed); err != nil {
		return err
	}
	return v.ofSnapshots(ctx, c, step, confirmed)
}

// others looks at copies: what is listed works, and is ended then.
func (v *victim) others(ctx context.Context, c *client.Client, step step, confirmed bool) error {
	all, err := c.List(ctx, client.ListFilter{})
	if err != nil {
		return err
	}
	if copies := len(all) - 2; confirmed && (step.name == "fork" && copies != 2 || step.name == "end of a paused one" && copies != 0) {
		return fmt.Errorf("there are %d copies", copies)
	}
	for _, one := range all {
		if one.SandboxID == v.awake.SandboxID || one.SandboxID == v.asleep.SandboxID {
			continue
		}
		if one, err = c.Get(ctx, one.SandboxID); err != nil {
			return fmt.Errorf("a copy: %w", err)
		}
		r := &recorder{sandbox: sandbox{one, v.awake.s}}
		withMemory := true
		if one.State == client.StatePaused {
			withMemory = one.MemoryStoredBytes > 0
			if err := r.tryResume(client.ResumeOptions{}); err != nil {
				return fmt.Errorf("wake a copy: %w", err)
			}
		}
		if withMemory {
			err = r.verify()
		} else {
			err = r.verifyDisk()
		}
		if err != nil {
			return fmt.Errorf("a copy: %w", err)
		}
		if err := c.Kill(ctx, one.SandboxID); err != nil {
			return fmt.Errorf("end a copy: %w", err)
		}
	}
	return nil
}

// ofSnapshots makes a sandbox of every snapshot, which works, and removes both.
func (v *victim) ofSnapshots(ctx context.Context, c *client.Client, step step, confirmed bool) error {
	all, err := c.Snapshots(ctx, client.SnapshotFilter{})
	if err != nil {
		return err
	}
	if confirmed && step.name == "snapshot" && len(all) != 1 {
		return fmt.Errorf("there are %d snapshots", len(all))
	}
	for _, one := range all {
		made, err := c.Create(ctx, client.NewSandbox{TemplateID: one.SnapshotID, Secure: true})
		if err != nil {
			return fmt.Errorf("make a sandbox of a snapshot: %w", err)
		}
		r := &recorder{sandbox: sandbox{made, v.awake.s}}
		if err := r.verify(); err != nil {
			return fmt.Errorf("of a snapshot: %w", err)
		}
		if err := c.Kill(ctx, made.SandboxID); err != nil {
			return err
		}
		if err := c.DeleteSnapshot(ctx, one.SnapshotID); err != nil {
			return err
		}
	}
	return nil
}
