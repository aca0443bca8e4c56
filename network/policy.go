package network

import "net/netip"

// Policy says what a machine may reach. Private, link-local, multicast and
// host addresses are closed whatever it says.
type Policy struct {
	// Deny closes destinations that the base rules leave open.
	Deny []netip.Prefix `json:"deny,omitempty"`
	// Allow opens destinations again that Deny closes; it wins over Deny.
	Allow []netip.Prefix `json:"allow,omitempty"`
}
