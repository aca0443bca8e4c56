package guest

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// What is sent goes out at once, until the handler tells that the end is near:
// the rest and the end then are one.
func TestEndsOfAnswersAreHeld(t *testing.T) {
	goOn := make(chan struct{})
	server := httptest.NewServer(holdable(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			w.Write([]byte("a"))
			w.(http.Flusher).Flush()
			select {
			case <-goOn:
			case <-time.After(time.Minute):
			}
		}
		hold(r.Context())
		w.Write([]byte("b"))
		w.(http.Flusher).Flush()
	})))
	defer server.Close()

	short, err := http.Get(server.URL + "/short")
	if err != nil {
		t.Fatal(err)
	}
	defer short.Body.Close()
	if short.ContentLength != 1 {
		t.Errorf("the short answer was sent in pieces: its length is %d, want 1", short.ContentLength)
	}

	long, err := http.Get(server.URL + "/long")
	if err != nil {
		t.Fatal(err)
	}
	defer long.Body.Close()
	b := make([]byte, 2)
	n, err := long.Body.Read(b)
	if err != nil || string(b[:n]) != "a" {
		t.Errorf("before the end came %q, %v; want \"a\"", b[:n], err)
	}
	close(goOn)
	if n, _ = long.Body.Read(b); string(b[:n]) != "b" {
		t.Errorf("at the end came %q, want \"b\"", b[:n])
	}
}
