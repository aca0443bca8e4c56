package edge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/atoll-cloud/atoll/wire"
)

// The benchmarks come in pairs: straight to the backend, and through the edge.
// The difference of a pair is what the edge costs.

func pair(b *testing.B, guest http.HandlerFunc, run func(b *testing.B, c *http.Client, url string)) {
	h := newHarness(b)
	h.guest(wire.GuestPort, guest)
	b.Run("direct", func(b *testing.B) {
		c := h.clientFor(nil)
		c.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return h.engine.Dial(ctx, testID, wire.GuestPort)
		}
		run(b, c, "http://guest/files")
	})
	b.Run("edge", func(b *testing.B) { run(b, h.clientFor(nil), guestURL(wire.GuestPort, "/files")) })
	b.Run("edge-h2c", func(b *testing.B) { run(b, h.clientFor(h2c()), guestURL(wire.GuestPort, "/files")) })
}

func BenchmarkRoundTrip(b *testing.B) {
	answer := bytes.Repeat([]byte("x"), 1024)
	pair(b, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write(answer)
	}, func(b *testing.B, c *http.Client, url string) {
		b.ReportAllocs()
		for b.Loop() {
			res, err := c.Post(url, "application/json", bytes.NewReader(answer[:256]))
			if err != nil {
				b.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	})
}

const bulk = 256 << 20

func BenchmarkDownload(b *testing.B) {
	chunk := make([]byte, 256<<10)
	pair(b, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(bulk))
		for range bulk / len(chunk) {
			w.Write(chunk)
		}
	}, func(b *testing.B, c *http.Client, url string) {
		b.SetBytes(bulk)
		buf := make([]byte, 256<<10)
		for b.Loop() {
			res, err := c.Get(url)
			if err != nil {
				b.Fatal(err)
			}
			if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, res.Body, buf); n != bulk || err != nil {
				b.Fatal(n, err)
			}
			res.Body.Close()
		}
	})
}

func BenchmarkUpload(b *testing.B) {
	pair(b, func(w http.ResponseWriter, r *http.Request) {
		buf := buffers.Get()
		defer buffers.Put(buf)
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, buf)
	}, func(b *testing.B, c *http.Client, url string) {
		b.SetBytes(bulk)
		for b.Loop() {
			r, _ := http.NewRequest("POST", url, io.LimitReader(zeros{}, bulk))
			r.ContentLength = bulk
			res, err := c.Do(r)
			if err != nil {
				b.Fatal(err)
			}
			res.Body.Close()
		}
	})
}
