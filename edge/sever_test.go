package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/wire"
)

// hanging is a guest's program whose answers do not end: /stream begins one,
// /silent does not.
func hanging(w http.ResponseWriter, r *http.Request) {
	if r.Method == "HEAD" {
		return
	}
	if r.URL.Path == "/files" {
		io.WriteString(w, "begin")
		http.NewResponseController(w).Flush()
	}
	<-r.Context().Done()
}

// Requests that a pause meets end with an error, and the machine is reached
// again after it woke.
func TestPauseCutsWhatIsOpen(t *testing.T) {
	for _, c := range []struct {
		name, kind string
		protocols  *http.Protocols
	}{{"h1", "text/plain", nil}, {"h2c", "text/plain", h2c()}, {"gRPC", "application/grpc", h2c()}} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t)
			h.guest(wire.GuestPort, http.HandlerFunc(hanging))
			client := h.clientFor(c.protocols)
			for range 2 {
				stream, err := client.Post(guestURL(wire.GuestPort, "/files"), c.kind, strings.NewReader("x"))
				if err != nil {
					t.Fatal(err)
				}
				io.ReadFull(stream.Body, make([]byte, 5))
				silent := make(chan string, 1)
				go func() {
					res, err := client.Post(guestURL(wire.GuestPort, "/health"), c.kind, strings.NewReader("x"))
					if err != nil {
						silent <- err.Error()
						return
					}
					defer res.Body.Close()
					b, _ := io.ReadAll(res.Body)
					silent <- fmt.Sprint(res.StatusCode, string(b))
				}()
				await(t, "both are in flight", func() bool { return h.engine.held() == 2 })
				h.engine.pause(testID)
				if _, err := io.ReadAll(stream.Body); err == nil {
					t.Error("a cut stream looks like a whole one")
				}
				stream.Body.Close()
				if got := <-silent; !strings.HasPrefix(got, "502") || !strings.Contains(got, "is paused: resume it with connect") {
					t.Errorf("a request that waited gets %s", got)
				}
				h.nothingKept()
				h.engine.resume(testID)
				r, _ := http.NewRequest("HEAD", guestURL(wire.GuestPort, "/health"), nil)
				if res, err := client.Do(r); err != nil || res.StatusCode != 200 {
					t.Fatalf("after it woke: %v %v", res, err)
				}
			}
		})
	}
}

// A tunnel is one use from its first byte to its last.
func TestTunnelsKeepAMachineAwake(t *testing.T) {
	for name, end := range map[string]func(*harness, *websocket.Conn){
		"the client says goodbye": func(_ *harness, c *websocket.Conn) { c.Close(websocket.StatusNormalClosure, "") },
		"the client is gone":      func(_ *harness, c *websocket.Conn) { c.CloseNow() },
		"the machine is paused": func(h *harness, c *websocket.Conn) {
			h.engine.pause(testID)
			if _, _, err := c.Read(h.t.Context()); err == nil {
				h.t.Error("a cut tunnel still gives messages")
			}
		},
		"the edge closes": func(h *harness, c *websocket.Conn) { h.edge.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.guest(3000, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c, err := websocket.Accept(w, r, nil)
				if err != nil {
					return
				}
				defer c.CloseNow()
				c.Read(context.Background())
			}))
			h.engine.sleeper(machine.Machine{ID: testID, State: machine.Stored})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c, _, err := websocket.Dial(ctx, guestURL(3000, "/ws"), &websocket.DialOptions{HTTPClient: h.client})
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseNow()
			if n := h.engine.held(); n != 1 {
				t.Errorf("an open tunnel holds the machine %d times", n)
			}
			end(h, c)
			h.nothingKept()
			await(t, "nobody holds the machine awake", func() bool { return h.engine.held() == 0 })
		})
	}
}

// However a request ends, it leaves once.
func TestLeaveFollowsEveryEnd(t *testing.T) {
	h := newHarness(t)
	h.guest(3000, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/abort":
			io.WriteString(w, "begin")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/early":
			w.WriteHeader(413)
		case "/upload":
			io.Copy(io.Discard, r.Body)
		}
	}))
	h.rawGuest(3001, func(c net.Conn) { c.Read(make([]byte, 4096)) })
	for _, c := range []struct {
		name string
		port int
		path string
		body func() io.Reader
	}{
		{"an answer", 3000, "/", nil},
		{"an answer cut off", 3000, "/abort", nil},
		{"an early answer", 3000, "/early", func() io.Reader { return io.LimitReader(zeros{}, 8<<20) }},
		{"an upload that breaks off", 3000, "/upload", func() io.Reader { return io.MultiReader(strings.NewReader("x"), failing{}) }},
		{"no answer", 3001, "/", nil},
		{"a closed port", 3002, "/", nil},
	} {
		for proto, p := range map[string]*http.Protocols{"h1": nil, "h2c": h2c()} {
			before := h.engine.enters.Load()
			var body io.Reader
			if c.body != nil {
				body = c.body()
			}
			r, _ := http.NewRequest("POST", guestURL(c.port, c.path), body)
			if res, err := h.clientFor(p).Do(r); err == nil {
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			await(t, c.name+" over "+proto+" has entered and left", func() bool {
				return h.engine.enters.Load() > before && h.engine.held() == 0
			})
		}
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the client's file is gone") }

// Requests that a pause has cut and that are not over yet, for their clients
// do not read, count against the limit after the machine woke.
func TestLimitHoldsAcrossPauses(t *testing.T) {
	h := newHarness(t)
	h.edge.maxRequests = 2
	h.guest(wire.GuestPort, http.HandlerFunc(hanging))
	request := func() *http.Request { return httptest.NewRequest("GET", guestURL(wire.GuestPort, "/files"), nil) }
	slow := &slowWriter{writing: make(chan struct{}), release: make(chan struct{})}
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { h.edge.ServeHTTP(slow, request()) })
		<-slow.writing
	}
	h.engine.pause(testID)
	h.engine.resume(testID)
	w := httptest.NewRecorder()
	if h.edge.ServeHTTP(w, request()); w.Code != 429 {
		t.Errorf("the third is answered %d", w.Code)
	}
	close(slow.release)
	both.Wait()
	r := request()
	r.Method = "HEAD"
	w = httptest.NewRecorder()
	if h.edge.ServeHTTP(w, r); w.Code != 200 {
		t.Errorf("after the two the next is answered %d", w.Code)
	}
}

// slowWriter is a client that does not read.
type slowWriter struct {
	writing, release chan struct{}
}

func (s *slowWriter) Header() http.Header { return http.Header{} }
func (s *slowWriter) WriteHeader(int)     {}
func (s *slowWriter) Flush()              {}
func (s *slowWriter) Write(b []byte) (int, error) {
	s.writing <- struct{}{}
	<-s.release
	return 0, io.ErrClosedPipe
}

// Two wakings may overlap: what is cut is the older, and what is new stays.
func TestWakingsDoNotCutEachOther(t *testing.T) {
	h := newHarness(t)
	h.guest(wire.GuestPort, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	n, _ := h.edge.machines.admit(testID)
	defer h.edge.machines.release(n)
	older, err := h.edge.machines.upstream(n)
	if err != nil {
		t.Fatal(err)
	}
	h.engine.pause(testID)
	if up, err := h.edge.machines.upstream(n); !errors.Is(err, errSevered) {
		t.Errorf("a paused machine gives the way %v, %v", up, err)
	}
	h.engine.resume(testID)
	newer, err := h.edge.machines.upstream(n)
	if err != nil || newer == older {
		t.Fatalf("after waking the way is the same: %v, %v", newer == older, err)
	}
	<-older.ended.Done()
	if _, err := older.dial(t.Context(), "tcp", "guest:49983"); err == nil {
		t.Error("the older way still dials")
	}
	r, _ := http.NewRequest("POST", guestURL(wire.GuestPort, "/files"), strings.NewReader("x"))
	if res, body := h.do(r); res.StatusCode != 200 || body != "x" || newer.ended.Err() != nil {
		t.Errorf("the newer way answers %d %s, %v", res.StatusCode, body, newer.ended.Err())
	}
	if up, _ := h.edge.machines.upstream(n); up != newer {
		t.Error("the newer way was not kept")
	}
}

// Requests meet a machine that is paused, frozen and woken all the time. Each
// is answered or cut, none hangs, and nothing is left behind.
func TestRequestsDuringPausesAndWakings(t *testing.T) {
	h := newHarness(t)
	h.guest(wire.GuestPort, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(flushing{w}, r.Body) }))
	h.engine.add(machine.Machine{ID: testID, State: machine.Running, Lifecycle: machine.Lifecycle{AutoResume: true}})
	clients := []*http.Client{h.clientFor(nil), h.clientFor(h2c())}
	before := runtime.NumGoroutine()
	stop := make(chan struct{})
	var sleeping, asking sync.WaitGroup
	sleeping.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if i%3 == 0 {
				h.engine.freeze(testID)
			} else {
				h.engine.pause(testID)
			}
			enters := h.engine.enters.Load()
			await(t, "the next request comes", func() bool { return h.engine.enters.Load() > enters || isClosed(stop) })
		}
	})
	var answered, cut, odd sync.Map
	for i := range 8 {
		kind := []string{"application/json", "application/grpc"}[i/2%2]
		asking.Go(func() {
			for j := range 100 {
				key := [2]int{i, j}
				res, err := clients[i%2].Post(guestURL(wire.GuestPort, "/files"), kind, strings.NewReader("0123456789"))
				if err != nil {
					cut.Store(key, err)
					continue
				}
				b, err := io.ReadAll(res.Body)
				res.Body.Close()
				switch {
				case res.StatusCode == 200 && err == nil && string(b) == "0123456789":
					answered.Store(key, true)
				case res.StatusCode == 200 && err != nil, res.StatusCode == 502, res.StatusCode == 503:
					cut.Store(key, true)
				default:
					odd.Store(key, fmt.Sprint(res.StatusCode, string(b), err))
				}
			}
		})
	}
	asking.Wait()
	close(stop)
	sleeping.Wait()
	odd.Range(func(key, what any) bool { t.Errorf("request %v: %v", key, what); return true })
	whole, lost := 0, 0
	answered.Range(func(any, any) bool { whole++; return true })
	cut.Range(func(any, any) bool { lost++; return true })
	t.Logf("%d answered, %d cut, %d wakings", whole, lost, h.engine.wakes.Load())
	if whole == 0 || h.engine.wakes.Load() < 10 {
		t.Error("the test did not meet what it is about")
	}
	h.engine.pause(testID)
	h.nothingKept()
	for _, c := range clients {
		c.CloseIdleConnections()
	}
	await(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
}
