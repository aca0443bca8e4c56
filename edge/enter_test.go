package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/wire"
)

func TestAnswersOfSleepers(t *testing.T) {
	stored := machine.Machine{ID: testID, State: machine.Stored}
	paused := machine.Machine{ID: testID, State: machine.Stored, Paused: true}
	waking := machine.Machine{ID: testID, State: machine.Stored, Paused: true, Lifecycle: machine.Lifecycle{AutoResume: true}}
	for _, c := range []struct {
		name  string
		m     machine.Machine
		err   error // of waking
		code  int
		words []string
	}{
		{name: "frozen by the engine", m: machine.Machine{ID: testID, State: machine.Frozen}, code: 200},
		{name: "stored by the engine", m: stored, code: 200},
		{name: "paused, wakes by use", m: waking, code: 200},
		// Python's SDK looks for "was not found".
		{name: "paused", m: paused, code: 502, words: []string{"was not found", "is paused: resume it with connect"}},
		{name: "ended while it woke", m: stored, err: machine.ErrNotFound, code: 502, words: []string{"was not found"}},
		{name: "damaged", m: stored, err: errors.Join(fmt.Errorf("secret detail: %w: page 7 is torn", machine.ErrDamaged), errors.New("secret detail")), code: 500, words: []string{"page 7 is torn", "reboot"}},
		{name: "incompatible", m: stored, err: fmt.Errorf("%w: it needs avx512", machine.ErrIncompatible), code: 500, words: []string{"it needs avx512", "reboot"}},
		{name: "over the team's limit", m: waking, err: fmt.Errorf("%w: 20 run", machine.ErrLimit), code: 429, words: []string{"20 run", "end or pause another"}},
		{name: "unavailable", m: stored, err: machine.ErrUnavailable, code: 503, words: []string{"try again"}},
		{name: "an unknown error", m: stored, err: errors.New("secret detail"), code: 503, words: []string{"try again"}},
	} {
		for proto, p := range map[string]*http.Protocols{"h1": nil, "h2c": h2c()} {
			for _, port := range []int{wire.GuestPort, 3000} {
				t.Run(fmt.Sprintf("%s/%s/%d", c.name, proto, port), func(t *testing.T) {
					h := newHarness(t)
					h.client = h.clientFor(p)
					h.guest(port, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "awake") }))
					h.engine.sleeper(c.m)
					h.engine.wakeErr = c.err
					res, body := h.get(guestURL(port, "/health"))
					if res.StatusCode != c.code || strings.Contains(body, "secret detail") {
						t.Fatalf("answered %d %s, want %d", res.StatusCode, body, c.code)
					}
					if c.code == 200 {
						if body != "awake" || h.engine.wakes.Load() != 1 {
							t.Errorf("answered %q after %d wakes", body, h.engine.wakes.Load())
						}
						return
					}
					var got problem
					if err := json.Unmarshal([]byte(body), &got); err != nil || got.Code != c.code || got.SandboxID != testID {
						t.Errorf("%v: answered %s", err, body)
					}
					for _, words := range c.words {
						if !strings.Contains(got.Message, words) {
							t.Errorf("the message is %q, want %q in it", got.Message, words)
						}
					}
					res, body = h.get(guestURL(port, "/health"), "Accept", "text/html")
					if res.StatusCode != c.code || !strings.Contains(body, "<h1>") {
						t.Errorf("a browser gets %d %s", res.StatusCode, body)
					}
				})
			}
		}
	}
}

// sleeper makes a machine of the test's sleep.
func (e *fakeEngine) sleeper(m machine.Machine) {
	e.mu.Lock()
	if m.State == machine.Stored {
		e.sever(m.ID)
	}
	e.mu.Unlock()
	e.add(m)
}

func TestWhoIsRefusedWakesNobody(t *testing.T) {
	h := newHarness(t)
	h.engine.sleeper(machine.Machine{ID: testID, State: machine.Stored, TrafficToken: "right-token"})
	preflight := []string{"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", headerTrafficToken}
	for _, c := range []struct {
		name, method, url string
		headers           []string
		code              int
	}{
		{"a control route", "POST", guestURL(wire.GuestPort, "/init"), nil, 404},
		{"without the traffic token", "GET", guestURL(3000, "/"), nil, 403},
		{"a preflight to the daemon", "OPTIONS", guestURL(wire.GuestPort, "/files"), preflight, 204},
		{"a preflight of the traffic token", "OPTIONS", guestURL(3000, "/"), preflight, 204},
		{"an unknown machine", "GET", "http://3000-iunknown00.localhost/", nil, 502},
	} {
		r := httptest.NewRequest(c.method, c.url, nil)
		r.RequestURI = ""
		for i := 0; i < len(c.headers); i += 2 {
			r.Header.Set(c.headers[i], c.headers[i+1])
		}
		if res, body := h.do(r); res.StatusCode != c.code {
			t.Errorf("%s: answered %d %s, want %d", c.name, res.StatusCode, body, c.code)
		}
	}
	if got := h.raw("CONNECT 3000-" + testID + ".localhost:80 HTTP/1.1\nHost: 3000-" + testID + ".localhost\nConnection: close\n\n"); !strings.HasPrefix(got, "HTTP/1.1 405") {
		t.Errorf("CONNECT is answered %s", got)
	}
	if n := h.engine.enters.Load(); n != 0 {
		t.Errorf("entered %d times", n)
	}
}

// A program in a browser reads why there is no answer, which takes an answer
// to the preflight that no guest is awake to give.
func TestPreflightOfAPausedPort(t *testing.T) {
	h := newHarness(t)
	h.engine.pause(testID)
	r := httptest.NewRequest("OPTIONS", guestURL(3000, "/"), nil)
	r.RequestURI = ""
	r.Header.Set("Access-Control-Request-Method", "POST")
	if res, body := h.do(r); res.StatusCode != 204 {
		t.Errorf("answered %d %s", res.StatusCode, body)
	}
}

func TestManyAtOnceWakeOnce(t *testing.T) {
	h := newHarness(t)
	h.guest(wire.GuestPort, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	h.engine.sleeper(machine.Machine{ID: testID, State: machine.Stored})
	h.engine.slow = make(chan struct{})
	clients := []*http.Client{h.clientFor(nil), h.clientFor(h2c())}
	const requests = 100
	failed := make(chan error, requests)
	for i := range requests {
		kind := []string{"application/json", "application/grpc"}[i/2%2]
		go func() {
			want := fmt.Sprint("request ", i)
			res, err := clients[i%2].Post(guestURL(wire.GuestPort, "/files"), kind, strings.NewReader(want))
			if err != nil {
				failed <- err
				return
			}
			defer res.Body.Close()
			if b, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 200 || string(b) != want {
				err = fmt.Errorf("%d %q: %v", res.StatusCode, b, err)
				failed <- err
				return
			}
			failed <- nil
		}()
	}
	await(t, "all wait", func() bool { return h.engine.waits.Load() == requests })
	close(h.engine.slow)
	for range requests {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if n := h.engine.wakes.Load(); n != 1 {
		t.Errorf("woken %d times", n)
	}
	await(t, "nobody holds the machine awake", func() bool { return h.engine.held() == 0 })
}

func TestClientsLeavingEndsItsWaitForAWake(t *testing.T) {
	for _, c := range []struct {
		name, method, body string
		protocols          *http.Protocols
	}{
		{"h1", "GET", "", nil},
		{"h1 with a body", "POST", "body", nil},
		{"h2c", "GET", "", h2c()},
		{"h2c with a body", "POST", "body", h2c()},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t)
			h.engine.sleeper(machine.Machine{ID: testID, State: machine.Stored})
			h.engine.slow = make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			r, _ := http.NewRequestWithContext(ctx, c.method, guestURL(wire.GuestPort, "/files"), strings.NewReader(c.body))
			done := make(chan struct{})
			go func() {
				defer close(done)
				if res, err := h.clientFor(c.protocols).Do(r); err == nil {
					res.Body.Close()
				}
			}()
			await(t, "the request waits", func() bool { return h.engine.waits.Load() == 1 })
			cancel()
			<-done
			h.nothingKept() // although the machine still wakes
			close(h.engine.slow)
		})
	}
}

// What is paused between entering and the first byte is entered again: the
// engine then says whether this request may wake it.
func TestPausedAsSoonAsEntered(t *testing.T) {
	for _, c := range []struct {
		name       string
		autoResume bool
		pauses     int64
		code       int
		enters     int64
	}{
		{"wakes by use", true, 1, 200, 2},
		{"wakes by resume only", false, 1, 502, 2},
		{"again and again", true, 1000, 503, maxEnters},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t)
			h.guest(3000, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			h.engine.add(machine.Machine{ID: testID, State: machine.Running, Lifecycle: machine.Lifecycle{AutoResume: c.autoResume}})
			h.engine.entered = func() {
				if h.engine.enters.Load() <= c.pauses {
					h.engine.pause(testID)
				}
			}
			if res, body := h.get(guestURL(3000, "/")); res.StatusCode != c.code {
				t.Errorf("answered %d %s, want %d", res.StatusCode, body, c.code)
			}
			if n := h.engine.enters.Load(); n != c.enters {
				t.Errorf("entered %d times, want %d", n, c.enters)
			}
			if c.code != 200 {
				h.nothingKept()
			}
		})
	}
}

// A frozen machine's connections stay good. Those to its own ports are not
// kept all the same: its servers' timers have passed meanwhile.
func TestConnectionsAfterAFreeze(t *testing.T) {
	for _, c := range []struct {
		port  int
		dials int64
	}{{wire.GuestPort, 1}, {3000, 2}} {
		h := newHarness(t)
		h.guest(c.port, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
		for range 2 {
			r, _ := http.NewRequest("POST", guestURL(c.port, "/files"), strings.NewReader("x"))
			if res, body := h.do(r); res.StatusCode != 200 || body != "x" {
				t.Errorf("answered %d %s", res.StatusCode, body)
			}
			await(t, "a kept connection is no use", func() bool { return h.engine.held() == 0 })
			h.engine.freeze(testID)
		}
		if n := h.engine.dials.Load(); n != c.dials {
			t.Errorf("port %d was dialed %d times, want %d", c.port, n, c.dials)
		}
	}
}

// Ten thousand sleepers that are asked in vain, and a machine whose last
// connection is gone, leave nothing behind.
func TestWhatNobodyUsesCostsNothing(t *testing.T) {
	h := newHarness(t)
	const sleepers = 10_000
	for i := range sleepers {
		id := fmt.Sprintf("sleeper%06d", i)
		h.engine.add(machine.Machine{ID: id, State: machine.Stored, Paused: true})
		r := httptest.NewRequest("GET", "/health", nil)
		r.Header.Set(headerSandboxID, id)
		r.Header.Set(headerSandboxPort, "49983")
		w := httptest.NewRecorder()
		if h.edge.ServeHTTP(w, r); w.Code != 502 {
			t.Fatalf("answered %d", w.Code)
		}
	}
	h.nothingKept()
	guest := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go guest.Serve(l)
	h.guestAt(3000, l.Addr().String())
	h.get(guestURL(3000, "/"))
	if n := h.engine.open.Load(); n != 1 {
		t.Errorf("%d connections are kept", n)
	}
	h.engine.freeze(testID)
	guest.Close()
	h.nothingKept()
}
