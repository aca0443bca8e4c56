package observe

import (
	"context"
	"crypto/rand"
	"encoding/hex"
)

// RequestIDHeader carries the id of a request, in both directions.
const RequestIDHeader = "X-Request-Id"

// Route says which part of the house answered a request. Both words become
// metric labels, so they come from a fixed list in the code and never from a
// client or guest.
type Route struct {
	Door  string // "e2b", "edge", "admin" …
	Class string // "create", "process", "port" …
}

// request is what the handlers of one request tell the middleware about it.
// Only the goroutine that serves the request writes it.
type request struct {
	id       string
	route    Route
	machine  string
	hidePath bool
}

type requestKey struct{}

func fromContext(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// RequestID returns the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	if r := fromContext(ctx); r != nil {
		return r.id
	}
	return ""
}

// SetRoute names who answers the request of ctx. The last call wins; outside
// of the middleware it does nothing.
func SetRoute(ctx context.Context, door, class string) {
	if r := fromContext(ctx); r != nil {
		r.route = Route{Door: door, Class: class}
	}
}

// SetMachine names the machine that the request of ctx is about, for the log.
func SetMachine(ctx context.Context, id string) {
	if r := fromContext(ctx); r != nil {
		r.machine = id
	}
}

// HidePath keeps the path of the request of ctx out of the log: paths of
// programs inside guests belong to their users and may hold secrets.
func HidePath(ctx context.Context) {
	if r := fromContext(ctx); r != nil {
		r.hidePath = true
	}
}

// acceptID returns the caller's id where it is one, and a new one otherwise.
func acceptID(given string) string {
	if validID(given) {
		return given
	}
	var b [12]byte
	rand.Read(b[:]) // never fails; see crypto/rand
	return hex.EncodeToString(b[:])
}

// validID accepts 8 to 64 characters that need no escaping in any log.
func validID(s string) bool {
	if len(s) < 8 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}
