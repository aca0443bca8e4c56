package machine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atoll-cloud/atoll/network"
)

// guest is a live guest and all that it occupies: its disk, its network slot,
// its processes on the host. The id names all of them.
type guest struct {
	id       string
	template *template
	slot     *network.Slot
	control  *control
	named    bool // it is a machine's, not the pool's
	paused   bool // it was restored and has not run yet
}

// instance is the engine's hold on one machine.
//
// Lock order: op before mu. op serialises lifecycle operations and may be held
// for long; mu guards what is below it and is held for a copy only.
type instance struct {
	op     oplock
	timer  *time.Timer // acts at the machine's deadline; guarded by op
	linger *time.Timer // lets go of a stored machine's memory; guarded by op
	placed bool        // it takes a place within its team's limit; guarded by op
	done   chan struct{}

	mu      sync.Mutex
	rec     Machine
	guest   *guest        // nil where the machine is on the disk alone
	kept    []Checkpoint  // its checkpoints, oldest first; never written after it was set
	severed chan struct{} // closed when connections to it are dead; nil while it never ran

	restoring atomic.Bool // a checkpoint is

	use     use
	samples samples
}

func newInstance(record Machine, g *guest) *instance {
	m := &instance{op: make(oplock, 1), guest: g, rec: record, done: make(chan struct{}), placed: record.counted()}
	m.use.touch()
	return m
}

// oplock is a mutex for which one can stop waiting.
type oplock chan struct{}

func (l oplock) Lock()   { l <- struct{}{} }
func (l oplock) Unlock() { <-l }

func (l oplock) lock(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// live returns the machine's guest, or nil where there is none in memory.
func (m *instance) live() *guest {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.guest
}

func (m *instance) setLive(g *guest) {
	m.mu.Lock()
	m.guest = g
	m.mu.Unlock()
}

// reachable reports whether the machine runs and connections to it hold.
func (m *instance) reachable() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rec.State == Running && m.severed != nil
}

func (m *instance) state() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rec.State
}

// connect begins a time in which connections to the machine hold, unless one
// lasts; sever ends it.
func (m *instance) connect() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.severed == nil {
		m.severed = make(chan struct{})
	}
}

func (m *instance) sever() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.severed != nil {
		close(m.severed)
		m.severed = nil
	}
}

// record returns a copy of the machine's record. Its maps are never written
// after they were set, so they may be shared.
func (m *instance) record() Machine {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rec
}

func (m *instance) setRecord(record Machine) {
	m.mu.Lock()
	m.rec = record
	m.mu.Unlock()
}

// schedule arms the timer for the machine's deadline. The caller holds m.op.
func (e *Engine) schedule(m *instance) {
	if m.timer != nil {
		m.timer.Stop()
		m.timer = nil
	}
	record := m.record()
	if record.Deadline.IsZero() || record.Paused {
		return
	}
	m.timer = time.AfterFunc(record.Deadline.Sub(e.now()), func() { e.expire(m) })
}

// expire ends or pauses a machine whose deadline has passed. The timer may fire
// before that, when the deadline was moved or the host's clock was set back:
// then it is armed again.
func (e *Engine) expire(m *instance) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.life), endTimeout)
	defer cancel()
	m.op.Lock()
	defer m.op.Unlock()
	record := m.record()
	switch {
	case e.life.Err() != nil:
	case record.State != Running && !record.State.Asleep() || record.Paused || record.Deadline.IsZero():
	case e.now().Before(record.Deadline):
		e.schedule(m)
	case record.Lifecycle.AutoPause:
		if err := e.pause(ctx, m, record.Lifecycle.DiskOnly, ReasonTimeout); err != nil && m.state() != Ended {
			// Better a machine that lives too long than one whose work is lost.
			e.log.Error("a machine could not be paused at its deadline; it is tried again", "machine", record.ID, "error", err)
			m.timer = time.AfterFunc(pauseAgain, func() { e.expire(m) })
		}
	default:
		if err := e.end(ctx, m, ReasonTimeout); err != nil && !errors.Is(err, ErrNotFound) {
			e.log.Error("end a machine at its deadline", "machine", record.ID, "error", err)
		}
	}
}

// newID returns an id for a machine: 20 characters that fit a DNS label and
// cannot be guessed (more than 90 bits).
func newID() string {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyz"
	id := make([]byte, 20)
	id[0] = 'i'
	limit := big.NewInt(int64(len(letters)))
	for i := range id[1:] {
		n, _ := rand.Int(rand.Reader, limit) // crypto/rand does not fail
		id[i+1] = letters[n.Int64()]
	}
	return string(id)
}

// newToken returns 32 random bytes as hexadecimal digits.
func newToken() string {
	b := make([]byte, 32)
	rand.Read(b) // does not fail
	return hex.EncodeToString(b)
}
