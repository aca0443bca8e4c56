package edge

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/wire"
)

func TestRequestArrivesAsItWasSent(t *testing.T) {
	h := newHarness(t)
	type seen struct {
		uri, host string
		header    http.Header
	}
	saw := make(chan seen, 1)
	h.guest(3000, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		saw <- seen{r.RequestURI, r.Host, r.Header.Clone()}
		w.Header().Set("Keep-Alive", "x")
		w.Header().Set("Alt-Svc", `h3=":443"`)
		w.WriteHeader(299)
	}))
	res, _ := h.get(guestURL(3000, "/a%2Fb//c;d?q=%zz;&x"),
		"X-Forwarded-For", "6.6.6.6", "X-Forwarded-Host", "evil", "X-Forwarded-Proto", "https", "Forwarded", "for=evil", "X-Real-Ip", "6.6.6.6",
		"Authorization", "Bearer mine", "X-Access-Token", "mine", "Te", "trailers")
	if res.StatusCode != 299 || res.Header.Get("Keep-Alive") != "" || res.Header.Get("Alt-Svc") != "" {
		t.Errorf("answer %d %v", res.StatusCode, res.Header)
	}
	got := <-saw
	if want := "/a%2Fb//c;d?q=%zz;&x"; got.uri != want {
		t.Errorf("the guest saw %s, want %s", got.uri, want)
	}
	host := fmt.Sprintf("3000-%s.atoll.test", testID)
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": host, "X-Forwarded-Proto": "http", "Forwarded": "", "X-Real-Ip": "",
		"Authorization": "Bearer mine", "X-Access-Token": "mine", "Te": "trailers",
	} {
		if got.header.Get(name) != want {
			t.Errorf("the guest saw %s: %q, want %q", name, got.header.Get(name), want)
		}
	}
	if got.host != host {
		t.Errorf("the guest saw the host %s", got.host)
	}
}

func TestWhatIsForNoGuestGoesToTheAPIs(t *testing.T) {
	h := newHarness(t)
	for _, u := range []string{"http://api.atoll.test/health", "http://atoll.test/health", "http://127.0.0.1/health"} {
		if _, body := h.get(u); body != "api /health" {
			t.Errorf("%s answers %q", u, body)
		}
	}
}

func TestStreamsAreNotHeldBack(t *testing.T) {
	for name, length := range map[string]string{"events": "", "a body of known length": "2048"} {
		for proto, p := range map[string]*http.Protocols{"h1": nil, "h2c": h2c()} {
			t.Run(name+" over "+proto, func(t *testing.T) {
				h := newHarness(t)
				h.client = h.clientFor(p)
				next := make(chan struct{})
				h.guest(3000, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if length != "" {
						w.Header().Set("Content-Length", length)
					}
					for range 2 {
						w.Write(bytes.Repeat([]byte("x"), 1024))
						http.NewResponseController(w).Flush()
						<-next
					}
				}))
				res, err := h.client.Get(guestURL(3000, "/"))
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				for range 2 { // each part arrives before the guest is told to go on
					if _, err := io.ReadFull(res.Body, make([]byte, 1024)); err != nil {
						t.Fatal(err)
					}
					next <- struct{}{}
				}
			})
		}
	}
}

// A gibibyte passes in each direction while the server holds a few buffers.
func TestLargeBodiesInFlatMemory(t *testing.T) {
	const size = 1 << 30
	h := newHarness(t)
	h.guest(wire.GuestPort, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Got", fmt.Sprint(n))
		io.CopyN(w, zeros{}, size)
	}))
	most := new(heapWatch)
	r, _ := http.NewRequest("POST", guestURL(wire.GuestPort, "/files"), io.LimitReader(watching{zeros{}, most}, size))
	r.ContentLength = size
	res, err := h.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, watching{res.Body, most})
	if err != nil || n != size || res.Header.Get("X-Got") != fmt.Sprint(size) {
		t.Fatalf("%v: got %d bytes back, guest got %s", err, n, res.Header.Get("X-Got"))
	}
	if b := most.bytes.Load(); b == 0 || b > 64<<20 {
		t.Errorf("the heap grew to %d MiB", b>>20)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// heapWatch keeps the largest heap that was seen.
type heapWatch struct{ reads, bytes atomic.Uint64 }

// watching looks at the heap at every 512th read.
type watching struct {
	r io.Reader
	w *heapWatch
}

func (w watching) Read(b []byte) (int, error) {
	if w.w.reads.Add(1)%512 == 0 {
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		if s.HeapAlloc > w.w.bytes.Load() {
			w.w.bytes.Store(s.HeapAlloc)
		}
	}
	return w.r.Read(b)
}

func TestClientsLeavingReachesTheGuest(t *testing.T) {
	for name, p := range map[string]*http.Protocols{"h1": nil, "h2c": h2c()} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			started, left := make(chan struct{}), make(chan struct{})
			h.guest(3000, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(started)
				<-r.Context().Done()
				close(left)
			}))
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-started; cancel() }()
			r, _ := http.NewRequestWithContext(ctx, "GET", guestURL(3000, "/"), nil)
			if res, err := h.clientFor(p).Do(r); err == nil {
				res.Body.Close()
			}
			select {
			case <-left:
			case <-time.After(patience):
				t.Error("the guest still works for a client that left")
			}
			await(t, "no request is in flight", func() bool { return h.engine.held() == 0 })
		})
	}
}

func TestMachinesEndCutsWhatIsOpen(t *testing.T) {
	for name, p := range map[string]*http.Protocols{"h1": nil, "h2c": h2c()} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.guest(3000, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/stream" {
					io.WriteString(w, "begin")
					http.NewResponseController(w).Flush()
				}
				<-r.Context().Done()
			}))
			client := h.clientFor(p)
			stream, err := client.Get(guestURL(3000, "/stream"))
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Body.Close()
			io.ReadFull(stream.Body, make([]byte, 5))
			silent := make(chan *http.Response, 1)
			go func() {
				res, err := client.Get(guestURL(3000, "/silent"))
				if err != nil {
					t.Error(err)
				}
				silent <- res
			}()
			await(t, "both requests are in flight", func() bool { return h.engine.open.Load() == 2 })
			h.engine.end(testID)
			if _, err := io.ReadAll(stream.Body); err == nil {
				t.Error("a cut stream looks like a whole one")
			}
			if res := <-silent; res != nil {
				b, _ := io.ReadAll(res.Body)
				res.Body.Close()
				if res.StatusCode != 502 || !strings.Contains(string(b), "was not found") {
					t.Errorf("a request that waited gets %d %s", res.StatusCode, b)
				}
			}
			h.nothingKept()
		})
	}
}

func TestConnectionsAreReused(t *testing.T) {
	h := newHarness(t)
	h.guest(wire.GuestPort, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	for range 20 {
		r, _ := http.NewRequest("POST", guestURL(wire.GuestPort, "/files"), strings.NewReader("x"))
		h.do(r)
	}
	if n := h.engine.dials.Load(); n != 1 {
		t.Errorf("20 requests took %d connections", n)
	}
}

func TestTooManyRequests(t *testing.T) {
	h := newHarness(t)
	h.edge.maxRequests = 2
	release := make(chan struct{})
	h.guest(3000, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release }))
	for range 2 {
		go func() {
			if res, err := h.client.Get(guestURL(3000, "/")); err == nil {
				res.Body.Close()
			}
		}()
	}
	await(t, "two are in flight", func() bool { return h.engine.open.Load() == 2 })
	if res, body := h.get(guestURL(3000, "/")); res.StatusCode != 429 || !strings.Contains(body, "2 requests") {
		t.Errorf("the third gets %d %s", res.StatusCode, body)
	}
	close(release)
}

func TestExpectContinue(t *testing.T) {
	h := newHarness(t)
	h.guest(3000, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" {
			w.Header().Set("Connection", "close")
			w.WriteHeader(413)
			return
		}
		io.Copy(w, r.Body)
	}))
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(c)
	head := "POST %s HTTP/1.1\r\nHost: 3000-" + testID + ".localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
	fmt.Fprintf(c, head, "/")
	if line, _ := in.ReadString('\n'); !strings.Contains(line, "100 Continue") {
		t.Fatalf("got %q before the body", line)
	}
	in.ReadString('\n')
	io.WriteString(c, "body")
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(res.Body); string(b) != "body" {
		t.Errorf("got %q", b)
	}
	fmt.Fprintf(c, head, "/refuse")
	if res, err = http.ReadResponse(in, nil); err != nil || res.StatusCode != 413 {
		t.Errorf("a refused body gives %v %v", res, err)
	}
}

// A guest may answer before it has read the body.
func TestEarlyAnswer(t *testing.T) {
	h := newHarness(t)
	h.guest(3000, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		io.Copy(flushing{w}, r.Body)
	}))
	in, out := io.Pipe()
	r, _ := http.NewRequest("POST", guestURL(3000, "/"), in)
	go out.Write([]byte("first"))
	res, err := h.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got := make([]byte, 5)
	io.ReadFull(res.Body, got)
	out.Write([]byte("again"))
	if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != "again" {
		t.Errorf("%v %q", err, got)
	}
	out.Close()
}

func TestHostileAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"status 0":           "HTTP/1.1 000 x\r\n\r\n",
		"status 42":          "HTTP/1.1 042 x\r\nContent-Length: 0\r\n\r\n",
		"unasked switch":     "HTTP/1.1 101 x\r\n\r\n",
		"unasked upgrade":    "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: y\r\n\r\n",
		"huge head":          "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*maxResponseHeader) + "\r\n\r\n",
		"two lengths":        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
		"a header split":     "HTTP/1.1 200 OK\r\nX\x00Y: 1\r\n\r\n",
		"a bad chunked":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"many informational": strings.Repeat("HTTP/1.1 103 x\r\n\r\n", 100),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.rawGuest(3000, func(c net.Conn) {
				c.Read(make([]byte, 4096))
				io.WriteString(c, answer)
			})
			if res, body := h.get(guestURL(3000, "/")); res.StatusCode != 502 {
				t.Errorf("answered %d %q", res.StatusCode, body)
			}
			if res, _ := h.get("http://127.0.0.1/"); res.StatusCode != 200 {
				t.Error("the server is not well afterwards")
			}
		})
	}
}

func TestRequestIDIsAnsweredOnce(t *testing.T) {
	h := newHarness(t)
	h.guest(3000, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "the-guests-own")
	}))
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", guestURL(3000, "/"), nil)
	observed(h.edge).ServeHTTP(w, r)
	if got := w.Header()["X-Request-Id"]; len(got) != 1 || got[0] == "the-guests-own" {
		t.Errorf("answered %v", got)
	}
}
