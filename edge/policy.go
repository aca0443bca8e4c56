package edge

import (
	"crypto/subtle"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/atoll-cloud/atoll/wire"
)

// headerTrafficToken carries the token that a machine with restricted public
// traffic asks for: https://e2b.dev/docs/network/restrict-public-access.
const headerTrafficToken = "E2b-Traffic-Access-Token"

// allowedGuestPath reports whether clients may ask the guest daemon for u. All
// of its public paths are plain, so anything that needs decoding or cleaning
// before it can be understood is refused: what is checked here is, byte for
// byte, what the daemon sees.
func allowedGuestPath(u *url.URL) bool {
	p := u.Path
	if u.RawPath != "" || u.Opaque != "" || p == "" || path.Clean(p) != p {
		return false
	}
	for i := range len(p) {
		c := p[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '/', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return wire.PublicPath(p)
}

// checkTraffic refuses a request to one of the guest's own ports without the
// token that the machine asks for. The guest daemon has a token of its own.
func checkTraffic(r *http.Request, t target, token string) *problem {
	if token == "" || t.port == wire.GuestPort {
		return nil
	}
	given := r.Header.Get(headerTrafficToken)
	if given == "" {
		return problemToken(t, "is missing")
	}
	if subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 {
		return problemToken(t, "is not the one of this sandbox")
	}
	return nil
}

// routeClass is the metric label of a request to a guest.
func routeClass(t target, p string) string {
	if t.port != wire.GuestPort {
		return "port"
	}
	switch {
	case strings.HasPrefix(p, "/process.Process/"):
		return "process"
	case strings.HasPrefix(p, "/filesystem.Filesystem/"):
		return "filesystem"
	case p == "/files" || p == "/files/compose":
		return "files"
	case p == "/health" || p == "/metrics" || p == "/envs":
		return p[1:]
	}
	return "refused"
}
