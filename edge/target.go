package edge

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/atoll-cloud/atoll/wire"
)

// The headers by which a client names a guest where it cannot choose the host
// name: the SDKs send them when E2B_SANDBOX_URL is set.
const (
	headerSandboxID   = "E2b-Sandbox-Id"
	headerSandboxPort = "E2b-Sandbox-Port"
)

// target is one TCP port of one machine.
type target struct {
	id   string
	port int
}

var (
	errBadPort       = errors.New("the port must be a number from 1 to 65535")
	errBadID         = errors.New("a sandbox id is 8 to 40 lower-case letters and digits")
	errHeaderMissing = errors.New("the headers " + headerSandboxID + " and " + headerSandboxPort + " belong together: send both")
)

// findTarget tells which guest a request is for. The host name decides; where
// it names no guest, the headers do. With an error the request means a guest,
// and the error says what is wrong with its address.
func findTarget(r *http.Request, domain string) (t target, forGuest bool, err error) {
	if t, ok, err := parseHost(r.Host, domain); ok {
		return t, true, err
	}
	id, port := plainID(r.Header.Get(headerSandboxID)), r.Header.Get(headerSandboxPort)
	switch {
	case id == "" && port == "":
		return target{}, false, nil
	case id == "" || port == "":
		return target{id: id}, true, errHeaderMissing
	case !validID(id):
		return target{}, true, errBadID
	}
	n, err := parsePort(port)
	return target{id: id, port: n}, true, err
}

// parseHost reads <port>-<id>.<domain> with an optional port of the server's
// own behind it. ok is false where the name does not have that form.
func parseHost(host, domain string) (t target, ok bool, err error) {
	label, rest, found := strings.Cut(host, ".")
	if !found || rest == "" || rest[0] == ':' || len(host) > 261 {
		return target{}, false, nil
	}
	digits, id, found := strings.Cut(label, "-")
	if !found || len(digits) < 1 || len(digits) > 5 || !allDigits(digits) {
		return target{}, false, nil
	}
	id = plainID(strings.ToLower(id)) // host names know no case
	if !validID(id) || isDomain(host, domain) {
		return target{}, false, nil
	}
	n, err := parsePort(digits)
	return target{id: id, port: n}, true, err
}

// isDomain reports whether host is the published domain itself.
func isDomain(host, domain string) bool {
	if name, port, found := strings.Cut(host, ":"); found && allDigits(port) {
		host = name
	}
	return domain != "" && strings.EqualFold(strings.TrimSuffix(host, "."), domain)
}

// parsePort reads a TCP port in the one way of writing it: no sign, no zeros
// in front, so that a port has one name.
func parsePort(s string) (int, error) {
	if len(s) < 1 || len(s) > 5 || s[0] == '0' || !allDigits(s) {
		return 0, errBadPort
	}
	n, err := strconv.Atoi(s)
	if err != nil || n > 65535 {
		return 0, errBadPort
	}
	return n, nil
}

// plainID is an id without the client id that old SDKs append.
func plainID(id string) string { return strings.TrimSuffix(id, "-"+wire.ClientID) }

// validID reports whether s can be the id of a machine at all.
func validID(s string) bool {
	if len(s) < 8 || len(s) > 40 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
