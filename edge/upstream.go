package edge

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atoll-cloud/atoll/wire"
)

const (
	// dialTimeout bounds how long a guest may take to accept a connection.
	dialTimeout = 10 * time.Second
	// maxIdlePort and maxIdle bound the unused connections kept to one port and
	// to all of a machine's own ports; idleTimeout is how long they are kept.
	maxIdlePort = 32
	maxIdle     = 64
	idleTimeout = 60 * time.Second
	// writeBuffer holds a chunk of a body of unknown length with its head and its
	// end, so that it goes to the guest in one write instead of three.
	writeBuffer = bufferSize + 1<<10
	// maxResponseHeader bounds the head of a guest's answer, in bytes.
	maxResponseHeader = 128 << 10
)

// upstream is the way to one machine from one waking to the next pause or the
// end: its connections, kept and in use.
type upstream struct {
	all     *entries
	entry   *entry
	severed <-chan struct{} // closed when the connections are dead

	daemon *http.Transport // to the guest daemon
	ports  *http.Transport // to the guest's own ports
	grpc   *http.Transport // for gRPC, which is HTTP/2 in every case

	port atomic.Pointer[knownPort] // where a sprite's URL goes; nil: not known

	ended context.Context // done when nothing may be dialed any more
	end   context.CancelFunc

	mu    sync.Mutex
	conns map[*guestConn]struct{} // nil after close
}

func newUpstream(all *entries, n *entry, severed <-chan struct{}) *upstream {
	u := &upstream{all: all, entry: n, severed: severed, conns: make(map[*guestConn]struct{})}
	u.ended, u.end = context.WithCancel(context.Background())
	u.daemon, u.ports, u.grpc = u.transport(http1), u.transport(http1), u.transport(http2)
	return u
}

var (
	http1 = protocols((*http.Protocols).SetHTTP1)
	http2 = protocols((*http.Protocols).SetUnencryptedHTTP2)
)

func protocols(set func(*http.Protocols, bool)) *http.Protocols {
	p := new(http.Protocols)
	set(p, true)
	return p
}

// transport is without a limit on how long a guest may think: long polls are
// legitimate, and the client's leaving ends the wait.
func (u *upstream) transport(p *http.Protocols) *http.Transport {
	return &http.Transport{
		Protocols:              p,
		DialContext:            u.dial,
		DisableCompression:     true, // bodies pass as they are
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdlePort,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		WriteBufferSize:        writeBuffer,
		ExpectContinueTimeout:  time.Second,
	}
}

// roundTrip sends a request to a port over a connection that is kept or new.
func (u *upstream) roundTrip(r *http.Request, port int) (*http.Response, error) {
	switch {
	case isGRPC(r):
		return u.grpc.RoundTrip(r)
	case port == wire.GuestPort:
		return u.daemon.RoundTrip(r)
	}
	return u.ports.RoundTrip(r)
}

// afterSleep drops the unused connections to the guest's own ports. Their
// servers' timers ran on while the guest stood still: one that keeps a
// connection for five seconds may close it the moment it runs again, and a
// request that is on its way then is lost. The daemon keeps connections.
func (u *upstream) afterSleep() { u.ports.CloseIdleConnections() }

// isSevered reports whether the machine was paused or has ended.
func (u *upstream) isSevered() bool { return isClosed(u.severed) }

// connected reports whether there are connections, in use or kept.
func (u *upstream) connected() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.conns) > 0
}

// dial connects to the port in addr, whose host part means nothing.
func (u *upstream) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	_, word, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("reading the guest's address: %w", err)
	}
	port, err := strconv.Atoi(word)
	if err != nil {
		return nil, fmt.Errorf("reading the guest's port: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	stop := context.AfterFunc(u.ended, cancel)
	defer stop()
	c, err := u.all.engine.Dial(ctx, u.entry.id, port)
	if err != nil {
		return nil, err
	}
	g := &guestConn{Conn: c, up: u}
	u.mu.Lock()
	defer u.mu.Unlock()
	// A machine that was paused and woke while it was dialed is reached by a
	// newer upstream: this one must not keep a connection of that waking.
	if u.conns == nil || u.isSevered() {
		c.Close()
		return nil, net.ErrClosed
	}
	u.conns[g] = struct{}{}
	return g, nil
}

// close cuts all connections: when a machine is paused or ends its kernel is
// gone and says no goodbye, so a stream would otherwise hang.
func (u *upstream) close() {
	u.end()
	u.mu.Lock()
	open := u.conns
	u.conns = nil
	u.mu.Unlock()
	for g := range open {
		g.Conn.Close()
	}
	u.daemon.CloseIdleConnections()
	u.ports.CloseIdleConnections()
	u.grpc.CloseIdleConnections()
}

// guestConn is a connection to a guest that its upstream knows of.
type guestConn struct {
	net.Conn
	up *upstream
}

func (g *guestConn) Close() error {
	g.up.mu.Lock()
	delete(g.up.conns, g)
	last := len(g.up.conns) == 0
	g.up.mu.Unlock()
	err := g.Conn.Close()
	if last {
		g.up.all.forget(g.up.entry)
	}
	return err
}
