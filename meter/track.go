package meter

import "time"

// cursor is the reading up to which a machine's usage has been counted, and
// the state that the machine has been in from there on.
type cursor struct {
	Step   uint64        `json:"step"` // grows with each; the highest is the newest
	Wall   time.Time     `json:"wall"`
	Uptime time.Duration `json:"uptime"`
	Boot   string        `json:"boot"`
	Awake  bool          `json:"awake,omitempty"`
	Life   uint64        `json:"life,omitempty"`
	CPU    time.Duration `json:"cpu,omitempty"`
	Memory int64         `json:"memory,omitempty"`
	Disk   int64         `json:"disk,omitempty"`
	Ended  bool          `json:"ended,omitempty"`
}

func (c *cursor) at() Instant { return Instant{Wall: c.Wall, Uptime: c.Uptime, Boot: c.Boot} }

func (c *cursor) setAt(i Instant) { c.Wall, c.Uptime, c.Boot = i.Wall.UTC().Round(0), i.Uptime, i.Boot }

// track is a machine that the meter follows.
type track struct {
	Machine
	cursor cursor
	// stale tracks are known from records alone: nobody has said yet that the
	// machine is still there.
	stale bool
}

// Awake says that a machine runs from r on. What its counter says then is not
// counted: it is what making or waking it took.
func (m *Meter) Awake(mach Machine, r Reading) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.catchUp(mach.ID, r)
	t := m.follow(mach, r)
	m.advance(t, r)
	m.turn(t, true, r)
}

// Asleep says that a machine stands still from r on, in memory or on the disk.
func (m *Meter) Asleep(mach Machine, r Reading) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.catchUp(mach.ID, r)
	t := m.follow(mach, r)
	m.advance(t, r)
	m.turn(t, false, r)
}

// Sample tells what was read of a machine that runs. One that was overtaken by
// a change of state, or that is of nobody, is ignored.
func (m *Meter) Sample(id string, r Reading) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tracks[id]
	if t == nil || t.stale || !t.cursor.Awake || t.cursor.Boot == r.At.Boot && r.At.Uptime <= t.cursor.Uptime {
		return
	}
	m.advance(t, r)
}

// End says that a machine is no more.
func (m *Meter) End(id string, r Reading) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.catchUp(id, r)
	if t := m.tracks[id]; t != nil {
		m.advance(t, r)
		m.drop(t)
	}
}

// catchUp counts what a machine used that stopped running while nobody saw it,
// so that it was not adopted as awake. Its counter tells of its processor time;
// how long it ran is not known, and counts as asleep.
func (m *Meter) catchUp(id string, r Reading) {
	t := m.tracks[id]
	if t == nil || !t.stale {
		return
	}
	t.stale = false
	if c := &t.cursor; c.Awake {
		if c.Boot == r.At.Boot {
			r.At, r.Disk = c.at(), -1
			m.advance(t, r)
		}
		c.Awake = false
	}
}

// Adopt says that a machine from before this server's start is there and, since
// a time that may not be known (zero), awake or not. The last server may have
// been killed before it wrote down that this changed.
func (m *Meter) Adopt(mach Machine, r Reading, awake bool, since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, known := m.tracks[mach.ID]
	if !known {
		t = m.follow(mach, r)
		t.cursor.Awake = awake
		if awake && !since.IsZero() {
			// Its whole life is younger than the last record.
			t.cursor.setAt(r.At.minus(min(max(r.At.Wall.Sub(since), 0), r.At.Uptime)))
			m.advance(t, r)
		}
		m.turn(t, awake, r)
		return
	}
	t.Machine, t.stale = mach, false
	if c := &t.cursor; c.Awake != awake && c.Boot == r.At.Boot {
		m.change(t, r, awake, since)
	}
	m.advance(t, r)
	m.turn(t, awake, r)
}

// change lets an adopted machine fall asleep or wake at the time at which it
// did so unseen, by the wall clock, as all there is; r is what was read of it later.
func (m *Meter) change(t *track, r Reading, awake bool, since time.Time) {
	c := &t.cursor
	ago := min(max(r.At.Wall.Sub(since), 0), span(c.at(), r.At, false))
	then := Reading{At: r.At.minus(ago), Memory: c.Memory, Disk: -1}
	if !awake && r.Life == c.Life { // it has not moved since
		then.Life, then.CPU, then.Memory = r.Life, r.CPU, r.Memory
	}
	m.advance(t, then)
	c.Awake = awake
	if awake && r.Life != c.Life { // the new guest's counter began at zero
		c.Life, c.CPU = r.Life, 0
	}
}

// Keep ends all machines that were not adopted: they are gone, and nobody has
// seen their end.
func (m *Meter) Keep() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.tracks {
		if t.stale {
			m.drop(t)
		}
	}
}

// follow returns the track of a machine, from r on if it is new.
func (m *Meter) follow(mach Machine, r Reading) *track {
	t := m.tracks[mach.ID]
	if t == nil {
		t = &track{}
		t.cursor.setAt(r.At)
		t.cursor.Disk = max(r.Disk, 0)
		m.tracks[mach.ID] = t
	}
	t.Machine, t.stale = mach, false
	return t
}

// turn sets the state that a machine is in from the cursor on.
func (m *Meter) turn(t *track, awake bool, r Reading) {
	c := &t.cursor
	c.Awake = awake
	if r.Life != 0 && (r.Life != c.Life || r.CPU > c.CPU) {
		c.Life, c.CPU = r.Life, r.CPU
	}
	if r.Life != 0 {
		c.Memory = r.Memory
	}
	m.note(t)
}

// drop forgets a machine, for good.
func (m *Meter) drop(t *track) {
	t.cursor.Ended = true
	m.note(t)
	delete(m.tracks, t.ID)
}

// note writes the cursor into the machine's record of the hour that it is in.
func (m *Meter) note(t *track) {
	t.cursor.Step++
	m.book(hourOf(t.cursor.Wall)).add(t, Usage{})
}

// advance counts what a machine has used from its cursor to r and moves the
// cursor there, hour by hour: each record is right by itself, with the cursor
// at the end of what it counts, so that it may be the last that is written.
func (m *Meter) advance(t *track, r Reading) {
	c := &t.cursor
	if begin := c.at(); begin.Boot == r.At.Boot && begin.Uptime > r.At.Uptime {
		r.At = begin // a sample overtook it, and what it counted stays counted
	}
	length := span(c.at(), r.At, c.Awake)
	from, to := m.levels(t, r)
	for left := length; ; {
		end := r.At
		hour := hourOf(r.At.Wall.Add(-left))
		if next := time.Unix(hour+3600, 0); next.Before(r.At.Wall) && left > 0 {
			end = r.At.minus(r.At.Wall.Sub(next))
		}
		rest := r.At.Wall.Sub(end.Wall)
		part := left - rest
		reached := to
		if rest > 0 {
			reached = from.toward(to, float64(length-rest)/float64(length))
		}
		used := stretch{
			length: part, cpu: max(reached.CPU-c.base(reached.Life), 0),
			memory: (c.Memory + reached.Memory) / 2, disk: (c.Disk + reached.Disk) / 2,
		}.of(t.Machine, c.Awake)
		c.setAt(end)
		c.Step++
		c.Life, c.CPU, c.Memory, c.Disk = reached.Life, reached.CPU, reached.Memory, reached.Disk
		m.book(hour).add(t, used)
		if left = rest; left <= 0 {
			return
		}
	}
}

// base is where the counter of a life stood that is now read.
func (c *cursor) base(life uint64) time.Duration {
	if life == c.Life {
		return c.CPU
	}
	return 0
}

// levels returns where counters and levels go from and to on the way to r.
// A sleeper's counter may only have moved for what is not its own doing.
func (m *Meter) levels(t *track, r Reading) (from, to Reading) {
	c := &t.cursor
	if c.Boot != r.At.Boot {
		c.Life, c.CPU = 0, 0 // counters are named anew by each boot
	}
	from = Reading{Life: c.Life, CPU: c.CPU, Memory: c.Memory, Disk: c.Disk}
	to = from
	if r.Disk >= 0 {
		to.Disk = r.Disk
	}
	if r.Life == 0 || !c.Awake {
		return from, to
	}
	to.Life, to.Memory = r.Life, r.Memory
	from.Life, from.CPU = r.Life, c.base(r.Life)
	to.CPU = max(r.CPU, from.CPU)
	return from, to
}

// toward is where levels are on a part of the way to others.
func (r Reading) toward(to Reading, part float64) Reading {
	between := func(a, b int64) int64 { return a + int64(part*float64(b-a)) }
	return Reading{
		Life: to.Life, CPU: time.Duration(between(int64(r.CPU), int64(to.CPU))),
		Memory: between(r.Memory, to.Memory), Disk: between(r.Disk, to.Disk),
	}
}
