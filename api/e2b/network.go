package e2b

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/network"
)

// everywhere is what allow_internet_access=false denies.
var everywhere = netip.MustParsePrefix("0.0.0.0/0")

const maxRules = 256 // of each list

// networkConfig is the network part of a create or update request.
type networkConfig struct {
	AllowOut            []string        `json:"allowOut"`
	DenyOut             []string        `json:"denyOut"`
	AllowPublicTraffic  *bool           `json:"allowPublicTraffic"`
	AllowInternetAccess *bool           `json:"allow_internet_access"` // in updates only
	EgressProxy         json.RawMessage `json:"egressProxy"`
	Rules               json.RawMessage `json:"rules"`
	MaskRequestHost     string          `json:"maskRequestHost"`
	HTTPSPorts          []int           `json:"httpsPorts"`
}

// policy translates the egress part for the engine; n may be nil.
func (n *networkConfig) policy(allowInternet *bool) (network.Policy, error) {
	var p network.Policy
	if n != nil {
		if err := n.checkLater(); err != nil {
			return p, err
		}
		var err error
		if p.Allow, p.Names, err = destinations("network.allowOut", n.AllowOut); err != nil {
			return p, err
		}
		var denied []network.NameRule
		if p.Deny, denied, err = destinations("network.denyOut", n.DenyOut); err != nil {
			return p, err
		}
		if len(denied) > 0 {
			return p, invalid("network.denyOut: %q is a domain name; only addresses and CIDR blocks can be denied", door.Clip(denied[0].Domain))
		}
	}
	if allowInternet != nil && !*allowInternet && !slices.Contains(p.Deny, everywhere) {
		p.Deny = append(p.Deny, everywhere)
	}
	// To allow names beside everything else would allow nothing more.
	if len(p.Names) > 0 && !slices.Contains(p.Deny, everywhere) {
		return p, invalid("network.allowOut has the domain name %q: deny everything else as well, with 0.0.0.0/0 (ALL_TRAFFIC) in denyOut", door.Clip(p.Names[0].Domain))
	}
	return p, nil
}

// destinations parses addresses, CIDR blocks and domain names; the rules by
// name allow.
func destinations(field string, list []string) (prefixes []netip.Prefix, names []network.NameRule, err error) {
	if len(list) > maxRules {
		return nil, nil, invalid("%s has %d entries; at most %d are possible", field, len(list), maxRules)
	}
	for _, s := range list {
		if p, err := parsePrefix(s); err == nil {
			prefixes = append(prefixes, p)
		} else if domain, err := network.ParseDomain(s); err == nil {
			names = append(names, network.NameRule{Domain: domain, Action: network.AllowName})
		} else {
			return nil, nil, invalid("%s: %q is no address, no CIDR block such as 203.0.113.0/24 and no domain name such as *.example.com", field, door.Clip(s))
		}
	}
	return prefixes, names, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, err
	}
	return p.Masked(), nil
}

// setNetwork replaces a sandbox's egress rules; what is left out is cleared.
func (d *Door) setNetwork(w http.ResponseWriter, r *http.Request, c caller) error {
	m, err := d.findRunning(r, c, http.StatusConflict)
	if err != nil {
		return err
	}
	var body networkConfig
	if err := d.decode(w, r, &body, false); err != nil {
		return err
	}
	if body.AllowPublicTraffic != nil {
		return invalid("allowPublicTraffic is decided when a sandbox is created and cannot be changed")
	}
	policy, err := body.policy(body.AllowInternetAccess)
	if err != nil {
		return err
	}
	if err := d.engine.SetNetwork(r.Context(), m.ID, policy); err != nil {
		return err
	}
	return door.NoContent(w)
}

// given reports whether raw JSON has something in it: not null and no empty
// object or list.
func given(raw json.RawMessage) bool {
	switch trimmed := bytes.Join(bytes.Fields(raw), nil); string(trimmed) {
	case "", "null", "{}", "[]":
		return false
	}
	return true
}
