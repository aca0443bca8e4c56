package machine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/disk"
	"github.com/atoll-cloud/atoll/gvisor"
	"github.com/atoll-cloud/atoll/network"
	"github.com/atoll-cloud/atoll/observe"
	"github.com/atoll-cloud/atoll/store"
)

// Runtime starts, pauses, checkpoints and restores single guests. A guest
// outlives the process that started it. Package gvisor implements it.
type Runtime interface {
	Boot(ctx context.Context, spec gvisor.Spec) error
	Restore(ctx context.Context, spec gvisor.Spec, image string) error
	Pause(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
	Checkpoint(ctx context.Context, id, image string) (gvisor.Image, error)
	// Seal brings an image to the disk, SumUp gives one checksums that was too
	// large for that when it was written.
	Seal(ctx context.Context, image string) error
	SumUp(ctx context.Context, image string) error
	Destroy(ctx context.Context, id string) error
	List(ctx context.Context) []gvisor.Info
	Exited(id string) <-chan struct{}
	Usage(id string) (gvisor.Usage, error)
	// ImageKey changes with all that a memory image depends on.
	ImageKey() string
	// Purge ends all guests and removes all state; Close leaves both.
	Purge(ctx context.Context) error
	Close() error
}

// Engine runs the machines of one node.
//
// Lock order: instance.op, then Engine.mu, then instance.mu or template.mu.
type Engine struct {
	config  Config
	log     *slog.Logger
	now     func() time.Time
	started time.Time

	runtime  Runtime
	disks    *disk.Disk
	network  *network.Network
	machines *store.Bucket // records of machines that are not ended
	ended    *store.Bucket // records of ended ones, for a while
	kept     *store.Bucket // records of checkpoints
	built    *store.Bucket // records of templates
	events   *store.Log

	// life ends when the engine closes; background owns what runs until then.
	life       context.Context
	kill       context.CancelFunc
	background sync.WaitGroup
	creating   sync.WaitGroup

	making  chan struct{} // a place for each guest that is made at once
	pool    *pool
	builds  builds
	meters  meters
	load    load
	watches watches

	mu        sync.RWMutex
	instances map[string]*instance
	names     names
	held      map[string]int // machines by team, those being made included
	templates []*template
}

// Get returns a machine that is not ended, or ErrNotFound.
func (e *Engine) Get(id string) (Machine, error) {
	m, err := e.instance(id)
	if err != nil {
		return Machine{}, err
	}
	return m.record(), nil
}

// List returns the machines of a team that are not ended (of all teams if
// team is empty), oldest first.
func (e *Engine) List(team string) []Machine {
	e.mu.RLock()
	list := make([]Machine, 0, len(e.instances))
	for _, m := range e.instances {
		if r := m.record(); (team == "" || r.Team == team) && r.State != Ended {
			list = append(list, r)
		}
	}
	e.mu.RUnlock()
	slices.SortFunc(list, func(a, b Machine) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Done is closed when the machine has ended; it is closed already for unknown ones.
func (e *Engine) Done(id string) <-chan struct{} {
	if m, err := e.instance(id); err == nil {
		return m.done
	}
	return closed
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// MaxTimeout is the longest time to live a machine may have; 0 is no limit.
func (e *Engine) MaxTimeout() time.Duration { return e.config.MaxTimeout }

func (e *Engine) instance(id string) (*instance, error) {
	e.mu.RLock()
	m := e.instances[id]
	e.mu.RUnlock()
	if m == nil {
		return nil, fmt.Errorf("%w: no machine %q runs here", ErrNotFound, id)
	}
	return m, nil
}

// running returns a machine that can be reached.
func (e *Engine) running(id string) (*instance, error) {
	m, err := e.instance(id)
	if err != nil {
		return nil, err
	}
	switch s := m.state(); {
	case s.Asleep():
		return nil, fmt.Errorf("%w: machine %q is asleep", ErrUnavailable, id)
	case s != Running:
		return nil, fmt.Errorf("%w: machine %q is %s", ErrNotFound, id, s)
	}
	return m, nil
}

// SetDeadline replaces the time at which a machine ends; zero means never.
// With onlyLater an earlier time than the present one changes nothing.
func (e *Engine) SetDeadline(ctx context.Context, id string, t time.Time, onlyLater bool) (Machine, error) {
	return e.change(ctx, id, func(_ *instance, record *Machine) error {
		if onlyLater && (record.Deadline.IsZero() || (!t.IsZero() && t.Before(record.Deadline))) {
			return nil
		}
		if limit := e.config.MaxTimeout; limit > 0 && (t.IsZero() || t.After(e.now().Add(limit+time.Second))) {
			return fmt.Errorf("%w: a machine may live for %s at most from now on", ErrInvalid, limit)
		}
		record.Deadline = t
		switch left := t.Sub(e.now()); {
		case t.IsZero():
			record.Timeout = 0
		case left > 0: // else it keeps what it had, for when it is paused now and resumed
			record.Timeout = left
		}
		return nil
	})
}

// SetNetwork replaces a machine's egress policy at once.
func (e *Engine) SetNetwork(ctx context.Context, id string, p network.Policy) error {
	_, err := e.change(ctx, id, func(m *instance, record *Machine) error {
		if g := m.live(); g != nil {
			if err := g.slot.SetPolicy(p); err != nil {
				return fmt.Errorf("set the network policy of machine %s: %w", id, err)
			}
		}
		record.Network = p
		return nil
	})
	return err
}

// change edits the record of a machine that its owner has not paused, saves it and arms its
// timer. It wakes nobody.
func (e *Engine) change(ctx context.Context, id string, edit func(*instance, *Machine) error) (Machine, error) {
	m, err := e.instance(id)
	if err != nil {
		return Machine{}, err
	}
	m.op.Lock()
	defer m.op.Unlock()
	record := m.record()
	if record.Paused && !record.Lifecycle.Lasting {
		return Machine{}, fmt.Errorf("%w: machine %q is paused: resume it first", ErrPaused, id)
	}
	if record.State != Running && !record.State.Asleep() {
		return Machine{}, fmt.Errorf("%w: machine %q is %s", ErrNotFound, id, record.State)
	}
	if err := edit(m, &record); err != nil {
		return Machine{}, err
	}
	if err := e.save(ctx, record); err != nil {
		return Machine{}, err
	}
	m.setRecord(record)
	e.schedule(m)
	return record, nil
}

// Kill ends a machine and frees what it held. One that is gone is ErrNotFound.
func (e *Engine) Kill(ctx context.Context, id, reason string) error {
	m, err := e.instance(id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	return e.finish(ctx, m, reason)
}

// finish ends a machine. Of several callers one does the work; the others
// wait for it and get ErrNotFound.
func (e *Engine) finish(ctx context.Context, m *instance, reason string) error {
	m.op.Lock()
	defer m.op.Unlock()
	return e.end(ctx, m, reason)
}

// end is finish for a caller that holds m.op.
func (e *Engine) end(ctx context.Context, m *instance, reason string) error {
	record := m.record()
	if record.State == Ended {
		return fmt.Errorf("%w: machine %q has ended", ErrNotFound, record.ID)
	}
	for _, timer := range []*time.Timer{m.timer, m.linger} {
		if timer != nil {
			timer.Stop()
		}
	}
	if record.State != Ending {
		if err := e.move(ctx, m, Ending, reason, nil); err != nil {
			return err
		}
	}
	m.sever()
	e.giveNames(record)
	g := m.live()
	if g == nil {
		g = &guest{id: record.ID, named: true}
	}
	if err := e.takeApart(ctx, g); err != nil {
		e.log.Error("a machine could not be taken apart; it is tried again at the next start", "machine", record.ID, "error", err)
		return err
	}
	if err := e.move(ctx, m, Ended, "", nil); err != nil {
		return err
	}
	e.mu.Lock()
	delete(e.instances, record.ID)
	e.mu.Unlock()
	close(m.done)
	reason = m.record().EndReason // of whoever was first
	e.meters.ended(reason)
	e.log.Info("machine ended", "machine", record.ID, "reason", reason, "request", observe.RequestID(ctx))
	return nil
}

// exitReason says why a guest's process ended by itself.
func (e *Engine) exitReason(id string) string {
	if usage, err := e.runtime.Usage(id); err == nil && usage.OOMKilled {
		return ReasonMemory
	}
	return ReasonExited
}

// watch ends a machine whose guest has exited by itself. One whose memory is on
// the disk as well only loses what it had in the host's memory, and a lasting
// one lives on from its disk.
func (e *Engine) watch(m *instance, g *guest) {
	e.background.Go(func() {
		select {
		case <-e.life.Done():
			return
		case <-m.done:
			return
		case <-e.runtime.Exited(g.id):
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(e.life), endTimeout)
		defer cancel()
		m.op.Lock()
		defer m.op.Unlock()
		if m.live() != g {
			return // let go on purpose
		}
		record := m.record()
		if record.State == Stored {
			e.letGo(ctx, m)
			return
		}
		if record.Lifecycle.Lasting && (record.State == Running || record.State == Frozen) {
			reason := e.exitReason(g.id)
			e.log.Warn("the guest of a lasting machine has ended; the next use boots it", "machine", g.id, "reason", reason)
			if err := e.lieDown(ctx, m, reason, reason); err != nil {
				e.log.Error("take apart a guest that exited", "machine", g.id, "error", err)
			}
			return
		}
		if err := e.end(ctx, m, e.exitReason(g.id)); err != nil && !errors.Is(err, ErrNotFound) {
			e.log.Error("end a machine whose guest exited", "machine", g.id, "error", err)
		}
	})
}
