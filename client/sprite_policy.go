package client

import (
	"context"
	"net/http"
)

// NetworkRule allows or denies names, or includes a list of the server's.
type NetworkRule struct {
	Domain  string `json:"domain,omitempty"` // example.com, *.example.com or *
	Action  string `json:"action,omitempty"` // allow or deny
	Include string `json:"include,omitempty"`
}

// NetworkPolicy is where a sprite may connect to; without rules it may anywhere.
type NetworkPolicy struct {
	Rules []NetworkRule `json:"rules"`
}

// NetworkPolicy returns the policy in force.
func (g *SpriteGuest) NetworkPolicy(ctx context.Context) (NetworkPolicy, error) {
	return fetch[NetworkPolicy](ctx, g.c, g.call(http.MethodGet, "policy", "network"))
}

// SetNetworkPolicy replaces the policy. It holds at once.
func (g *SpriteGuest) SetNetworkPolicy(ctx context.Context, p NetworkPolicy) error {
	k := g.call(http.MethodPost, "policy", "network")
	k.in = p
	if p.Rules == nil {
		k.in = NetworkPolicy{Rules: []NetworkRule{}}
	}
	_, err := g.c.do(ctx, k)
	return err
}
