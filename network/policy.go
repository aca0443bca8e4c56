package network

import (
	"fmt"
	"net/netip"
)

// maxPolicyPrefixes bounds each list of a Policy, because every entry becomes
// kernel memory that a client asked for.
const maxPolicyPrefixes = 256

// Policy says what a machine may reach. Private, link-local, multicast and
// host addresses are closed whatever it says. Guests have IPv4 only, so IPv6
// prefixes are accepted and change nothing.
type Policy struct {
	// Deny closes destinations that the base rules leave open. Denying
	// 0.0.0.0/0 is "no internet": names are refused then too, whatever Allow
	// says, because answers would be a way out.
	Deny []netip.Prefix `json:"deny,omitempty"`
	// Allow opens destinations again that Deny closes; it wins over Deny.
	Allow []netip.Prefix `json:"allow,omitempty"`
	// Names, if there are any, close everything but Allow and the addresses
	// that the machine's own resolver gave it for names that they allow. Names
	// that no rule matches are denied. Deny changes nothing then.
	Names []NameRule `json:"names,omitempty"`
}

// Validate tells whether the policy can be put in force.
func (p Policy) Validate() error {
	for _, list := range [][]netip.Prefix{p.Deny, p.Allow} {
		if len(list) > maxPolicyPrefixes {
			return fmt.Errorf("network policy has %d prefixes in one list: at most %d are possible", len(list), maxPolicyPrefixes)
		}
		for _, prefix := range list {
			if !prefix.IsValid() {
				return fmt.Errorf("network policy has an invalid prefix: write each as address/length, for example 203.0.113.0/24")
			}
		}
	}
	return validateNames(p.Names)
}

// denied is what remains closed once Allow has been taken out of Deny; what is
// opened by name comes on top of that.
func (p Policy) denied() []span {
	if len(p.Names) > 0 {
		return subtractSpans([]span{everything}, spansOf(p.Allow))
	}
	return subtractSpans(spansOf(p.Deny), spansOf(p.Allow))
}

// offline tells whether the policy closes the whole internet, and with it names.
func (p Policy) offline() bool {
	spans := spansOf(p.Deny)
	return len(p.Names) == 0 && len(spans) == 1 && spans[0] == everything
}
