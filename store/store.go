// Package store keeps Atoll's records and event streams: NATS JetStream
// embedded in the process, without a port.
//
// A record written with Put, Create, Update or Delete is on the disk, synced,
// before the call returns: it survives a killed server and a power cut. Log
// entries are written behind the call unless LogLimits.Sync is set.
//
// Reading a record tells what was stored; who may write it is the business of
// the room that owns the bucket.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"
)

const (
	// MaxRecord is the largest encoded record or log entry, in bytes.
	MaxRecord = 512 << 10

	// maxPayload leaves room for headers around a record.
	maxPayload = MaxRecord + 64<<10

	startTimeout = 30 * time.Second
	callTimeout  = 10 * time.Second
)

// Errors that callers test with errors.Is.
var (
	ErrNotFound = errors.New("record not found")
	ErrExists   = errors.New("record exists already")
	ErrConflict = errors.New("record was changed by another writer")
	ErrInvalid  = errors.New("invalid key or value")
	ErrLocked   = errors.New("store directory is in use by another server")
	ErrDamaged  = errors.New("store is damaged")
)

// Config says where a store lives.
type Config struct {
	// Dir is made if it does not exist; nothing else may write in it.
	Dir string
	// Logger takes what the embedded server reports; nil discards it.
	Logger *slog.Logger
}

// Store is an open store. It owns its directory until Close.
type Store struct {
	dir    string
	logger *slog.Logger
	lock   *os.File
	server *server.Server
	conn   *nats.Conn
	js     jetstream.JetStream
}

// Open starts the embedded server on a directory. It fails with ErrLocked if
// another process has it open and with ErrDamaged if a bucket or log in it
// cannot be read.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Dir == "" {
		return nil, fmt.Errorf("open store: no directory given: %w", ErrInvalid)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make store directory: %w", err)
	}
	s := &Store{dir: cfg.Dir, logger: cfg.Logger}
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// open takes the steps of Open; Close undoes those that were taken.
func (s *Store) open(ctx context.Context) error {
	if err := s.takeLock(); err != nil {
		return err
	}
	before := messageFiles(s.streams())
	if err := s.startServer(); err != nil {
		return fmt.Errorf("start store in %s: %w", s.dir, err)
	}
	conn, err := nats.Connect("", nats.InProcessServer(s.server), nats.Name("atoll"), nats.NoReconnect())
	if err != nil {
		return fmt.Errorf("connect to store: %w", err)
	}
	s.conn = conn
	s.js, err = jetstream.New(conn, jetstream.WithDefaultTimeout(callTimeout))
	if err != nil {
		return fmt.Errorf("connect to store: %w", err)
	}
	return s.checkRecovered(ctx, before)
}

// Close ends the embedded server and gives the directory free.
func (s *Store) Close() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
	if s.server != nil {
		s.server.Shutdown()
		s.server.WaitForShutdown()
		s.server = nil
	}
	if s.lock != nil {
		s.lock.Close() // gives the lock free
		s.lock = nil
	}
}

// takeLock holds an advisory lock for as long as the store is open. The kernel
// lets go of it when the process dies, however it dies.
func (s *Store) takeLock() error {
	path := filepath.Join(s.dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open lock of store: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%w: %s; stop that server or choose another directory", ErrLocked, s.dir)
		}
		return fmt.Errorf("lock store directory %s: %w", s.dir, err)
	}
	s.lock = f
	return nil
}
