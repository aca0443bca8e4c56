package store

import (
	"errors"
	"fmt"
	"log/slog"
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

// Warnf is mostly about what JetStream mends by itself after a killed server.
func (l *serverLog) Warnf(format string, v ...any) {
	l.logger.Info("store: " + strings.TrimSpace(fmt.Sprintf(format, v...)))
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
