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

func (g guestFlows) has(ip net.IP) bool { return g[addrOf(ip)] }

func addrOf(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

// closedFlows selects the connections of one guest to what it may not reach,
// and collects their ends.
type closedFlows struct {
	held  *heldSlot
	guest netip.Addr
	tcp   map[flowEnds]bool
}

// flowEnds are the two ends of a connection: the guest's and its peer's.
type flowEnds struct{ guest, peer netip.AddrPort }

// MatchConntrackFlow implements netlink's filter.
func (c *closedFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	ends := flow.Forward
	peer := addrOf(ends.DstIP)
	if addrOf(ends.SrcIP) != c.guest || c.held.open(peer) {
		return false
	}
	if ends.Protocol == unix.IPPROTO_TCP {
		c.tcp[flowEnds{netip.AddrPortFrom(c.guest, ends.SrcPort), netip.AddrPortFrom(peer, ends.DstPort)}] = true
	}
	return true
}

// sever ends what is open to addresses that the policy of a machine has
// closed. The caller holds the slot's mu.
func (n *Network) sever(held *heldSlot) error {
	closed := &closedFlows{held: held, guest: held.slot.Address.Addr(), tcp: make(map[flowEnds]bool)}
	if err := forgetFlows(n.links, closed); err != nil {
		return err
	}
	if len(closed.tcp) == 0 {
		return nil
	}
	if err := provoke(n.links, held.slot, closed.tcp); err != nil {
		return fmt.Errorf("ending connections of a machine to what is closed now: %w", err)
	}
	return nil
}

// forgetFlows removes tracked connections, so that what belongs to them is
// judged anew, and nothing that peers still send is delivered.
func forgetFlows(h *netlink.Handle, which netlink.CustomConntrackFilter) error {
	_, err := whole(func() (uint, error) {
		return h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, which)
	})
	if err != nil {
		return fmt.Errorf("forgetting connections of machines: %w", err)
	}
	return nil
}
