package machine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"math/big"
	"sync"
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
}

// instance is the engine's hold on one machine.
//
// Lock order: op before mu. op serialises lifecycle operations and may be held
// for long; mu guards the record and is held for a copy only.
type instance struct {
	op    sync.Mutex
	guest *guest
	timer *time.Timer // ends the machine at its deadline; guarded by op
	done  chan struct{}

	mu  sync.Mutex
	rec Machine

	samples samples
}

func newInstance(record Machine, g *guest) *instance {
	return &instance{guest: g, rec: record, done: make(chan struct{})}
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
	if record.Deadline.IsZero() {
		return
	}
	m.timer = time.AfterFunc(record.Deadline.Sub(e.now()), func() { e.expire(m) })
}

// expire ends a machine whose deadline has passed. The timer may fire before
// that, when the deadline was moved or the host's clock was set back: then it
// is armed again.
func (e *Engine) expire(m *instance) {
	record := m.record()
	if record.Deadline.IsZero() || e.now().Before(record.Deadline) {
		m.op.Lock()
		defer m.op.Unlock()
		if m.record().State == Running {
			e.schedule(m)
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.life), endTimeout)
	defer cancel()
	if err := e.finish(ctx, m, ReasonTimeout); err != nil && !errors.Is(err, ErrNotFound) {
		e.log.Error("end a machine at its deadline", "machine", record.ID, "error", err)
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
