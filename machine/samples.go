package machine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// samples is a ring of the latest measurements of a machine.
type samples struct {
	mu   sync.Mutex
	ring []Sample
	next int
	cpu  time.Duration // processor time used at the last measurement
	at   time.Time     // when that was
}

func (s *samples) add(sample Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ring) < sampleKeep {
		s.ring = append(s.ring, sample)
		return
	}
	s.ring[s.next] = sample
	s.next = (s.next + 1) % sampleKeep
}

// trim forgets all but the latest measurements: machines that sleep are many,
// and shall cost little.
func (s *samples) trim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	ordered := append(slices.Clone(s.ring[s.next:]), s.ring[:s.next]...)
	s.ring = slices.Clone(ordered[max(0, len(ordered)-sampleKeepAsleep):])
	s.next = 0
}

func (s *samples) between(from, to time.Time) []Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Sample
	for i := range s.ring {
		sample := s.ring[(s.next+i)%len(s.ring)]
		if sample.Time.Before(from) || (!to.IsZero() && sample.Time.After(to)) {
			continue
		}
		list = append(list, sample)
	}
	return list
}

// percent turns processor time used since the last measurement into per cent
// of the machine's CPUs.
func (s *samples) percent(used time.Duration, now time.Time, cpus int) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	elapsed, busy := now.Sub(s.at), used-s.cpu
	first := s.at.IsZero()
	s.cpu, s.at = used, now
	if first || elapsed <= 0 || busy < 0 || cpus == 0 {
		return 0
	}
	return 100 * busy.Seconds() / elapsed.Seconds() / float64(cpus)
}

// Samples returns the measurements of a machine in a span of time, oldest
// first; a zero end is now. A machine too young for one is measured at once.
func (e *Engine) Samples(id string, from, to time.Time) ([]Sample, error) {
	m, err := e.instance(id)
	if err != nil {
		return nil, err
	}
	m.samples.mu.Lock()
	none := len(m.samples.ring) == 0
	m.samples.mu.Unlock()
	if none && m.live() != nil {
		if err := e.measure(m); err != nil {
			return nil, err
		}
	}
	return m.samples.between(from, to), nil
}

// measure takes one sample of a machine, from outside the guest.
func (e *Engine) measure(m *instance) error {
	record, at := m.record(), e.instant()
	usage, err := e.runtime.Usage(record.ID)
	if err != nil {
		return fmt.Errorf("measure machine %s: %w", record.ID, err)
	}
	used, limit, err := e.disks.Usage(e.life, machineTrees+record.ID)
	if err != nil {
		return fmt.Errorf("measure the disk of machine %s: %w", record.ID, err)
	}
	e.meterSample(record.ID, at, usage, used+record.DiskBase)
	now := e.now()
	m.samples.add(Sample{
		Time:       now,
		CPUs:       record.CPUs,
		CPUPercent: m.samples.percent(usage.CPU, now, record.CPUs),
		MemUsed:    usage.Memory,
		MemCache:   usage.Cache,
		MemTotal:   int64(record.MemoryMB) * mib,
		DiskUsed:   used + record.DiskBase,
		DiskTotal:  limit + record.DiskBase,
	})
	return nil
}

// keepSamples measures every running machine at a steady pace.
func (e *Engine) keepSamples(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, m := range e.all() {
			if m.record().State != Running {
				continue
			}
			if err := e.measure(m); err != nil && m.record().State == Running {
				e.log.Debug("no sample", "error", err)
			}
		}
	}
}

// all returns the engine's present instances.
func (e *Engine) all() []*instance {
	e.mu.RLock()
	defer e.mu.RUnlock()
	list := make([]*instance, 0, len(e.instances))
	for _, m := range e.instances {
		list = append(list, m)
	}
	return list
}
