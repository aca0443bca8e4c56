package network

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// guestFlows selects the tracked connections of some guests, in either direction.
type guestFlows map[netip.Addr]bool

// MatchConntrackFlow implements netlink's filter.
func (g guestFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	return g.has(flow.Forward.SrcIP) || g.has(flow.Forward.DstIP)
}

func (g guestFlows) has(ip net.IP) bool {
	addr, ok := netip.AddrFromSlice(ip)
	return ok && g[addr.Unmap()]
}

// forgetFlows removes the tracked connections of guests that are gone, so that
// their peers do not speak on to the slot's next guest.
func forgetFlows(h *netlink.Handle, guests guestFlows) error {
	_, err := whole(func() (uint, error) {
		return h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, guests)
	})
	if err != nil {
		return fmt.Errorf("forgetting the connections of ended machines: %w", err)
	}
	return nil
}
