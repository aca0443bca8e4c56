package sprites

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/wire"
)

const (
	// dialWithin bounds one attempt to open a sprite's connection for calls.
	dialWithin = 10 * time.Second
	// redialFirst and redialMost are the pauses before another attempt, if one
	// failed or a connection broke while the sprite runs.
	redialFirst = 10 * time.Millisecond
	redialMost  = time.Second
	// heldLong is how long a connection must have held for the next attempt to
	// be made soon.
	heldLong = 10 * time.Second
	// maxCalls is how many calls of one sprite are answered at a time.
	maxCalls = 16
	// callWrite bounds how long a write to a sprite may take.
	callWrite = 30 * time.Second
)

// calls are the connections on which sprites call their host: one to each
// sprite that is awake. They are opened from here, for a sprite can open none
// to its host, and they are no use of the sprite: it sleeps with one open.
type calls struct {
	mu     sync.Mutex
	open   map[string]<-chan struct{} // by machine: what its connection ends with
	untold map[string]bool            // machines that missed a change of their policy
	wait   sync.WaitGroup
}

// forget drops what is known of a sprite that has ended.
func (c *calls) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.untold, id)
}

// connectAll opens the connections of the sprites that are awake already.
func (d *Door) connectAll(ctx context.Context) {
	for _, m := range d.engine.List("") {
		if m.Kind == machine.KindSprite && (m.State == machine.Running || m.State == machine.Frozen) {
			d.connect(ctx, m.ID)
		}
	}
}

// connect serves the calls of a sprite until it sleeps, ends, or ctx does. One
// that is connected stays so. A sprite is said to run a little before
// connections to it hold, and that is waited for.
func (d *Door) connect(ctx context.Context, id string) {
	d.calls.wait.Go(func() {
		for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
			m, err := d.engine.Get(id)
			if err != nil || m.Kind != machine.KindSprite || d.connectNow(ctx, m) || m.State != machine.Running {
				return // asleep again already: its next waking connects it
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
		}
	})
}

// connectNow reports false if connections to the sprite do not hold.
func (d *Door) connectNow(ctx context.Context, m machine.Machine) bool {
	id, severed := m.ID, d.engine.Severed(m.ID)
	d.calls.mu.Lock()
	defer d.calls.mu.Unlock()
	if d.calls.open[id] == severed {
		return true
	}
	select {
	case <-severed:
		return false
	default:
	}
	d.calls.open[id] = severed
	d.calls.wait.Go(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		d.calls.wait.Go(func() { // a guest that is gone says no goodbye
			defer cancel()
			select {
			case <-severed:
			case <-ctx.Done():
			}
		})
		d.serveCalls(ctx, m)
		d.calls.mu.Lock()
		defer d.calls.mu.Unlock()
		if d.calls.open[id] == severed {
			delete(d.calls.open, id)
		}
	})
	return true
}

// serveCalls keeps a connection to a sprite until ctx ends.
func (d *Door) serveCalls(ctx context.Context, m machine.Machine) {
	pause := redialFirst
	for ctx.Err() == nil {
		start := time.Now()
		err := d.serveConn(ctx, m)
		if ctx.Err() != nil {
			return
		}
		d.log.Debug("the connection for a sprite's calls ended", "machine", m.ID, "error", err)
		if time.Since(start) > heldLong {
			pause = redialFirst
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, redialMost)
	}
}

// serveConn opens a connection and serves the calls on it until it breaks.
func (d *Door) serveConn(ctx context.Context, m machine.Machine) error {
	conn, err := d.dialCalls(ctx, m)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	server := &http2.Server{
		MaxConcurrentStreams: maxCalls, MaxReadFrameSize: 64 << 10,
		WriteByteTimeout:             callWrite,
		MaxUploadBufferPerConnection: 1 << 20, MaxUploadBufferPerStream: 256 << 10,
	}
	server.ServeConn(conn, &http2.ServeConnOpts{
		Context: ctx, Handler: d.callHandler(m.ID), BaseConfig: &http.Server{MaxHeaderBytes: 32 << 10},
	})
	return errors.New("closed")
}

// dialCalls turns a connection to the daemon into one that it is the client on.
func (d *Door) dialCalls(ctx context.Context, m machine.Machine) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	conn, err := d.engine.Dial(ctx, m.ID, wire.GuestPort)
	if err != nil {
		return nil, fmt.Errorf("reach the daemon: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: guest\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s: %s\r\nContent-Length: 0\r\n\r\n",
		wire.CallsPath, wire.CallsProtocol, wire.ControlHeader, m.ControlToken)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("ask for the upgrade: %w", err)
	}
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, &http.Request{Method: http.MethodPost})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("ask for the upgrade: %w", err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusSwitchingProtocols {
		conn.Close()
		return nil, fmt.Errorf("ask for the upgrade: the daemon answered %s", res.Status)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		conn.Close()
		return nil, err
	}
	return &readConn{Conn: conn, in: in}, nil
}

// readConn is a connection of which some bytes have been read already.
type readConn struct {
	net.Conn
	in *bufio.Reader
}

func (c *readConn) Read(p []byte) (int, error) { return c.in.Read(p) }
