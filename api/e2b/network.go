package e2b

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"

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
		if p.Allow, err = prefixes("network.allowOut", n.AllowOut); err != nil {
			return p, err
		}
		if p.Deny, err = prefixes("network.denyOut", n.DenyOut); err != nil {
			return p, err
		}
	}
	if allowInternet != nil && !*allowInternet && !slices.Contains(p.Deny, everywhere) {
		p.Deny = append(p.Deny, everywhere)
	}
	return p, nil
}

// prefixes parses addresses and CIDR blocks.
func prefixes(field string, list []string) ([]netip.Prefix, error) {
	if len(list) > maxRules {
		return nil, invalid("%s has %d entries; at most %d are possible", field, len(list), maxRules)
	}
	out := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		p, err := parsePrefix(s)
		if err != nil {
			if domainRule.MatchString(s) {
				return nil, domainProblem(field, s)
			}
			return nil, invalid("%s: %q is no address and no CIDR block such as 203.0.113.0/24", field, clip(s))
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
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
	m, err := d.findRunning(r, c)
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
	return noContent(w)
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
