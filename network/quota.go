package network

import (
	"net"
	"net/netip"
	"sync"
)

// quota bounds what guests have in hand at a time, each and all together.
type quota struct {
	limit, total int

	mu   sync.Mutex
	sum  int
	each map[netip.Addr]int
}

func (q *quota) take(guest netip.Addr) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sum >= q.total || q.each[guest] >= q.limit {
		return false
	}
	if q.each == nil {
		q.each = make(map[netip.Addr]int)
	}
	q.sum++
	q.each[guest]++
	return true
}

func (q *quota) free(guest netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sum--
	if q.each[guest]--; q.each[guest] == 0 {
		delete(q.each, guest)
	}
}

// guestListener accepts connections as far as the quota goes.
type guestListener struct {
	net.Listener
	open *quota
}

// Accept returns the next connection of a guest that has not too many.
func (l *guestListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
		if err == nil && l.open.take(from.Addr().Unmap()) {
			return &guestConn{Conn: conn, open: l.open, guest: from.Addr().Unmap()}, nil
		}
		conn.Close()
	}
}

// guestConn gives its place back when it is closed.
type guestConn struct {
	net.Conn
	open  *quota
	guest netip.Addr
	once  sync.Once
}

// Close closes the connection.
func (c *guestConn) Close() error {
	c.once.Do(func() { c.open.free(c.guest) })
	return c.Conn.Close()
}
