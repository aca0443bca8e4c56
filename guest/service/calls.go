package service

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/wire"
)

// callPatience is how long a call waits for the host to connect: it does so
// soon after a machine has started or woken.
const callPatience = 5 * time.Second

// errNoHost is reported for calls that the host cannot be asked.
var errNoHost = errors.New("the host of this machine is not connected: try again")

// calls are those to the host, on a connection that the host has opened. Its
// methods may be used by several goroutines.
type calls struct {
	// forget is told of connections that have ended.
	forget func(net.Conn)
	// connected is called when the host has connected.
	connected func()
	patience  time.Duration

	mu      sync.Mutex
	current *hostConn
	// arrived is closed when current is set.
	arrived chan struct{}
}

// hostConn is a connection with the host as the server of HTTP/2.
type hostConn struct {
	net.Conn
	read  *bufio.Reader // what came with the request to upgrade, then the rest
	http  *http.ClientConn
	ended chan struct{}
	once  sync.Once
}

func (c *hostConn) Read(p []byte) (int, error) { return c.read.Read(p) }

// Close is called by us and by the HTTP client, whoever sees the end first.
func (c *hostConn) Close() error {
	c.once.Do(func() { close(c.ended) })
	return c.Conn.Close()
}

// accept turns a request of the host into the connection for calls. It returns
// at once; the connection replaces the one before.
func (c *calls) accept(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), wire.CallsProtocol) {
		http.Error(w, "ask for Upgrade: "+wire.CallsProtocol, http.StatusUpgradeRequired)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "calls need HTTP/1.1: "+err.Error(), http.StatusBadRequest)
		return
	}
	host := &hostConn{Conn: conn, read: buffered.Reader, ended: make(chan struct{})}
	conn.SetDeadline(time.Time{})
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+wire.CallsProtocol+"\r\n\r\n")
	if err == nil {
		host.http, err = clientOn(host)
	}
	if err != nil { // the host left
		host.Close()
		c.forget(conn)
		return
	}
	c.replace(host)
	go func() {
		<-host.ended
		c.drop(host)
		c.forget(conn)
	}()
	c.connected()
}

// clientOn makes us the client on a connection.
func clientOn(conn net.Conn) (*http.ClientConn, error) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: protocols, DisableCompression: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}
	client, err := transport.NewClientConn(context.Background(), "http", "host:80")
	if err != nil {
		return nil, fmt.Errorf("speak HTTP/2 with the host: %w", err)
	}
	return client, nil
}

func (c *calls) replace(host *hostConn) {
	c.mu.Lock()
	last := c.current
	c.current = host
	close(c.arrived)
	c.arrived = make(chan struct{})
	c.mu.Unlock()
	if last != nil {
		last.Close()
	}
}

// drop forgets a connection that has ended.
func (c *calls) drop(host *hostConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == host {
		c.current = nil
	}
}

// RoundTrip sends a request to the host. It waits a little while if the host is
// not connected.
func (c *calls) RoundTrip(r *http.Request) (*http.Response, error) {
	timer := time.NewTimer(c.patience)
	defer timer.Stop()
	for {
		c.mu.Lock()
		host, arrived := c.current, c.arrived
		c.mu.Unlock()
		if host != nil {
			answer, err := host.http.RoundTrip(r)
			if err != nil {
				return nil, fmt.Errorf("%w (%w)", errNoHost, err)
			}
			return answer, nil
		}
		select {
		case <-arrived:
		case <-timer.C:
			return nil, errNoHost
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}

// isConnected reports whether calls need not wait.
func (c *calls) isConnected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current != nil
}

// close ends the connection.
func (c *calls) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil {
		c.current.Close()
	}
}

// forward returns a handler that has the host answer requests, at the same path.
func (c *calls) forward() http.Handler {
	return &httputil.ReverseProxy{
		Transport:     c,
		FlushInterval: -1, // checkpoints tell how they go on
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", "host", ""
			// HTTP/2 has no upgrades; the host says so better than its client.
			if r.In.Header.Get("Upgrade") != "" {
				r.Out.Header.Del("Upgrade")
				r.Out.Header.Del("Connection")
				r.Out.Header.Set(wire.CallUpgradeHeader, "1")
			}
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { writeError(w, err) },
	}
}
