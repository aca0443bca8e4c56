package edge

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// show sends a token as the login page does, as a proxy for an address or
// straight, and returns the status.
func (h *spriteHarness) show(token, address string, headers ...string) *http.Response {
	h.t.Helper()
	r, err := http.NewRequest("POST", "http://web.atoll.test"+visitPath, strings.NewReader(url.Values{"token": {token}}.Encode()))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if address != "" {
		r.Header.Set("X-Forwarded-For", address)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, _ := h.do(r)
	return res
}

func TestWrongTokensAreLimited(t *testing.T) {
	h := newSpriteHarness(t, "sprite")
	for range 2 * maxWrong { // those of other pages do not count
		if res := h.show("wrong", "192.0.2.1", "Origin", "http://evil.test"); res.StatusCode != 403 {
			t.Fatalf("another page's token: %d", res.StatusCode)
		}
	}
	for range maxWrong {
		if res := h.show("wrong", "192.0.2.1"); res.StatusCode != 401 {
			t.Fatalf("a wrong token: %d", res.StatusCode)
		}
	}
	for _, token := range []string{"wrong", "secret-of-us"} {
		if res := h.show(token, "192.0.2.1"); res.StatusCode != 429 || res.Header.Get("Retry-After") != "60" {
			t.Errorf("one too many: %d, try again in %q", res.StatusCode, res.Header.Get("Retry-After"))
		}
	}
	if res := h.show("secret-of-us", "192.0.2.2"); res.StatusCode != 303 {
		t.Errorf("another address: %d", res.StatusCode)
	}
	if res, _ := h.get("http://web.atoll.test/", "Authorization", "Bearer secret-of-us", "X-Forwarded-For", "192.0.2.1"); res.StatusCode != 200 {
		t.Errorf("a program: %d", res.StatusCode)
	}
	h.edge.visits.wrong.now = func() time.Time { return time.Now().Add(wrongEvery) }
	if res := h.show("secret-of-us", "192.0.2.1"); res.StatusCode != 303 {
		t.Errorf("a minute later: %d", res.StatusCode)
	}
}

func TestWrongTokensTakeBoundedMemory(t *testing.T) {
	w := &wrongTokens{now: time.Now}
	r := httptest.NewRequest("POST", "/", nil)
	for i := range maxWrongFrom + 1000 {
		r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", i>>16&255, i>>8&255, i&255)
		w.count(r)
	}
	if len(w.from) != maxWrongFrom {
		t.Errorf("%d addresses are known", len(w.from))
	}
}

func TestVisitorAddress(t *testing.T) {
	for _, c := range []struct{ remote, forwarded, want string }{
		{"192.0.2.1:4000", "", "192.0.2.1/32"},
		{"192.0.2.1:4000", "198.51.100.7", "192.0.2.1/32"}, // anybody can say so
		{"[::ffff:192.0.2.1]:4000", "", "192.0.2.1/32"},
		{"[2001:db8:1:2:3::4]:4000", "", "2001:db8:1:2::/64"},
		{"127.0.0.1:4000", "198.51.100.7", "198.51.100.7/32"},
		{"[::1]:4000", "203.0.113.9, 2001:db8::1", "2001:db8::/64"},
		{"127.0.0.1:4000", "unknown", "127.0.0.1/32"},
		{"", "", "invalid Prefix"},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.RemoteAddr = c.remote
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := visitorAddress(r).String(); got != c.want {
			t.Errorf("%q for %q is %s, want %s", c.remote, c.forwarded, got, c.want)
		}
	}
}
