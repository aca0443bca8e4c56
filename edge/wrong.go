package edge

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	// wrongEvery is how often wrong tokens are forgotten, and maxWrong how many
	// an address may show until then.
	wrongEvery = time.Minute
	maxWrong   = 10
	// maxWrongFrom bounds of how many addresses is known that they showed one.
	maxWrongFrom = 1 << 16
)

// wrongTokens counts the wrong tokens that people show, by their address.
type wrongTokens struct {
	mu    sync.Mutex
	since time.Time
	from  map[netip.Prefix]int
	now   func() time.Time
}

// mayTry reports whether whoever sent the request may show another token.
func (t *wrongTokens) mayTry(r *http.Request) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget()
	return t.from[visitorAddress(r)] < maxWrong
}

// count remembers that a token was wrong.
func (t *wrongTokens) count(r *http.Request) {
	from := visitorAddress(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget()
	if _, known := t.from[from]; known || len(t.from) < maxWrongFrom {
		t.from[from]++
	}
}

// forget is called with mu held.
func (t *wrongTokens) forget() {
	if now := t.now(); t.from == nil || now.Sub(t.since) >= wrongEvery {
		t.from, t.since = map[netip.Prefix]int{}, now
	}
}

// visitorAddress is where a request comes from: an address of IPv4, or the
// network of IPv6 that one visitor may have to itself. A proxy on this host
// says whom it speaks for; others may say what they like.
func visitorAddress(r *http.Request) netip.Prefix {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	address := peer.Addr()
	if lines := r.Header["X-Forwarded-For"]; address.IsLoopback() && len(lines) > 0 {
		last := lines[len(lines)-1]
		last = last[strings.LastIndexByte(last, ',')+1:]
		if said, err := netip.ParseAddr(strings.TrimSpace(last)); err == nil {
			address = said
		}
	}
	address = address.Unmap().WithZone("")
	bits := address.BitLen()
	if address.Is6() {
		bits = 64
	}
	prefix, _ := address.Prefix(bits) // the zero one where there is no address
	return prefix
}
