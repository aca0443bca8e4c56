package edge

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/observe"
)

// testID is a machine that every harness has.
const testID = "iabcdefgh0123456789"

// patience bounds waits for things that must happen; it is never a measurement.
const patience = 20 * time.Second

// harness is an edge behind a real server, with one running machine.
type harness struct {
	t      testing.TB
	engine *fakeEngine
	edge   *Edge
	addr   string // of the edge's server
	client *http.Client
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	engine := newFakeEngine()
	t.Cleanup(func() { // runs when the servers and the edge are closed
		await(t, "every enter has its leave", func() bool { return engine.held() == 0 })
	})
	engine.add(machine.Machine{ID: testID, State: machine.Running})
	fallback := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "api "+r.URL.Path)
	})
	log := slog.New(slog.DiscardHandler)
	e := New(Config{Engine: engine, Domain: "atoll.test", Fallback: fallback, Logger: log})
	h := &harness{t: t, engine: engine, edge: e, addr: listen(t, Server(e, log))}
	t.Cleanup(e.Close)
	h.client = h.clientFor(nil)
	return h
}

// clientFor returns a client that connects to the edge whatever the URL's host.
func (h *harness) clientFor(p *http.Protocols) *http.Client {
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", h.addr)
		},
		Protocols: p, DisableCompression: true, MaxIdleConnsPerHost: 16,
		ReadBufferSize: bufferSize, WriteBufferSize: bufferSize,
	}
	h.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func h2c() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// listen serves s on a loopback port until the test ends.
func listen(t testing.TB, s *http.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// guest makes handler what listens on a port of the machine.
func (h *harness) guest(port int, handler http.Handler) {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	h.guestAt(port, listen(h.t, &http.Server{Handler: handler, Protocols: p, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}))
}

func (h *harness) guestAt(port int, addr string) {
	h.engine.mu.Lock()
	defer h.engine.mu.Unlock()
	h.engine.ports[fmt.Sprintf("%s:%d", testID, port)] = addr
}

// rawGuest makes serve what handles each connection to a port of the machine.
func (h *harness) rawGuest(port int, serve func(net.Conn)) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); serve(c) }()
		}
	}()
	h.guestAt(port, l.Addr().String())
}

// guestURL is the address of a guest's port.
func guestURL(port int, path string) string {
	return fmt.Sprintf("http://%d-%s.atoll.test%s", port, testID, path)
}

func (h *harness) do(r *http.Request) (*http.Response, string) {
	h.t.Helper()
	res, err := h.client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return res, string(b)
}

func (h *harness) get(url string, headers ...string) (*http.Response, string) {
	h.t.Helper()
	r := httptest.NewRequest("GET", url, nil)
	r.RequestURI = ""
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return h.do(r)
}

// raw sends text over a connection of its own and returns all that comes back.
func (h *harness) raw(text string) string {
	h.t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		h.t.Fatal(err)
	}
	b, _ := io.ReadAll(c)
	return string(b)
}

// nothingKept waits until the edge holds nothing of any machine.
func (h *harness) nothingKept() {
	h.t.Helper()
	await(h.t, "nothing of a machine is kept", func() bool {
		h.edge.machines.mu.RLock()
		defer h.edge.machines.mu.RUnlock()
		return len(h.edge.machines.byID) == 0 && h.engine.open.Load() == 0
	})
}

// await waits until ok holds.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// observed puts the middleware of every request around a handler.
func observed(h http.Handler) http.Handler {
	return observe.Middleware(h, observe.NewMetrics(), slog.New(slog.DiscardHandler))
}
