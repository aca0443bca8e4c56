package machine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// use is how much a machine is used, which says when it may sleep.
type use struct {
	holders atomic.Int64 // requests that are under way
	last    atomic.Int64 // when one began or ended, in nanoseconds since 1970
	held    atomic.Int64 // until when it counts as used anyway, likewise

	// Processor time at an earlier look, for the idle policy alone.
	cpu   time.Duration
	cpuAt time.Time
}

func (u *use) touch() { u.last.Store(time.Now().UnixNano()) }

// hold is Engine.Hold.
func (u *use) hold(now, until time.Time) {
	if limit := now.Add(MaxHold); until.After(limit) {
		until = limit
	}
	for {
		held := u.held.Load()
		if until.After(now) && until.UnixNano() <= held || u.held.CompareAndSwap(held, until.UnixNano()) {
			return
		}
	}
}

// busy reports whether the machine must not be put to sleep.
func (u *use) busy(now time.Time) bool { return u.holders.Load() > 0 || u.held.Load() > now.UnixNano() }

// idle is for how long nobody has used the machine; 0 while somebody does.
func (u *use) idle(now time.Time) time.Duration {
	if u.busy(now) {
		return 0
	}
	return max(now.Sub(time.Unix(0, max(u.last.Load(), u.held.Load()))), 0)
}

// Enter makes sure that a machine is awake and keeps the engine from putting
// it to sleep until leave is called, which must happen exactly once. It fails
// with ErrNotFound, or with ErrPaused where only a resume may wake the machine.
// Of many who enter at once one wakes it and the others wait.
func (e *Engine) Enter(ctx context.Context, id string) (leave func(), err error) {
	m, err := e.instance(id)
	if err != nil {
		return nil, err
	}
	// Counted before the state is read, and whoever freezes a machine reads the
	// count after it has written the state: one of the two sees the other.
	m.use.holders.Add(1)
	m.use.touch()
	leave = sync.OnceFunc(func() {
		m.use.touch()
		m.use.holders.Add(-1)
	})
	if m.reachable() {
		return leave, nil
	}
	if err := e.wakeForUse(ctx, m); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

func (e *Engine) wakeForUse(ctx context.Context, m *instance) error {
	if err := e.begin(); err != nil {
		return err
	}
	defer e.creating.Done()
	if err := m.op.lock(ctx); err != nil {
		return fmt.Errorf("wait for machine %s to wake: %w", m.record().ID, err)
	}
	defer m.op.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sleepTimeout)
	defer cancel()
	record := m.record()
	switch {
	case record.State == Running:
		return nil
	case !record.State.Asleep():
		return fmt.Errorf("%w: machine %q is %s", ErrNotFound, record.ID, record.State)
	case record.Paused && !record.Lifecycle.Lasting && (!record.Lifecycle.AutoResume || record.Image == nil):
		return fmt.Errorf("%w: machine %q is paused: resume it first", ErrPaused, record.ID)
	}
	return e.wake(ctx, m, ResumeSpec{MaxConcurrent: e.config.TeamLimit(record.Team)}, ReasonUsed)
}

// Severed is closed when the connections to a machine are worth nothing any
// more: it was paused or has ended. Each time it wakes there is a new one. For
// unknown machines and those that are not awake it is closed already.
func (e *Engine) Severed(id string) <-chan struct{} {
	m, err := e.instance(id)
	if err != nil {
		return closed
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.severed == nil {
		return closed
	}
	return m.severed
}
