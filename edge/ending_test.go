package edge

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"
)

// What a guest sends goes to the client at once, but for the last of an answer:
// that goes with its end. Trailers arrive either way.
func TestLastOfAnAnswerGoesWithItsEnd(t *testing.T) {
	goOn := make(chan struct{})
	guest := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/long":
			w.Write([]byte("a"))
			w.(http.Flusher).Flush()
			select {
			case <-goOn:
			case <-time.After(time.Minute):
			}
		case "/trailer":
			w.Header().Set("Trailer", "X-Sum")
			defer w.Header().Set("X-Sum", "7")
		}
		w.Write([]byte("b"))
	}))
	defer guest.Close()
	to, err := url.Parse(guest.URL)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client := &ending{ResponseWriter: w}
		proxy := httputil.ReverseProxy{
			Rewrite:       func(p *httputil.ProxyRequest) { p.SetURL(to) },
			FlushInterval: -1,
			ModifyResponse: func(res *http.Response) error {
				res.Header.Del("Content-Length")
				res.ContentLength = -1
				client.follow(res)
				return nil
			},
		}
		proxy.ServeHTTP(client, r)
	}))
	defer front.Close()

	for _, c := range []struct {
		path, body, trailer string
		length              int64 // -1: in pieces
	}{
		{"/short", "b", "", 1},
		{"/trailer", "b", "7", -1},
	} {
		res, err := http.Get(front.URL + c.path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(body) != c.body || res.ContentLength != c.length || res.Trailer.Get("X-Sum") != c.trailer {
			t.Errorf("%s: body %q, %v, length %d, trailer %q; want %q, length %d, trailer %q", c.path,
				body, err, res.ContentLength, res.Trailer.Get("X-Sum"), c.body, c.length, c.trailer)
		}
	}

	long, err := http.Get(front.URL + "/long")
	if err != nil {
		t.Fatal(err)
	}
	defer long.Body.Close()
	b := make([]byte, 2)
	if n, err := long.Body.Read(b); err != nil || string(b[:n]) != "a" {
		t.Errorf("before the end came %q, %v; want \"a\"", b[:n], err)
	}
	close(goOn)
	if rest, err := io.ReadAll(long.Body); err != nil || string(rest) != "b" {
		t.Errorf("at the end came %q, %v; want \"b\"", rest, err)
	}
}
