package machine

import (
	"time"

	"github.com/atoll-cloud/atoll/gvisor"
	"github.com/atoll-cloud/atoll/meter"
)

// Meter hears what machines use; package meter implements it. Its methods do
// no I/O. Readings of one machine may come out of order: of several that are
// at work at once, the one of the change of state counts.
type Meter interface {
	Now() meter.Instant
	// Awake and Asleep say that a machine runs, or stands still, from a reading on.
	Awake(m meter.Machine, r meter.Reading)
	Asleep(m meter.Machine, r meter.Reading)
	Sample(id string, r meter.Reading)
	End(id string, r meter.Reading)
	// Adopt goes on with a machine from before the start, which is awake or
	// not since a time; Keep then ends all that were not adopted.
	Adopt(m meter.Machine, r meter.Reading, awake bool, since time.Time)
	Keep()
}

func (e *Engine) instant() (now meter.Instant) {
	if e.config.Meter != nil {
		now = e.config.Meter.Now()
	}
	return now
}

// metered is what the meter must know of a machine.
func (r *Machine) metered() meter.Machine {
	return meter.Machine{ID: r.ID, Team: r.Team, Name: r.Name, CPUs: r.CPUs, MemoryMB: r.MemoryMB}
}

// meterMove tells the meter of a machine's new state. The caller has not yet
// let the guest run; or it has stopped it, or is about to end it.
func (e *Engine) meterMove(record Machine) {
	meter := e.config.Meter
	if meter == nil {
		return
	}
	switch {
	case record.State == Running:
		meter.Awake(record.metered(), e.reading(record, false))
	case record.State.Asleep():
		meter.Asleep(record.metered(), e.reading(record, true))
	case record.State == Ending:
		meter.End(record.ID, e.reading(record, true))
	}
}

// meterAdopt tells the meter of a machine that the last server left.
func (e *Engine) meterAdopt(record Machine) {
	if e.config.Meter == nil {
		return
	}
	awake, since := record.State == Running, record.AsleepSince
	if awake {
		since = record.AwakeSince
	}
	e.config.Meter.Adopt(record.metered(), e.reading(record, true), awake, since)
}

func (e *Engine) meterSample(id string, at meter.Instant, u gvisor.Usage, disk int64) {
	if e.config.Meter != nil {
		e.config.Meter.Sample(id, meter.Reading{At: at, Life: u.Life, CPU: u.CPU, Memory: u.Memory, Disk: disk})
	}
}

// reading reads what a machine uses now. What cannot be read, as the counters
// of one that is on the disk alone, the meter takes to be as before.
func (e *Engine) reading(record Machine, disk bool) meter.Reading {
	r := meter.Reading{At: e.instant(), Disk: -1}
	if u, err := e.runtime.Usage(record.ID); err == nil {
		r.Life, r.CPU, r.Memory = u.Life, u.CPU, u.Memory
	}
	if disk {
		if used, _, err := e.disks.Usage(e.life, machineTrees+record.ID); err == nil {
			r.Disk = used + record.DiskBase
		}
	}
	return r
}
