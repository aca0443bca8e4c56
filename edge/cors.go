package edge

import (
	"net/http"
	"strings"

	"github.com/atoll-cloud/atoll/wire"
)

// The guest daemon is open to programs in browsers from any origin: what
// protects it is its token, not the origin. The edge answers for it here, so
// that it is so whether or not the daemon runs. User ports answer for
// themselves.

// isPreflight reports whether a browser asks for leave to send a request.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

// preflightNames reports whether r is a preflight of a request that will carry
// the header called name.
func preflightNames(r *http.Request, name string) bool {
	if !isPreflight(r) {
		return false
	}
	for _, line := range r.Header["Access-Control-Request-Headers"] {
		for word := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(word), name) {
				return true
			}
		}
	}
	return false
}

// mayAnswerPreflight reports whether the edge answers a preflight although the
// request itself is refused: so that the program in the browser can read the
// refusal where no guest is there to answer, and so that it can send the
// traffic token, which a preflight cannot carry.
func mayAnswerPreflight(r *http.Request, t target, p *problem) bool {
	if !isPreflight(r) {
		return false
	}
	if p.Code == http.StatusForbidden {
		return preflightNames(r, headerTrafficToken)
	}
	return t.port == wire.GuestPort || p.Code == http.StatusBadGateway
}

// answerPreflight allows what the browser asks for.
func answerPreflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked) // "*" would leave out Authorization
	}
	h.Set("Access-Control-Max-Age", "7200")
	h.Set("Vary", "Access-Control-Request-Headers")
	w.WriteHeader(http.StatusNoContent)
}
