package machine

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/disk"
	"github.com/atoll-cloud/atoll/gvisor"
	"github.com/atoll-cloud/atoll/store"
)

// stuckRuntime is a runtime whose guests stop and do not go on.
type stuckRuntime struct {
	Runtime
	destroyed int
}

var errStuck = errors.New("the sandbox does not answer")

func (r *stuckRuntime) Pause(context.Context, string) error  { return nil }
func (r *stuckRuntime) Resume(context.Context, string) error { return errStuck }
func (r *stuckRuntime) Destroy(context.Context, string) error {
	r.destroyed++
	return nil
}
func (r *stuckRuntime) Checkpoint(context.Context, string, string) (gvisor.Image, error) {
	return gvisor.Image{}, errors.New("the disk is full")
}

// stuckEngine has one machine, whose guest does not go on once it was stopped.
func stuckEngine(t *testing.T, record Machine) (*Engine, *instance, *stuckRuntime) {
	t.Helper()
	ctx := t.Context()
	records, err := store.Open(ctx, store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(records.Close)
	disks, err := disk.Open(ctx, disk.Config{Dir: t.TempDir(), Driver: "copy"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disks.Close(true) })
	runtime := &stuckRuntime{}
	e := &Engine{
		config: Config{DataDir: t.TempDir()}, log: slog.New(slog.DiscardHandler), now: time.Now,
		runtime: runtime, disks: disks, instances: map[string]*instance{}, held: map[string]int{},
	}
	e.life, e.kill = context.WithCancel(ctx)
	t.Cleanup(func() { e.kill(); e.background.Wait() })
	if err := e.openRecords(ctx, records); err != nil {
		t.Fatal(err)
	}
	for _, tree := range []string{memoryTree, machineTrees + record.ID} {
		if _, err := disks.Create(ctx, tree); err != nil {
			t.Fatal(err)
		}
	}
	m := newInstance(record, &guest{id: record.ID, named: true, control: &control{}})
	e.instances[record.ID], e.held[record.Team] = m, 1
	m.connect()
	return e, m, runtime
}

// TestAGuestThatDoesNotGoOnIsNotLeftStanding stops guests that never go on, in
// all the ways there are. Their owners are told, and no request waits for them.
func TestAGuestThatDoesNotGoOnIsNotLeftStanding(t *testing.T) {
	ways := map[string]struct {
		from State
		do   func(context.Context, *Engine, *instance) error
	}{
		"a fork": {Running, func(ctx context.Context, e *Engine, m *instance) error {
			_, err := e.Fork(ctx, "i", ForkSpec{Count: 1})
			return err
		}},
		"a snapshot": {Running, func(ctx context.Context, e *Engine, m *instance) error {
			_, err := e.Snapshot(ctx, "i", "")
			return err
		}},
		"a checkpoint": {Running, func(ctx context.Context, e *Engine, m *instance) error {
			_, err := e.CreateCheckpoint(ctx, "i", CheckpointSpec{})
			return err
		}},
		"a pause without room": {Running, func(ctx context.Context, e *Engine, m *instance) error {
			_, err := e.Pause(ctx, "i", false)
			return err
		}},
		"a frozen one that is used": {Frozen, func(ctx context.Context, e *Engine, m *instance) error {
			m.op.Lock()
			defer m.op.Unlock()
			thawed, err := e.thaw(ctx, m, ReasonUsed, func(*Machine) {})
			if err == nil && thawed {
				t.Error("a guest that does not go on was thawed")
			}
			if m.record().Lifecycle.Lasting {
				if err != nil {
					t.Error("it does not boot either:", err)
				}
				return errStuck // of the boot that would follow nothing is here
			}
			return err
		}},
	}
	for name, way := range ways {
		for _, lasting := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", lasting"}[lasting], func(t *testing.T) {
				record := Machine{ID: "i", Team: "t", State: way.from, Lifecycle: Lifecycle{Lasting: lasting}}
				e, m, runtime := stuckEngine(t, record)
				severed := e.Severed("i")
				if err := way.do(t.Context(), e, m); !errors.Is(err, errStuck) {
					t.Error("its owner is told:", err)
				}
				want, fresh := Ended, ""
				if lasting {
					want, fresh = Stored, ReasonStuck
				}
				if now := m.record(); now.State != want || now.Fresh != fresh || now.Image != nil {
					t.Errorf("it is %s, fresh for %q", now.State, now.Fresh)
				}
				if runtime.destroyed == 0 || !isClosed(severed) || m.reachable() {
					t.Error("its guest or connections to it are still there")
				}
				if e.held["t"] != 0 {
					t.Error("it still takes a place of its team's")
				}
			})
		}
	}
}
