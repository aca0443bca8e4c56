// Package meter counts what machines use: processor time, memory and disk, per
// machine and hour, and what that costs by a table of prices.
//
// Nothing is counted twice and next to nothing is lost, because usage is the
// difference of two readings and is written down together with the reading
// that it ends at (the cursor): whoever goes on from a record, after a restart
// or a kill, counts from there. Processor time is read from a counter of the
// host's that goes on without us.
package meter

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/store"
)

const (
	// flushEvery is how often changes are written down: what a killed server
	// can lose of machines that ended just before.
	flushEvery = time.Second
	// settleAfter is how far into an hour everybody's usage is brought into
	// it: by then whoever is awake has been measured in it.
	settleAfter = 30 * time.Second
	// settleAgain is how old the usage of sleepers may be in a report.
	settleAgain = 5 * time.Second
	// writeTimeout bounds the writing of one batch.
	writeTimeout = 10 * time.Second

	// Retention is how long usage is remembered.
	Retention = 400 * 24 * time.Hour
	// keepBytes bounds what that takes of the disk; the oldest goes first.
	keepBytes = 4 << 30
)

// Machine is what the meter must know of a machine.
type Machine struct {
	ID       string `json:"machine"`
	Team     string `json:"team"`
	Name     string `json:"name,omitempty"` // what people call it, if they do
	CPUs     int    `json:"cpus"`
	MemoryMB int    `json:"memoryMB"`
}

// Reading is what was read of a machine at one moment.
type Reading struct {
	At Instant // taken just before the rest was read
	// Life names the counter that CPU was read from, which begins at zero each
	// time the guest is started; 0 means that CPU and Memory could not be read.
	Life   uint64
	CPU    time.Duration
	Memory int64 // bytes held
	Disk   int64 // bytes stored; negative: as before
}

// Config is what Open needs.
type Config struct {
	Store  *store.Store
	Logger *slog.Logger
	// Now is the clock; nil is the host's.
	Now func() Instant
	// Prices is the table of prices; nil is the one that comes with Atoll.
	Prices *Prices
}

// Meter counts what the machines of one node use. It is safe for use by many
// goroutines at once; what it is told costs no I/O.
type Meter struct {
	log     *slog.Logger
	now     func() Instant
	prices  *Prices
	records *store.Log    // batches of records, by hour
	marks   *store.Bucket // from where on to read at a start

	stop context.CancelFunc
	done chan struct{}

	// writing serialises writers, so that no batch replaces a later one. It is
	// taken before mu.
	writing sync.Mutex

	mu      sync.Mutex
	tracks  map[string]*track // machines that have not ended
	books   map[int64]*book   // hours in memory
	settled settled
}

// settled says how far the usage of sleepers, whom nobody measures, was
// brought up to date.
type settled struct {
	hour int64   // the last into which everybody's was
	at   Instant // when it was last done for a report
}

// Open goes on from what was written down. Machines that are known from before
// wait to be adopted.
func Open(ctx context.Context, c Config) (*Meter, error) {
	m := &Meter{
		log: c.Logger, now: c.Now, prices: c.Prices, done: make(chan struct{}),
		tracks: map[string]*track{}, books: map[int64]*book{},
	}
	if m.prices == nil {
		m.prices = DefaultPrices()
	}
	var err error
	if m.now == nil {
		if m.now, err = hostClock(); err != nil {
			return nil, err
		}
	}
	// Two versions of each batch are kept: the one before stays until the
	// newest is surely in the file.
	limits := store.LogLimits{MaxAge: Retention, MaxBytes: keepBytes, MaxPerSubject: 2}
	if m.records, err = c.Store.Log(ctx, "usage", limits); err != nil {
		return nil, fmt.Errorf("open the records of usage: %w", err)
	}
	if m.marks, err = c.Store.Bucket(ctx, "meter"); err != nil {
		return nil, fmt.Errorf("open the records of usage: %w", err)
	}
	if err := m.load(ctx); err != nil {
		return nil, fmt.Errorf("go on with the records of usage: %w", err)
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	m.stop = stop
	go m.keepWriting(life)
	return m, nil
}

// Close writes down what is left and ends the meter. The store must still be open.
func (m *Meter) Close() error {
	m.stop()
	<-m.done
	m.refresh()
	return m.flush()
}

// Now is the present moment, as readings carry it.
func (m *Meter) Now() Instant { return m.now() }

// Prices is the table of prices in force.
func (m *Meter) Prices() *Prices { return m.prices }
