package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Log is an append-only stream of entries. Each entry has a subject, a dotted
// name by which readers filter, such as a machine's id.
type Log struct {
	name   string
	prefix string
	s      *Store
}

// LogLimits bounds what a log keeps; the oldest entries go first. Zero values
// mean no limit of that kind.
type LogLimits struct {
	MaxAge        time.Duration
	MaxBytes      int64
	MaxPerSubject int64
	// Sync makes Append return only when the entry is on the disk. Without it
	// a killed server may lose the last moments.
	Sync bool
}

// Entry is one entry of a log.
type Entry struct {
	Seq     uint64 // grows by at least one with each entry of the log
	Time    time.Time
	Subject string
	Data    []byte // JSON
}

// LogQuery selects entries of a log.
type LogQuery struct {
	Filter string    // subject; "*" is one part, a last ">" all that follow; empty: all
	From   uint64    // first sequence; 0: the oldest
	Since  time.Time // if set, used instead of From
	Limit  int       // 0: no limit
}

// Log opens a log and makes it first if it does not exist. Limits other than
// those it was made with are put in force at once.
func (s *Store) Log(ctx context.Context, name string, limits LogLimits) (*Log, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	l := &Log{name: name, prefix: "log." + name + ".", s: s}
	cfg := jetstream.StreamConfig{
		Name:              l.stream(),
		Subjects:          []string{l.prefix + ">"},
		Storage:           jetstream.FileStorage,
		Discard:           jetstream.DiscardOld,
		MaxAge:            limits.MaxAge,
		MaxBytes:          limits.MaxBytes,
		MaxMsgsPerSubject: limits.MaxPerSubject,
		MaxMsgSize:        maxPayload,
		AllowDirect:       true,
		// Without a shorter window the server remembers message ids, which we
		// do not send, for two minutes.
		Duplicates: 100 * time.Millisecond,
	}
	if !limits.Sync {
		cfg.PersistMode = jetstream.AsyncPersistMode
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = -1
	}
	if cfg.MaxMsgsPerSubject == 0 {
		cfg.MaxMsgsPerSubject = -1
	}
	if err := s.makeStream(ctx, cfg); err != nil {
		return nil, fmt.Errorf("open log %s: %w", name, err)
	}
	return l, nil
}

// makeStream makes a stream, or brings an existing one to the limits of cfg.
func (s *Store) makeStream(ctx context.Context, cfg jetstream.StreamConfig) error {
	stream, err := s.js.Stream(ctx, cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = s.js.CreateStream(ctx, cfg)
		return err
	}
	if err != nil {
		return err
	}
	have := stream.CachedInfo().Config
	if have.MaxAge == cfg.MaxAge && have.MaxBytes == cfg.MaxBytes && have.MaxMsgsPerSubject == cfg.MaxMsgsPerSubject {
		return nil
	}
	cfg.PersistMode = have.PersistMode // cannot be changed later
	_, err = s.js.UpdateStream(ctx, cfg)
	return err
}

func (l *Log) stream() string { return "LOG_" + l.name }

// Append adds v, encoded as JSON, under a subject and returns its sequence.
func (l *Log) Append(ctx context.Context, subject string, v any) (uint64, error) {
	data, err := encode(subject, v)
	if err != nil {
		return 0, fmt.Errorf("append to %s: %w", l.name, err)
	}
	ack, err := l.s.js.Publish(ctx, l.prefix+subject, data)
	if err != nil {
		return 0, fmt.Errorf("append to %s: %w", l.name, err)
	}
	return ack.Sequence, nil
}

// Read calls f for the entries that q selects, oldest first. An error of f
// ends the reading and is returned.
func (l *Log) Read(ctx context.Context, q LogQuery, f func(Entry) error) error {
	if err := checkFilter(q.Filter); err != nil {
		return fmt.Errorf("read log %s: %w", l.name, err)
	}
	err := l.s.scan(ctx, scan{stream: l.stream(), filter: l.filter(q.Filter), from: q.From, since: q.Since, limit: q.Limit},
		func(m message) error {
			return f(Entry{Seq: m.seq, Time: m.time, Subject: m.subject[len(l.prefix):], Data: m.data})
		})
	if err != nil {
		return fmt.Errorf("read log %s: %w", l.name, err)
	}
	return nil
}

// Follow calls f for each matching entry from sequence from on, or from now on
// if that is 0, until ctx ends (it returns nil then) or f fails.
func (l *Log) Follow(ctx context.Context, filter string, from uint64, f func(Entry) error) error {
	if err := checkFilter(filter); err != nil {
		return fmt.Errorf("follow log %s: %w", l.name, err)
	}
	cfg := jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{l.filter(filter)},
		DeliverPolicy:  jetstream.DeliverNewPolicy,
	}
	if from > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from
	}
	err := l.follow(ctx, cfg, f)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("follow log %s: %w", l.name, err)
}

func (l *Log) follow(ctx context.Context, cfg jetstream.OrderedConsumerConfig, f func(Entry) error) error {
	consumer, err := l.s.js.OrderedConsumer(ctx, l.stream(), cfg)
	if err != nil {
		return err
	}
	it, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer it.Stop()
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		e := Entry{Seq: meta.Sequence.Stream, Time: meta.Timestamp.UTC(), Subject: m.Subject()[len(l.prefix):], Data: m.Data()}
		if err := f(e); err != nil {
			return err
		}
	}
}

// Purge removes all entries of a subject.
func (l *Log) Purge(ctx context.Context, subject string) error {
	if err := checkKey(subject); err != nil {
		return fmt.Errorf("purge log %s: %w", l.name, err)
	}
	stream, err := l.s.js.Stream(ctx, l.stream())
	if err != nil {
		return fmt.Errorf("purge log %s: %w", l.name, err)
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject(l.prefix+subject)); err != nil {
		return fmt.Errorf("purge log %s: %w", l.name, err)
	}
	return nil
}

// filter is the server's subject filter for one of ours.
func (l *Log) filter(f string) string {
	if f == "" {
		f = ">"
	}
	return l.prefix + f
}
