package machine

import (
	"cmp"
	"context"
	"slices"
	"time"
)

const (
	// idleTick is how often the engine looks for machines that may sleep.
	idleTick = time.Second
	// quietCPU is the share of one processor below which an unused machine
	// counts as doing nothing; an idle guest daemon takes a hundredth of it.
	quietCPU = 0.02
)

// keepIdle puts machines to sleep that nobody uses: after a time, where a
// policy says so, and the longest idle first when the host is short of memory.
// It runs until the engine closes.
func (e *Engine) keepIdle() {
	tick := time.NewTicker(idleTick)
	defer tick.Stop()
	for {
		select {
		case <-e.life.Done():
			return
		case <-tick.C:
		}
		for _, m := range e.all() {
			e.sleepIfIdle(m, time.Now())
		}
		e.relievePressure()
	}
}

// sleepIfIdle takes a machine one step further into sleep if its policy says so.
func (e *Engine) sleepIfIdle(m *instance, now time.Time) {
	record := m.record()
	policy := e.config.Idle
	if record.Lifecycle.Idle != nil {
		policy = *record.Lifecycle.Idle
	}
	switch {
	case record.State == Running && policy.Freeze > 0 && m.use.idle(now) >= policy.Freeze:
		if policy.IgnoreCPU || e.quiet(m, now) {
			e.fallAsleep(m, Frozen, ReasonIdle)
		}
	case record.State == Frozen && policy.Store > 0 && e.now().Sub(record.AsleepSince) >= policy.Store:
		e.fallAsleep(m, Stored, ReasonIdle)
	}
}

// quiet reports whether an unused machine has spent hardly any processor time
// since it was last asked, which must have been a tick ago.
func (e *Engine) quiet(m *instance, now time.Time) bool {
	usage, err := e.runtime.Usage(m.record().ID)
	if err != nil {
		return false
	}
	busy, span := usage.CPU-m.use.cpu, now.Sub(m.use.cpuAt)
	m.use.cpu, m.use.cpuAt = usage.CPU, now
	return span < 3*idleTick && busy.Seconds() < quietCPU*span.Seconds()
}

// fallAsleep freezes or stores a machine that nobody uses. One that is used
// again meanwhile stays awake or is woken at once.
func (e *Engine) fallAsleep(m *instance, to State, reason string) bool {
	if e.begin() != nil {
		return false
	}
	defer e.creating.Done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.life), sleepTimeout)
	defer cancel()
	m.op.Lock()
	defer m.op.Unlock()
	record := m.record()
	if m.use.busy(time.Now()) || record.State != Running && (record.State != Frozen || to == Frozen) {
		return false
	}
	var err error
	if to == Frozen {
		err = e.freeze(ctx, m)
	} else if err = e.store(ctx, m, true, reason, nil); err == nil {
		err = e.letGo(ctx, m)
	}
	if err != nil {
		e.log.Error("a machine could not be put to sleep", "machine", record.ID, "to", to, "error", err)
		return false
	}
	if m.use.holders.Load() > 0 {
		if err := e.wake(ctx, m, ResumeSpec{}, ReasonUsed); err != nil {
			e.log.Error("a machine that was used while it fell asleep could not be woken", "machine", record.ID, "error", err)
		}
		return false
	}
	return true
}

// relievePressure gives memory back to a host that is short of it: first the
// pool's, then that of paused machines that linger, then of the longest idle.
func (e *Engine) relievePressure() {
	if e.config.MemoryReserve <= 0 {
		return
	}
	_, available, err := hostMemory()
	if err != nil {
		return
	}
	switch reserve := e.config.MemoryReserve; {
	case available > reserve+reserve/4: // or what the pool takes makes it short again
		e.pool.squeeze(false)
		return
	case available > reserve:
		return
	}
	e.pool.squeeze(true)
	idle := e.all()
	now := time.Now()
	slices.SortFunc(idle, func(a, b *instance) int {
		return cmp.Or(cmp.Compare(pressureOrder(a.state()), pressureOrder(b.state())), cmp.Compare(b.use.idle(now), a.use.idle(now)))
	})
	for _, m := range idle {
		switch m.state() {
		case Stored:
			e.stopLingering(m)
		case Frozen, Running:
			if m.use.idle(now) < pressureIdle || !e.fallAsleep(m, Stored, ReasonPressure) {
				continue
			}
		default:
			continue
		}
		if !e.shortOfMemory() || e.life.Err() != nil {
			return
		}
	}
}

// pressureOrder says who gives up memory first: it costs those less who are
// deeper asleep.
func pressureOrder(s State) int {
	switch s {
	case Stored:
		return 0
	case Frozen:
		return 1
	}
	return 2
}

func (e *Engine) shortOfMemory() bool {
	_, available, err := hostMemory()
	return err == nil && available < e.config.MemoryReserve
}
