package service

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"
)

const (
	// defaultURLPort is where requests to the machine's URL go when no service
	// has an HTTP port.
	defaultURLPort = 8080
	// listenPatience is how long requests wait for a service that was started for
	// them to listen.
	listenPatience = 15 * time.Second
)

// urlPort returns where requests to the machine's URL go. It starts the service
// that holds the port if it does not run, and waits until it listens.
func (v *supervisor) urlPort(ctx context.Context) (port int, name string) {
	v.mu.Lock()
	var holder *service
	for _, s := range v.services {
		if s.HTTPPort != nil && !s.gone && s.broken == "" {
			holder = s
		}
	}
	if holder == nil {
		v.mu.Unlock()
		return defaultURLPort, ""
	}
	port, name = *holder.HTTPPort, holder.name
	r, waits := holder.current, holder.again != nil
	v.mu.Unlock()
	if waits || r != nil && r.listens.Load() {
		return port, name // one that crashes is not started more often for being asked
	}
	ctx, cancel := context.WithTimeout(ctx, listenPatience)
	defer cancel()
	if r == nil || r.leaving {
		var err error
		if r, _, err = v.start(ctx, name); err != nil {
			return port, name // as its state tells
		}
	}
	awaitListener(ctx, r, port)
	return port, name
}

// awaitListener waits until somebody listens on a port of the loopback, the run
// is over or ctx is.
func awaitListener(ctx context.Context, r *run, port int) {
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if listens(ctx, port) {
			r.listens.Store(true)
			return
		}
		select {
		case <-time.After(pause):
		case <-r.ended:
			return
		case <-ctx.Done():
			// It may listen where we do not look; others need not wait for that.
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				r.listens.Store(true)
			}
			return
		}
	}
}

func listens(ctx context.Context, port int) bool {
	var dialer net.Dialer
	for _, host := range []string{"127.0.0.1", "::1"} {
		if conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port))); err == nil {
			conn.Close()
			return true
		}
	}
	return false
}
