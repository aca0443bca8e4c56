package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	scanBatch = 1000
	scanBytes = 4 << 20 // what one batch may hold in memory
)

// scan says which entries of a stream to read. It starts at sequence from, or
// at time since if that is set.
type scan struct {
	stream string
	filter string
	from   uint64
	since  time.Time
	limit  int // 0: all there are
}

// message is one stored entry.
type message struct {
	seq     uint64
	time    time.Time
	subject string
	header  nats.Header
	data    []byte
}

// directGet is the server's request for a batch of stored messages. Reading by
// it needs no consumer, whose making and tearing down costs more than the
// reading.
type directGet struct {
	Seq       uint64     `json:"seq,omitempty"`
	NextFor   string     `json:"next_by_subj"`
	Batch     int        `json:"batch"`
	MaxBytes  int        `json:"max_bytes"`
	StartTime *time.Time `json:"start_time,omitempty"`
}

// scan calls f for the entries that q selects, oldest first, in batches of
// bounded size.
func (s *Store) scan(ctx context.Context, q scan, f func(message) error) error {
	left := q.limit
	for {
		req := directGet{Seq: max(q.from, 1), NextFor: q.filter, Batch: scanBatch, MaxBytes: scanBytes}
		if q.limit > 0 {
			req.Batch = min(left, scanBatch)
		}
		if !q.since.IsZero() {
			since := q.since.UTC()
			req.Seq, req.StartTime = 0, &since
		}
		n, last, more, err := s.scanBatch(ctx, q.stream, req, f)
		if err != nil {
			return err
		}
		left -= n
		if !more || q.limit > 0 && left <= 0 {
			return nil
		}
		q.since, q.from = time.Time{}, last+1
	}
}

// scanBatch reads one batch and returns how many entries it had, the last
// sequence and whether there are more.
func (s *Store) scanBatch(ctx context.Context, stream string, req directGet, f func(message) error) (n int, last uint64, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, err := json.Marshal(req)
	if err != nil {
		return 0, 0, false, err
	}
	inbox := s.conn.NewRespInbox()
	sub, err := s.conn.SubscribeSync(inbox)
	if err != nil {
		return 0, 0, false, err
	}
	defer sub.Unsubscribe()
	if err := s.conn.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, body); err != nil {
		return 0, 0, false, err
	}
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return n, last, false, err
		}
		switch status := m.Header.Get("Status"); status {
		case "":
		case "404":
			return n, last, false, nil
		case "204": // end of the batch
			pending := m.Header.Get("Nats-Num-Pending")
			return n, last, pending != "" && pending != "0" && n > 0, nil
		default:
			return n, last, false, fmt.Errorf("store answered %s %s", status, m.Header.Get("Description"))
		}
		e, err := parseMessage(m)
		if err != nil {
			return n, last, false, err
		}
		if err := f(e); err != nil {
			return n, last, false, err
		}
		n, last = n+1, e.seq
	}
}

func parseMessage(m *nats.Msg) (message, error) {
	seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return message{}, fmt.Errorf("read sequence of entry: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	if err != nil {
		return message{}, fmt.Errorf("read time of entry: %w", err)
	}
	return message{seq: seq, time: at, subject: m.Header.Get("Nats-Subject"), header: m.Header, data: m.Data}, nil
}
