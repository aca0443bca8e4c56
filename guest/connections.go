package guest

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// connections are those that clients and the host have with the daemon, kept so
// that they can be ended when their other ends are gone.
type connections struct {
	mu   sync.Mutex
	open map[net.Conn]struct{}
	// inside reports that the other end is in the machine too.
	inside func(net.Conn) bool
}

func newConnections() *connections {
	return &connections{open: map[net.Conn]struct{}{}, inside: isLoopback}
}

func isLoopback(conn net.Conn) bool {
	address, ok := conn.RemoteAddr().(*net.TCPAddr)
	return !ok || address.IP.IsLoopback()
}

// track follows the connections of an http.Server. Whoever takes one over from
// it says with forget when it has ended.
func (c *connections) track(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.mu.Lock()
		c.open[conn] = struct{}{}
		c.mu.Unlock()
	case http.StateClosed:
		c.forget(conn)
	}
}

func (c *connections) forget(conn net.Conn) {
	c.mu.Lock()
	delete(c.open, conn)
	c.mu.Unlock()
}

// end closes all connections with the outside but one, which ends the requests
// and streams on them.
func (c *connections) end(except net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		if conn != except && !c.inside(conn) {
			conn.Close()
		}
	}
}

type connectionKey struct{}

func withConnection(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, conn)
}

// requestConnection returns the connection that carries a request.
func requestConnection(r *http.Request) net.Conn {
	conn, _ := r.Context().Value(connectionKey{}).(net.Conn)
	return conn
}
