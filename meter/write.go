package meter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atoll-cloud/atoll/store"
)

// markKey is the key of the mark: where in the log to begin to read at a start.
const markKey = "from"

type mark struct {
	Seq uint64 `json:"seq"`
}

// load finds the cursors of all machines that have not ended.
func (m *Meter) load(ctx context.Context) error {
	var from mark
	if _, err := m.marks.Get(ctx, markKey, &from); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	last := map[string]record{}
	err := m.records.Read(ctx, store.LogQuery{From: from.Seq}, func(e store.Entry) error {
		var batch []record
		if err := json.Unmarshal(e.Data, &batch); err != nil {
			// One bad entry must not keep machines from being served.
			m.log.Error("a batch of usage records is damaged and does not count", "entry", e.Seq, "error", err)
			return nil
		}
		for _, r := range batch {
			if l, ok := last[r.ID]; !ok || r.Cursor.Step >= l.Cursor.Step {
				last[r.ID] = r
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id, r := range last {
		if !r.Cursor.Ended {
			m.tracks[id] = &track{Machine: r.Machine, cursor: r.Cursor, stale: true}
		}
	}
	return nil
}

// keepWriting writes changes down until the meter closes.
func (m *Meter) keepWriting(ctx context.Context) {
	defer close(m.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := m.write()
		if err != nil && !failing {
			m.log.Error("usage is not written down; it is tried again", "error", err)
		}
		failing = err != nil
	}
}

// write writes changes down and, once an hour, everything.
func (m *Meter) write() error {
	// One that writes in between would take from the first entry what is to
	// come after it.
	m.writing.Lock()
	defer m.writing.Unlock()
	hour, turned := m.turnHour()
	first, err := m.flushBatches()
	if err != nil || !turned {
		return err
	}
	// From here on each machine that lives has an entry.
	if first > 0 {
		if _, err := m.marks.Put(context.Background(), markKey, mark{Seq: first}); err != nil {
			return fmt.Errorf("note where usage goes on: %w", err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settled.hour = hour
	for h, b := range m.books {
		if h != hour && h != hour-3600 && b.written() {
			delete(m.books, h)
		}
	}
	return nil
}

// turnHour brings everybody's usage into a new hour, a while after it began.
func (m *Meter) turnHour() (hour int64, turned bool) {
	now := m.now()
	hour = hourOf(now.Wall)
	m.mu.Lock()
	defer m.mu.Unlock()
	if hour == m.settled.hour || now.Wall.Sub(time.Unix(hour, 0)) < settleAfter {
		return hour, false
	}
	for _, t := range m.tracks {
		if t.stale {
			return hour, false // the engine is not yet open
		}
	}
	for _, t := range m.tracks {
		if hourOf(t.cursor.Wall) != hour {
			m.advance(t, Reading{At: now, Disk: -1})
		}
	}
	for _, c := range m.book(hour).chunks {
		c.dirty = true
	}
	return hour, true
}

// refresh brings the usage of sleepers, whom nobody measures, up to now.
func (m *Meter) refresh() {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settled.at = now
	for _, t := range m.tracks {
		if !t.stale && !t.cursor.Awake {
			m.advance(t, Reading{At: now, Disk: -1})
		}
	}
}

// batch is one entry to be written.
type batch struct {
	subject string
	chunk   *chunk
	records []record
}

// flush writes down what has changed.
func (m *Meter) flush() error {
	m.writing.Lock()
	defer m.writing.Unlock()
	_, err := m.flushBatches()
	return err
}

// flushBatches is flush for a caller that holds m.writing. It returns the
// sequence of the first entry; 0 if there was nothing to write.
func (m *Meter) flushBatches() (first uint64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	batches := m.changes()
	for i, b := range batches {
		seq, err := m.records.Append(ctx, b.subject, b.records)
		if err != nil {
			m.mu.Lock()
			for _, b := range batches[i:] {
				b.chunk.dirty = true
			}
			m.mu.Unlock()
			return 0, fmt.Errorf("write usage down: %w", err)
		}
		if first == 0 {
			first = seq
		}
	}
	return first, nil
}

// changes takes what is to be written. The oldest hours come first: where a
// machine's usage crossed into another hour, a kill in between leaves a record
// that is right by itself.
func (m *Meter) changes() []batch {
	m.mu.Lock()
	defer m.mu.Unlock()
	var hours []int64
	for h := range m.books {
		hours = append(hours, h)
	}
	slices.Sort(hours)
	var list []batch
	for _, h := range hours {
		b := m.books[h]
		for i, c := range b.chunks {
			if c.dirty {
				c.dirty = false
				list = append(list, batch{subject: b.subject(i), chunk: c, records: slices.Clone(c.records)})
			}
		}
	}
	return list
}
