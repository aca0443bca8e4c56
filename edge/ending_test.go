package edge

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"
)

// What is flushed once the body has been read to its end waits for the end of
// the answer; with a trailer it does not.
func TestLastOfAnAnswerGoesWithItsEnd(t *testing.T) {
	for _, c := range []struct {
		name    string
		trailer http.Header
		flushes []bool // before the end of the body, after it
	}{
		{"body", nil, []bool{true, false}},
		{"body and trailer", http.Header{"X-Sum": nil}, []bool{true, true}},
	} {
		res := &http.Response{Body: io.NopCloser(strings.NewReader("ab")), Trailer: c.trailer}
		var sent *httptest.ResponseRecorder
		client := &ending{}
		client.follow(res)
		for i, part := range []string{"ab", ""} {
			sent = httptest.NewRecorder()
			client.ResponseWriter = sent
			b := make([]byte, 2)
			n, _ := res.Body.Read(b)
			if err := client.FlushError(); err != nil || string(b[:n]) != part || sent.Flushed != c.flushes[i] {
				t.Errorf("%s: read %q, flushed %t, %v; want %q, %t", c.name, b[:n], sent.Flushed, err, part, c.flushes[i])
			}
		}
	}
}

// What a guest sends goes to the client at once, and all of it arrives, with its
// trailers.
func TestAnAnswerArrivesAsItIsSent(t *testing.T) {
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

	for _, c := range []struct{ path, trailer string }{{"/short", ""}, {"/trailer", "7"}} {
		res, err := http.Get(front.URL + c.path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(body) != "b" || res.Trailer.Get("X-Sum") != c.trailer {
			t.Errorf("%s: body %q, %v, trailer %q; want \"b\", %q", c.path, body, err, res.Trailer.Get("X-Sum"), c.trailer)
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
