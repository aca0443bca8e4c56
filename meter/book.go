package meter

import (
	"crypto/rand"
	"fmt"
	"time"
)

// chunkRecords is how many machines share one entry of the log: few enough that
// one that lives on among many that ended does not cost much to write.
const chunkRecords = 100

// record is what one machine used in one hour, up to its cursor. Where there
// are several of one machine and hour, in books of their own, they add up.
type record struct {
	Machine
	Used   Usage  `json:"used"`
	Cursor cursor `json:"cursor"`
}

// book holds the records of one hour that this process has begun. It is never
// read back: after a restart, or when the clock goes back to an hour whose book
// is closed, there is another.
type book struct {
	name   string // its entries' subject, without the number of the chunk
	of     map[string]*slot
	chunks []*chunk
}

// chunk is the part of a book that is written as one entry.
type chunk struct {
	records []record
	dirty   bool // there is something in it that is not written
}

// slot is where a record is.
type slot struct {
	chunk *chunk
	index int
}

// hourOf is the hour that a moment lies in, as the Unix time of its beginning.
func hourOf(t time.Time) int64 {
	seconds := t.Unix()
	past := seconds % 3600
	if past < 0 {
		past += 3600
	}
	return seconds - past
}

// subjectOf begins the subjects of all books of an hour: its day and itself.
func subjectOf(hour int64) string { return time.Unix(hour, 0).UTC().Format("20060102.15") }

// book returns the book of an hour, a new one if there is none in memory.
// mu is held.
func (m *Meter) book(hour int64) *book {
	b := m.books[hour]
	if b == nil {
		b = &book{name: subjectOf(hour) + "." + rand.Text(), of: map[string]*slot{}}
		m.books[hour] = b
	}
	return b
}

// add adds what a machine used to its record, which takes over its cursor.
func (b *book) add(t *track, used Usage) {
	s := b.of[t.ID]
	if s == nil {
		if n := len(b.chunks); n == 0 || len(b.chunks[n-1].records) >= chunkRecords {
			b.chunks = append(b.chunks, &chunk{})
		}
		c := b.chunks[len(b.chunks)-1]
		c.records = append(c.records, record{})
		s = &slot{chunk: c, index: len(c.records) - 1}
		b.of[t.ID] = s
	}
	r := &s.chunk.records[s.index]
	r.Machine, r.Cursor = t.Machine, t.cursor
	r.Used.Add(used)
	s.chunk.dirty = true
}

// subject is that of a book's chunk with this number.
func (b *book) subject(number int) string { return fmt.Sprintf("%s.%d", b.name, number) }

func (b *book) written() bool {
	for _, c := range b.chunks {
		if c.dirty {
			return false
		}
	}
	return true
}
