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
)

const (
	// dialTimeout bounds how long a guest may take to accept a connection.
	dialTimeout = 10 * time.Second
	// maxIdlePort and maxIdle bound the unused connections kept to one port and
	// to one machine; idleTimeout is how long they are kept.
	maxIdlePort = 32
	maxIdle     = 64
	idleTimeout = 60 * time.Second
	// maxResponseHeader bounds the head of a guest's answer, in bytes.
	maxResponseHeader = 128 << 10
)

// upstreams holds the machines that requests have gone to and that have not
// ended since.
type upstreams struct {
	engine Engine

	mu     sync.RWMutex
	byID   map[string]*upstream
	closed bool
}

func newUpstreams(e Engine) *upstreams {
	return &upstreams{engine: e, byID: make(map[string]*upstream)}
}

// get returns the way to a machine, made on first use; nil after close.
func (s *upstreams) get(id string) *upstream {
	s.mu.RLock()
	u := s.byID[id]
	s.mu.RUnlock()
	if u != nil {
		return u
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.byID[id]; u != nil || s.closed {
		return u
	}
	u = newUpstream(s.engine, id)
	s.byID[id] = u
	go s.watch(u, s.engine.Done(id))
	return u
}

// watch ends the way to a machine when the machine ends or the edge closes.
func (s *upstreams) watch(u *upstream, done <-chan struct{}) {
	select {
	case <-done:
	case <-u.ended.Done():
	}
	s.mu.Lock()
	delete(s.byID, u.id)
	s.mu.Unlock()
	u.close()
}

func (s *upstreams) close() {
	s.mu.Lock()
	s.closed = true
	open := make([]*upstream, 0, len(s.byID))
	for _, u := range s.byID {
		open = append(open, u)
	}
	s.mu.Unlock()
	for _, u := range open {
		u.close()
	}
}

// upstream is the way to one machine: its connections, kept and in use.
type upstream struct {
	engine   Engine
	id       string
	inFlight atomic.Int64
	h1       *http.Transport
	h2       *http.Transport // for gRPC, which has no other form

	ended context.Context // done once the machine has ended or the edge closed
	end   context.CancelFunc

	mu    sync.Mutex
	conns map[*guestConn]struct{} // nil after close
}

func newUpstream(e Engine, id string) *upstream {
	u := &upstream{engine: e, id: id, conns: make(map[*guestConn]struct{})}
	u.ended, u.end = context.WithCancel(context.Background())
	u.h1 = u.transport()
	u.h1.Protocols = new(http.Protocols)
	u.h1.Protocols.SetHTTP1(true)
	u.h2 = u.transport()
	u.h2.Protocols = new(http.Protocols)
	u.h2.Protocols.SetUnencryptedHTTP2(true)
	return u
}

// transport is without a limit on how long a guest may think: long polls are
// legitimate, and the client's leaving ends the wait.
func (u *upstream) transport() *http.Transport {
	return &http.Transport{
		DialContext:            u.dial,
		DisableCompression:     true, // bodies pass as they are
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdlePort,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		ExpectContinueTimeout:  time.Second,
	}
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
	c, err := u.engine.Dial(ctx, u.id, port)
	if err != nil {
		return nil, err
	}
	g := &guestConn{Conn: c, up: u}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.conns == nil {
		c.Close()
		return nil, net.ErrClosed
	}
	u.conns[g] = struct{}{}
	return g, nil
}

// close cuts all connections: when a machine ends its kernel is gone and says
// no goodbye, so a stream would otherwise hang.
func (u *upstream) close() {
	u.end()
	u.mu.Lock()
	open := u.conns
	u.conns = nil
	u.mu.Unlock()
	for g := range open {
		g.Conn.Close()
	}
	u.h1.CloseIdleConnections()
	u.h2.CloseIdleConnections()
}

// guestConn is a connection to a guest that its upstream knows of.
type guestConn struct {
	net.Conn
	up *upstream
}

func (g *guestConn) Close() error {
	g.up.mu.Lock()
	delete(g.up.conns, g)
	g.up.mu.Unlock()
	return g.Conn.Close()
}
