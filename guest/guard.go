package guest

import (
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"

	"github.com/atoll-cloud/atoll/wire"
)

// guard demands the access token on what clients reach and the control token
// on what only the host may do, and lets browsers in.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if allowBrowser(w, r) {
			return
		}
		current := s.settings.get()
		switch {
		case r.URL.Path == "/health":
		case !wire.PublicPath(r.URL.Path):
			if current.controlToken != "" && !sameSecret(r.Header.Get(wire.ControlHeader), current.controlToken) {
				writeError(w, withStatus(http.StatusUnauthorized, errors.New("this route belongs to the host")))
				return
			}
			if strings.HasPrefix(r.URL.Path, wire.SpritePath) {
				current.wait() // a client of the door is behind it
			}
		default:
			current.wait()
			if err := authorize(r, current.accessToken); err != nil {
				writeError(w, withStatus(http.StatusUnauthorized, err))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// authorize checks a client's access token. File routes may carry a signature
// in its place, which their handlers check.
func authorize(r *http.Request, token string) error {
	if token == "" {
		return nil
	}
	given := r.Header.Get(wire.AccessTokenHeader)
	if given == "" && r.URL.Path == "/files" {
		return nil
	}
	if !sameSecret(given, token) {
		return errors.New("the access token is missing or wrong: send it in the header " + wire.AccessTokenHeader)
	}
	return nil
}

// sameSecret compares in constant time.
func sameSecret(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// allowBrowser sets the headers with which pages of any origin may call the
// daemon (tokens, not cookies, protect it) and answers preflights.
func allowBrowser(w http.ResponseWriter, r *http.Request) (done bool) {
	if r.Header.Get("Origin") == "" || !wire.PublicPath(r.URL.Path) {
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "*")
	if r.Method != http.MethodOptions {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	allowed := r.Header.Get("Access-Control-Request-Headers")
	if allowed == "" || strings.ContainsAny(allowed, "\r\n") {
		allowed = "*"
	}
	h.Set("Access-Control-Allow-Headers", allowed)
	h.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// hostRoute serves what is neither public nor a fixed route: tunnels, and what
// other packages have mounted.
func (s *Server) hostRoute(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == wire.TunnelPath {
		s.tunnel(w, r)
		return
	}
	if _, pattern := s.mounted.Handler(r); pattern != "" {
		s.mounted.ServeHTTP(w, r)
		return
	}
	writeError(w, withStatus(http.StatusNotFound, errors.New("no such route: "+r.URL.Path)))
}
