package edge

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2/hpack"

	"github.com/atoll-cloud/atoll/wire"
)

func TestWebSocket(t *testing.T) {
	h := newHarness(t)
	h.guest(3000, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			c.Write(r.Context(), kind, append([]byte("echo "), b...))
		}
	}))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, guestURL(3000, "/ws"), &websocket.DialOptions{HTTPClient: h.client})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	for _, size := range []int{1, 30000} {
		want := strings.Repeat("a", size)
		c.Write(ctx, websocket.MessageText, []byte(want))
		if _, got, err := c.Read(ctx); err != nil || string(got) != "echo "+want {
			t.Fatalf("%v: %d bytes", err, len(got))
		}
	}
	h.engine.end(testID)
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("after the machine's end a read gives %v", err)
	}
	await(t, "no connection to the guest is open", func() bool { return h.engine.open.Load() == 0 })
}

// Some HTTP/2 clients take many empty DATA frames for an attack and close the
// connection, which carries all of an SDK's streams.
func TestNoEmptyFrames(t *testing.T) {
	h := newHarness(t)
	h.guest(wire.GuestPort, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.CopyN(w, zeros{}, 4<<20) }))
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	const settings, headers, windowUpdate = 4, 1, 8
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":path", "/files"}, {":authority", fmt.Sprintf("%d-%s.localhost", wire.GuestPort, testID)}} {
		enc.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	writeFrame(c, settings, 0, 0, []byte{0, 4, 0x40, 0, 0, 0}) // initial window of 1 GiB
	writeFrame(c, windowUpdate, 0, 0, []byte{0x40, 0, 0, 0})
	writeFrame(c, headers, 0x5, 1, block.Bytes()) // end of stream and of headers
	total, empty := 0, 0
	in := bufio.NewReader(c)
	for ended := false; !ended; {
		head := make([]byte, 9)
		if _, err := io.ReadFull(in, head); err != nil {
			t.Fatal(err)
		}
		length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if _, err := in.Discard(length); err != nil {
			t.Fatal(err)
		}
		if data := head[3] == 0; data {
			total += length
			ended = head[4]&1 != 0
			if length == 0 && !ended {
				empty++
			}
		}
	}
	if total != 4<<20 || empty > 0 {
		t.Errorf("%d bytes and %d empty frames", total, empty)
	}
}

func writeFrame(w io.Writer, kind, flags byte, stream uint32, payload []byte) {
	n := len(payload)
	head := []byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(head[5:], stream)
	w.Write(append(head, payload...))
}

// A gRPC call is HTTP/2 with trailers, in both directions at once.
func TestGRPC(t *testing.T) {
	for _, port := range []int{3000, wire.GuestPort} {
		h := newHarness(t)
		h.client = h.clientFor(h2c())
		h.guest(port, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 || r.Header.Get("Te") != "trailers" {
				t.Errorf("the guest saw %s, te %q", r.Proto, r.Header.Get("Te"))
			}
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			w.WriteHeader(200)
			http.NewResponseController(w).Flush()
			io.Copy(flushing{w}, r.Body)
			w.Header().Set("Grpc-Status", "0")
			w.Header().Set(http.TrailerPrefix+"Grpc-Message", "fine")
		}))
		in, out := io.Pipe()
		r, _ := http.NewRequestWithContext(t.Context(), "POST", guestURL(port, "/process.Process/Start"), in)
		r.Header.Set("Content-Type", "application/grpc+proto")
		r.Header.Set("Te", "trailers")
		res, err := h.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			out.Write([]byte("ping!"))
			if _, err := io.ReadFull(res.Body, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
		}
		out.Close()
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.Trailer.Get("Grpc-Status") != "0" || res.Trailer.Get("Grpc-Message") != "fine" {
			t.Errorf("trailers %v", res.Trailer)
		}
	}
}

type flushing struct{ http.ResponseWriter }

func (f flushing) Write(b []byte) (int, error) {
	n, err := f.ResponseWriter.Write(b)
	http.NewResponseController(f.ResponseWriter).Flush()
	return n, err
}

func TestTrailersOverHTTP1(t *testing.T) {
	h := newHarness(t)
	h.guest(3000, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "body")
		w.Header().Set("X-Sum", r.Trailer.Get("X-In")+"/"+r.Trailer.Get(wire.ControlHeader))
	}))
	r, _ := http.NewRequest("POST", guestURL(3000, "/"), struct{ io.Reader }{strings.NewReader("in")})
	r.Trailer = http.Header{"X-In": {"7"}, wire.ControlHeader: {"x"}}
	res, _ := h.do(r)
	if got := res.Trailer.Get("X-Sum"); got != "7/" {
		t.Errorf("trailer is %q", got)
	}
}
