package machine

import (
	"bufio"
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/wire"
)

// serveHealth is a daemon that says yes to everything.
func serveHealth(t *testing.T, address netip.Addr) *http.Server {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(address, wire.GuestPort).String())
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return s
}

// TestCallsThatAreGivenUp ends calls at the moment at which they are answered.
func TestCallsThatAreGivenUp(t *testing.T) {
	address := netip.MustParseAddr("127.73.19.1") // nobody else's
	serveHealth(t, address)
	c := &control{address: address}
	defer c.close()
	for range 500 {
		ctx, cancel := context.WithCancel(t.Context())
		timer := time.AfterFunc(rand.N(200*time.Microsecond), cancel)
		if err := c.call(ctx, http.MethodGet, "/health", nil); err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		timer.Stop()
		cancel()
		if err := c.call(t.Context(), http.MethodGet, "/health", nil); err != nil {
			t.Fatalf("a call after one that was given up: %v", err)
		}
	}
}

// The connection that was opened ahead is for one client, and for none if the daemon
// has closed it.
func TestSpareConnection(t *testing.T) {
	address := netip.MustParseAddr("127.73.19.2") // nobody else's
	s := serveHealth(t, address)
	c := &control{address: address}
	defer c.close()
	if c.takeSpare() != nil {
		t.Fatal("there is one that nobody opened")
	}
	if err := c.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn := c.takeSpare()
	if conn == nil || c.takeSpare() != nil {
		t.Fatal("there is none, or two")
	}
	second := control{address: address, conn: conn, read: bufio.NewReader(conn)}
	defer second.close()
	if err := second.call(t.Context(), http.MethodGet, "/health", nil); err != nil || second.conn != conn {
		t.Errorf("a request on it: %v", err)
	}

	if err := c.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for c.spare != nil && isSilent(c.spare) {
		time.Sleep(time.Millisecond) // until its end has come
	}
	if c.takeSpare() != nil {
		t.Error("one that the daemon has closed is given to a client")
	}
}
