package machine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/atoll-cloud/atoll/wire"
)

// control speaks to the daemon inside one guest. It keeps a single connection,
// opened before a pooled guest is paused, so that a claim costs one round
// trip. Answers are hostile: they are bounded and only their status is used.
type control struct {
	address netip.Addr

	mu    sync.Mutex
	token string
	conn  net.Conn
	read  *bufio.Reader
	spare net.Conn // for the first who dials the daemon; nil if there is none
}

// maxAnswer bounds what is read of a guest daemon's answer, in bytes.
const maxAnswer = 64 << 10

// dialer connects to guests. Keep-alive probes are off: a paused guest cannot
// answer them and must not lose its connection for that.
var dialer = net.Dialer{Timeout: 5 * time.Second, KeepAlive: -1}

func dialGuest(ctx context.Context, address netip.Addr, port int) (net.Conn, error) {
	return dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(address, uint16(port)).String())
}

// ready waits until the guest daemon answers.
func (c *control) ready(ctx context.Context) error {
	wait := time.Millisecond
	for {
		err := c.call(ctx, http.MethodGet, "/health", nil)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the guest daemon did not answer: %w", errors.Join(ctx.Err(), err))
		case <-time.After(wait):
		}
		wait = min(2*wait, 10*time.Millisecond)
	}
}

// init gives the guest its identity. The first call sets the control token,
// which all later ones carry.
func (c *control) init(ctx context.Context, body wire.Init) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode the guest's identity: %w", err)
	}
	if err := c.call(ctx, http.MethodPost, "/init", b); err != nil {
		return fmt.Errorf("give the guest its identity: %w", err)
	}
	if body.ControlToken != "" {
		c.mu.Lock()
		c.token = body.ControlToken
		c.mu.Unlock()
	}
	return nil
}

// call makes one request on the kept connection and expects a 2xx answer. When
// ctx ends first the connection is given up.
func (c *control) call(ctx context.Context, method, path string, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		conn, err := dialGuest(ctx, c.address, wire.GuestPort)
		if err != nil {
			return err
		}
		c.conn, c.read = conn, bufio.NewReaderSize(conn, 4096)
	}
	conn := c.conn
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(10 * time.Second)
	}
	conn.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	status, err := c.exchange(ctx, method, path, body)
	if !stop() && err == nil {
		err = ctx.Err() // and the connection may have lost its time
	}
	if err != nil {
		c.conn.Close()
		c.conn = nil
		return err
	}
	if status/100 != 2 {
		return fmt.Errorf("the guest daemon answered %s %s with status %d", method, path, status)
	}
	return nil
}

func (c *control) exchange(ctx context.Context, method, path string, body []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://guest"+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	if c.token != "" {
		req.Header.Set(wire.ControlHeader, c.token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if err := req.Write(c.conn); err != nil {
		return 0, err
	}
	limited := bufio.NewReaderSize(io.LimitReader(c.read, maxAnswer), 4096)
	resp, err := http.ReadResponse(limited, req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	return resp.StatusCode, nil
}

func (c *control) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range []*net.Conn{&c.conn, &c.spare} {
		if *conn != nil {
			(*conn).Close()
			*conn = nil
		}
	}
}

// prepare opens a connection for the first client, whose first command then does
// not wait for it. A request has been made on it, since the daemon closes
// connections that have had none for long.
func (c *control) prepare(ctx context.Context) error {
	first := control{address: c.address}
	if err := first.call(ctx, http.MethodGet, "/health", nil); err != nil {
		return err
	}
	first.conn.SetDeadline(time.Time{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spare = first.conn
	return nil
}

// takeSpare returns the connection that was opened ahead, or nil.
func (c *control) takeSpare() net.Conn {
	c.mu.Lock()
	conn := c.spare
	c.spare = nil
	c.mu.Unlock()
	if conn != nil && !isSilent(conn) {
		conn.Close()
		return nil
	}
	return conn
}

// isSilent reports that a connection is open and that nothing has come on it.
func isSilent(conn net.Conn) bool {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return false
	}
	var got error
	err = raw.Read(func(fd uintptr) bool {
		_, _, got = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	})
	return err == nil && got == syscall.EAGAIN
}

// tunnel connects through the guest daemon to a port that listens on the
// guest's loopback only.
func (c *control) tunnel(ctx context.Context, port int) (net.Conn, error) {
	conn, err := dialGuest(ctx, c.address, wire.GuestPort)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	token := c.token
	c.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://guest"+wire.TunnelPath+"?port="+strconv.Itoa(port), nil)
	if err != nil {
		conn.Close()
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", wire.TunnelProtocol)
	req.Header.Set(wire.ControlHeader, token)
	if err := req.Write(conn); err != nil {
		conn.Close()
		return nil, fmt.Errorf("ask the guest daemon for a tunnel: %w", err)
	}
	read := bufio.NewReaderSize(io.LimitReader(conn, maxAnswer), 4096)
	resp, err := http.ReadResponse(read, req)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("read the guest daemon's answer to a tunnel: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		conn.Close()
		return nil, fmt.Errorf("%w: nothing listens on port %d", ErrPortClosed, port)
	}
	return &tunnelConn{Conn: conn, read: read}, nil
}

// tunnelConn reads first what the reader of the handshake had already taken in.
type tunnelConn struct {
	net.Conn
	read *bufio.Reader
}

func (t *tunnelConn) Read(p []byte) (int, error) {
	if t.read.Buffered() > 0 {
		return t.read.Read(p)
	}
	return t.Conn.Read(p)
}

// CloseWrite passes on that the client has sent everything.
func (t *tunnelConn) CloseWrite() error { return t.Conn.(*net.TCPConn).CloseWrite() }

// Dial connects to a TCP port inside a running machine: on its address, or,
// where nothing listens there, on its loopback. It fails with ErrNotFound or
// ErrPortClosed.
func (e *Engine) Dial(ctx context.Context, id string, port int) (net.Conn, error) {
	m, err := e.running(id)
	if err != nil {
		return nil, err
	}
	if port < 1 || port > 65535 {
		return nil, fmt.Errorf("%w: %d is not a TCP port", ErrInvalid, port)
	}
	g := m.live()
	if g == nil {
		return nil, fmt.Errorf("%w: machine %q is asleep", ErrUnavailable, id)
	}
	c := g.control
	if port == wire.GuestPort {
		if conn := c.takeSpare(); conn != nil {
			return conn, nil
		}
	}
	conn, err := dialGuest(ctx, c.address, port)
	if err == nil {
		return conn, nil
	}
	if port == wire.GuestPort || !errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w: machine %s does not answer on port %d: %w", ErrUnavailable, id, port, err)
	}
	return c.tunnel(ctx, port)
}
