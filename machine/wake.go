package machine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atoll-cloud/atoll/observe"
	"github.com/atoll-cloud/atoll/wire"
)

// Resume wakes a paused machine; woken is false if it was not paused. An image
// that cannot be restored is ErrDamaged or ErrIncompatible; the machine then
// stays paused, and a Reboot still starts it from its disk.
func (e *Engine) Resume(ctx context.Context, id string, spec ResumeSpec) (_ Machine, woken bool, err error) {
	start := time.Now()
	m, err := e.instance(id)
	if err != nil {
		return Machine{}, false, err
	}
	if limit := e.config.MaxTimeout; limit > 0 && spec.Timeout != nil && (*spec.Timeout <= 0 || *spec.Timeout > limit) {
		return Machine{}, false, fmt.Errorf("%w: a machine may live for %s at most from now on", ErrInvalid, limit)
	}
	ctx, done, err := e.operate(ctx, m)
	if err != nil {
		return Machine{}, false, err
	}
	defer done()
	record := m.record()
	if !record.Paused {
		if record.State == Ending || record.State == Ended {
			return Machine{}, false, fmt.Errorf("%w: machine %q is %s", ErrNotFound, id, record.State)
		}
		return record, false, nil
	}
	if err := e.wake(ctx, m, spec, ReasonResumed); err != nil {
		return Machine{}, false, err
	}
	e.log.Info("machine resumed", "machine", id, "took", time.Since(start), "request", observe.RequestID(ctx))
	return m.record(), true, nil
}

// wake brings a machine that is asleep back to life, by the shortest way there
// is. The record says that it runs before it does: what it does then makes its
// image worthless. The caller holds m.op.
func (e *Engine) wake(ctx context.Context, m *instance, spec ResumeSpec, reason string) (err error) {
	record := m.record()
	if err := e.takePlace(m, spec.MaxConcurrent); err != nil {
		return err
	}
	defer func() {
		if record := m.record(); err != nil && !record.counted() {
			e.givePlace(m)
		}
	}()
	if m.linger != nil {
		m.linger.Stop()
	}
	awake := func(r *Machine) {
		if r.Paused {
			r.Timeout = r.timeLeft(spec)
			if r.Timeout > 0 {
				r.Deadline = e.now().Add(r.Timeout)
			}
		}
		r.Paused, r.Remaining, r.Image, r.Slot = false, 0, nil, m.live().slot.Index
	}
	if spec.Reboot {
		if err := e.letGo(ctx, m); err != nil {
			return err
		}
	}
	thawed := false
	if m.live() != nil {
		if thawed, err = e.thaw(ctx, m, reason, awake); err != nil {
			return err
		}
	}
	switch {
	case thawed:
	case spec.memory != nil:
		err = e.restore(ctx, m, e.diskImage(record.ID), *spec.memory, reason, awake)
	case record.Image != nil && !spec.Reboot:
		err = e.restore(ctx, m, e.imageDir(record.ID), *record.Image, reason, awake)
	default:
		err = e.reboot(ctx, m, reason, awake)
	}
	if record.Lifecycle.Lasting && (errors.Is(err, ErrDamaged) || errors.Is(err, ErrIncompatible)) {
		err = e.startFresh(ctx, m, err, reason, awake)
	}
	if err != nil {
		if !record.Paused && !record.Lifecycle.Lasting && (errors.Is(err, ErrDamaged) || errors.Is(err, ErrIncompatible)) {
			// No use will wake it: its owner must decide, who can see it now.
			err = errors.Join(err, e.pause(ctx, m, false, ReasonFailed))
		}
		return err
	}
	m.use.touch()
	m.connect()
	e.schedule(m)
	if record.Image != nil {
		e.background.Go(func() { e.dropImage(m) })
	}
	return nil
}

// timeLeft is how long a paused machine lives from when it is resumed; 0 is
// without an end.
func (r *Machine) timeLeft(spec ResumeSpec) time.Duration {
	if r.Timeout == 0 {
		return 0
	}
	left := r.Remaining
	if left == 0 && spec.Timeout == nil {
		left = r.Timeout
	}
	if spec.Timeout == nil || *spec.Timeout > 0 && *spec.Timeout <= left {
		return left
	}
	return *spec.Timeout
}

// thaw lets a guest go on that is still in memory. It reports false if that
// guest is gone and the machine can be restored from its image instead, or, one
// that is lasting, be booted.
func (e *Engine) thaw(ctx context.Context, m *instance, reason string, awake func(*Machine)) (bool, error) {
	record, g := m.record(), m.live()
	if err := e.move(ctx, m, Running, reason, awake); err != nil {
		return false, err
	}
	err := e.runtime.Resume(ctx, g.id)
	if err == nil {
		return true, nil
	}
	if record.State == Frozen {
		err = e.giveUp(ctx, m, err)
		if record.Lifecycle.Lasting && m.state() == Stored {
			return false, nil // and it boots
		}
		return false, err
	}
	e.log.Warn("a machine that lingered in memory did not go on and is restored", "machine", g.id, "error", err)
	return false, errors.Join(e.sleepAgain(ctx, m, record), e.letGo(ctx, m))
}

// sleepAgain takes back that a machine runs, which its guest never did.
func (e *Engine) sleepAgain(ctx context.Context, m *instance, before Machine) error {
	return e.move(ctx, m, Stored, ReasonFailed, func(r *Machine) { *r = before })
}

// startFresh starts a lasting machine from its disk whose memory cannot be
// restored, and notes why.
func (e *Engine) startFresh(ctx context.Context, m *instance, why error, reason string, awake func(*Machine)) error {
	record := m.record()
	e.log.Warn("a machine's memory cannot be restored and it starts from its disk", "machine", record.ID, "error", why)
	record.Image, record.Fresh = nil, why.Error()
	if err := e.save(ctx, record); err != nil {
		return err
	}
	m.setRecord(record)
	return e.reboot(ctx, m, reason, awake)
}

// restore brings a machine back from a memory image.
func (e *Engine) restore(ctx context.Context, m *instance, dir string, image Image, reason string, awake func(*Machine)) (err error) {
	record := m.record()
	if err := e.bringBack(ctx, m, launch{image: dir, bundle: image.Bundle, paused: true}); err != nil {
		return err
	}
	g := m.live()
	g.control.token = record.ControlToken
	err = e.move(ctx, m, Running, reason, func(r *Machine) {
		awake(r)
		r.Bundle = image.Bundle
	})
	if err != nil {
		return errors.Join(err, e.letGo(ctx, m))
	}
	if err := e.runtime.Resume(ctx, g.id); err != nil {
		return errors.Join(fmt.Errorf("let the guest go on: %w", err), e.sleepAgain(ctx, m, record), e.letGo(ctx, m))
	}
	g.paused = false
	e.watch(m, g)
	sprite := record.spriteInit()
	if sprite != nil {
		sprite.Fresh = "" // was told when it booted
	}
	if err := g.control.init(ctx, wire.Init{
		Timestamp: e.now().UTC().Format(time.RFC3339Nano), Nameservers: []string{g.slot.DNS.String()},
		Restored: true, Sprite: sprite,
	}); err != nil {
		// It runs, and whoever wants it will see what is wrong with it.
		e.log.Warn("the guest daemon of a woken machine does not answer", "machine", record.ID, "error", err)
	}
	return nil
}

// reboot starts a machine from its disk.
func (e *Engine) reboot(ctx context.Context, m *instance, reason string, awake func(*Machine)) error {
	record := m.record()
	if record.Image != nil {
		// From here on the disk is not the one that belongs to the memory.
		record.Image, record.Fresh = nil, ""
		if err := e.save(ctx, record); err != nil {
			return err
		}
		m.setRecord(record)
	}
	bundle := e.config.Bundle
	if err := e.bringBack(ctx, m, launch{bundle: bundle}); err != nil {
		return err
	}
	g := m.live()
	identity := e.identity(record, g, false)
	identity.MachineID = "" // its disk has one
	if err := g.control.init(ctx, identity); err != nil {
		return errors.Join(err, e.letGo(ctx, m))
	}
	err := e.move(ctx, m, Running, reason, func(r *Machine) {
		awake(r)
		r.Bundle = bundle
	})
	if err != nil {
		return errors.Join(err, e.letGo(ctx, m))
	}
	e.watch(m, g)
	return nil
}

// bringBack makes a guest for a stored machine, on its own disk and a slot.
func (e *Engine) bringBack(ctx context.Context, m *instance, l launch) (err error) {
	select {
	case e.making <- struct{}{}:
		defer func() { <-e.making }()
	case <-ctx.Done():
		return fmt.Errorf("wait for a place to wake a machine in: %w", ctx.Err())
	}
	record := m.record()
	g := &guest{id: record.ID, named: true}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.endGuest(ctx, g))
		}
	}()
	if g.slot, err = e.network.Acquire(ctx, record.Network); err != nil {
		return fmt.Errorf("take a network slot: %w", err)
	}
	l.tree, l.cpus, l.memoryMB, l.showsCheckpoints = e.disks.Path(machineTrees+record.ID), record.CPUs, record.MemoryMB, record.ShowsCheckpoints
	if err := e.startGuest(ctx, g, l); err != nil {
		return err
	}
	m.setLive(g)
	return nil
}

// dropImage removes the image of a machine that has woken from it.
func (e *Engine) dropImage(m *instance) {
	m.op.Lock()
	defer m.op.Unlock()
	record := m.record()
	if record.State == Ended || record.Image != nil {
		return
	}
	if err := e.removeImage(record.ID); err != nil {
		e.log.Warn("the image of a machine that woke is still there", "machine", record.ID, "error", err)
	}
}
