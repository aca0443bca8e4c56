package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
)

// settleDelay lets a burst of changes of the host's routes come to its end.
const settleDelay = 200 * time.Millisecond

// follow keeps uplinks and closed networks in step with the host's routes
// until ctx ends.
func (n *Network) follow(ctx context.Context) {
	changes := make(chan netlink.RouteUpdate, 64)
	err := netlink.RouteSubscribeWithOptions(changes, ctx.Done(), netlink.RouteSubscribeOptions{
		ErrorCallback: func(err error) {
			if ctx.Err() == nil {
				n.cfg.Logger.Error("following the host's routes", "error", err)
			}
		},
	})
	if err != nil {
		n.cfg.Logger.Error("following the host's routes", "error", err)
		return
	}
	var settle <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			for range changes { // closed by the subscription once it has ended
			}
			return
		case change, ok := <-changes:
			if !ok {
				return
			}
			// Slots bring routes of their own, which change nothing.
			if !n.own(change.Route) {
				settle = time.After(settleDelay)
			}
		case <-settle:
			settle = nil
			if err := n.refresh(); err != nil {
				n.cfg.Logger.Error("following the host's routes", "error", err)
			}
		}
	}
}

// own tells whether a route leads into the instance's own range.
func (n *Network) own(route netlink.Route) bool {
	prefix, _ := routePrefix(route)
	return prefix.Bits() >= n.cfg.Range.Bits() && n.cfg.Range.Contains(prefix.Addr())
}

// refresh looks at the host again and applies what changed.
func (n *Network) refresh() error {
	now, err := readHostNet(n.links, n.cfg)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.Equal(now.uplinks, n.host.uplinks) && slices.Equal(now.onLink, n.host.onLink) && now.mtu == n.host.mtu {
		return nil
	}
	n.host = now
	n.mtu.Store(int64(now.mtu))
	forwards, err := startForwarding(now, n.forwards)
	n.forwards = forwards
	err = errors.Join(err, n.saveState(), n.firewall.setHost(now.closedTo(n.cfg), forwards))
	if err != nil {
		return fmt.Errorf("applying the host's new routes: %w", err)
	}
	return nil
}
