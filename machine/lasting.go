package machine

import (
	"context"
	"fmt"
	"time"

	"github.com/atoll-cloud/atoll/observe"
)

// MaxHold is the longest time for which Hold keeps a machine awake.
const MaxHold = time.Hour + time.Minute

// Hold keeps the engine from putting a machine to sleep until then, at most for
// MaxHold. An earlier time than that of the last call changes nothing, but one
// that has passed ends the hold. It is in memory alone, and wakes nobody.
func (e *Engine) Hold(id string, until time.Time) error {
	m, err := e.instance(id)
	if err != nil {
		return err
	}
	m.use.hold(time.Now(), until)
	return nil
}

// Restart ends a machine's guest and boots it from its disk. Asleep or not, it
// runs afterwards, and what it had in memory is gone.
func (e *Engine) Restart(ctx context.Context, id string) (Machine, error) {
	start := time.Now()
	m, err := e.instance(id)
	if err != nil {
		return Machine{}, err
	}
	ctx, done, err := e.operate(ctx, m)
	if err != nil {
		return Machine{}, err
	}
	defer done()
	record := m.record()
	if record.State != Running && !record.State.Asleep() {
		return Machine{}, fmt.Errorf("%w: machine %q is %s", ErrNotFound, id, record.State)
	}
	if err := e.lieDown(ctx, m, ReasonRestarted, ""); err != nil {
		return Machine{}, fmt.Errorf("restart machine %s: %w", id, err)
	}
	if err := e.wake(ctx, m, ResumeSpec{MaxConcurrent: e.config.TeamLimit(record.Team)}, ReasonRestarted); err != nil {
		return Machine{}, fmt.Errorf("restart machine %s: %w", id, err)
	}
	e.log.Info("machine restarted", "machine", id, "took", time.Since(start), "request", observe.RequestID(ctx))
	return m.record(), nil
}

// lieDown ends the guest of a machine, whose disk alone is left: the next use
// boots it. fresh says what it lost unasked. A machine that was asleep with its
// memory loses that too. The caller holds m.op.
func (e *Engine) lieDown(ctx context.Context, m *instance, reason, fresh string) error {
	record := m.record()
	m.sever()
	noMemory := func(r *Machine) { r.Image, r.Slot, r.Fresh = nil, 0, fresh }
	if record.State != Stored {
		if err := e.move(ctx, m, Stored, reason, noMemory); err != nil {
			return err
		}
	} else {
		without := record
		noMemory(&without)
		if err := e.save(ctx, without); err != nil {
			return err
		}
		e.show(m, without)
	}
	if err := e.letGo(ctx, m); err != nil {
		return err
	}
	m.samples.trim()
	return e.removeImage(record.ID)
}

// counted reports whether a machine takes a place within its team's limit.
func (r *Machine) counted() bool {
	return !r.Paused && r.State != Ended && !(r.Lifecycle.Lasting && r.State == Stored)
}

// takePlace counts a machine that wakes against its team's limit. The caller
// holds m.op.
func (e *Engine) takePlace(m *instance, limit int) error {
	if m.placed {
		return nil
	}
	if err := e.reserve(m.record().Team, limit); err != nil {
		return err
	}
	m.placed = true
	return nil
}

// givePlace is the end of that. The caller holds m.op.
func (e *Engine) givePlace(m *instance) {
	if m.placed {
		m.placed = false
		e.release(m.record().Team)
	}
}

// show lets everybody see a record that was saved. The place of a machine that
// is not counted any more is free by then: whoever sees it asleep may wake
// another. The caller holds m.op.
func (e *Engine) show(m *instance, record Machine) {
	if !record.counted() {
		e.givePlace(m)
	}
	m.setRecord(record)
}

// putAway stores a lasting machine when the server ends all that run: with its
// memory if that can be written. The caller holds m.op.
func (e *Engine) putAway(ctx context.Context, m *instance) error {
	if m.timer != nil {
		m.timer.Stop()
	}
	if err := e.store(ctx, m, true, ReasonStopped, nil); err != nil {
		e.log.Error("a machine's memory could not be written; it starts from its disk next time", "machine", m.record().ID, "error", err)
		return e.lieDown(ctx, m, ReasonStopped, ReasonStopped)
	}
	return e.letGo(ctx, m)
}
