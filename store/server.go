package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// startServer runs the embedded server: no listener, no signal handlers, no
// log of its own.
func (s *Store) startServer() error {
	opts := &server.Options{
		ServerName:            "atoll",
		DontListen:            true,
		NoSigs:                true,
		JetStream:             true,
		StoreDir:              s.dir,
		SyncAlways:            true,
		MaxPayload:            maxPayload,
		DisableShortFirstPing: true,
		// Nothing of ours lives in memory streams. Disk use is limited by the
		// logs' own limits, so the account limit only has to be out of the way.
		JetStreamMaxMemory: 16 << 20,
		JetStreamMaxStore:  1 << 50,
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	log := &serverLog{logger: s.logger}
	ns.SetLoggerV2(log, false, false, false)
	s.server = ns
	ns.Start()
	if !ns.ReadyForConnections(startTimeout) || !ns.JetStreamEnabled() {
		return errors.Join(ErrDamaged, log.firstError())
	}
	return nil
}

// checkRecovered compares the directory with what the server could read. The
// server skips what it cannot read with a warning, and a bucket that silently
// starts empty again would make us forget machines that still run.
func (s *Store) checkRecovered(ctx context.Context) error {
	root := filepath.Join(s.dir, "jetstream", server.DEFAULT_GLOBAL_ACCOUNT, "streams")
	entries, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read store directory: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // being removed by the server
		}
		_, err := s.js.Stream(ctx, e.Name())
		if err == nil {
			continue
		}
		if empty(filepath.Join(root, e.Name())) {
			// The server was killed between making the directory and
			// describing it: nothing was ever stored there.
			continue
		}
		return fmt.Errorf("%w: %s cannot be read (%w); restore that directory from a copy, or move it away to start without its records",
			ErrDamaged, filepath.Join(root, e.Name()), err)
	}
	s.reportLoss()
	return nil
}

// reportLoss tells of entries whose bytes are damaged. The others stay usable.
func (s *Store) reportLoss() {
	info, err := s.server.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		s.logger.Warn("cannot check the store for damaged entries", "error", err)
		return
	}
	for _, account := range info.AccountDetails {
		for _, stream := range account.Streams {
			if lost := stream.State.Lost; lost != nil && len(lost.Msgs) > 0 {
				s.logger.Error("store lost entries to damage on the disk",
					"stream", stream.Name, "entries", len(lost.Msgs), "bytes", lost.Bytes)
			}
		}
	}
}

// empty reports whether a stream directory holds no messages.
func empty(dir string) bool {
	files, err := os.ReadDir(filepath.Join(dir, "msgs"))
	if errors.Is(err, os.ErrNotExist) {
		return true
	}
	if err != nil {
		return false
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Size() > 0 {
			return false
		}
	}
	return true
}

// serverLog passes on what the embedded server has to say. Its notices are
// about ports and limits that we do not use, hence debug.
type serverLog struct {
	logger *slog.Logger
	mu     sync.Mutex
	first  error
}

func (l *serverLog) firstError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		return fmt.Errorf("the embedded server did not become ready in %v", startTimeout)
	}
	return l.first
}

func (l *serverLog) keep(msg string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = errors.New(msg)
	}
}

func (l *serverLog) Noticef(format string, v ...any) {
	l.logger.Debug("store: " + fmt.Sprintf(format, v...))
}

func (l *serverLog) Warnf(format string, v ...any) {
	l.logger.Warn("store: " + strings.TrimSpace(fmt.Sprintf(format, v...)))
}

func (l *serverLog) Errorf(format string, v ...any) {
	msg := fmt.Sprintf(format, v...)
	l.keep(msg)
	l.logger.Error("store: " + msg)
}

// Fatalf does not end the process: Open reports that the server did not start.
func (l *serverLog) Fatalf(format string, v ...any) { l.Errorf(format, v...) }

func (l *serverLog) Debugf(string, ...any) {}
func (l *serverLog) Tracef(string, ...any) {}

var _ server.Logger = (*serverLog)(nil)
