package wire

import (
	"errors"
	"fmt"
	"strings"
)

// ErrSpriteName is wrapped by what CheckSpriteName returns.
var ErrSpriteName = errors.New("invalid name")

// maxLabel is the most characters that DNS allows for one label of a name.
const maxLabel = 63

// reservedLabels are host names that clients and operators use for the server
// itself: a sprite of such a name would stand in their way.
var reservedLabels = map[string]bool{
	"account": true, "admin": true, "api": true, "app": true, "atoll": true, "auth": true, "dashboard": true,
	"docs": true, "localhost": true, "login": true, "mail": true, "mcp": true, "metrics": true, "ns": true,
	"sandbox": true, "sprites": true, "static": true, "status": true, "support": true, "wildcard": true, "www": true,
}

// ReservedLabel reports whether no sprite may have this label in its URL.
func ReservedLabel(label string) bool { return reservedLabels[label] }

// CheckSpriteName returns what is wrong with the name of a sprite, which is
// the first label of its URL: the form of DNS labels in lower case, not a
// reserved word, and not the <port>-… that sandboxes are reached by.
func CheckSpriteName(name string) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrSpriteName, fmt.Sprintf(format, args...))
	}
	if name == "" {
		return bad("name is required")
	}
	if len(name) > maxLabel {
		return bad("name has %d characters; at most %d are allowed", len(name), maxLabel)
	}
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return bad("name may have lower-case letters, digits and hyphens, for it is part of a host name")
		}
	}
	if name[0] == '-' || name[len(name)-1] == '-' {
		return bad("name must begin and end with a letter or a digit")
	}
	if digits, _, found := strings.Cut(name, "-"); found && strings.Trim(digits, "0123456789") == "" {
		return bad("name must not begin with a number and a hyphen, which is how ports of sandboxes are addressed")
	}
	if strings.HasPrefix(name, "xn--") {
		return bad(`name must not begin with "xn--", which host names in other scripts begin with`)
	}
	if ReservedLabel(name) {
		return bad("name %q is reserved", name)
	}
	return nil
}
