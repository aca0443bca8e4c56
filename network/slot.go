package network

import (
	"fmt"
	"net"
	"net/netip"
)

// linkMTU is the MTU of a slot's link: the largest whose frames fit both an IP
// packet and the 64 KiB buffers of the guest's network stack. Host and guest
// then need few packets; towards the internet UplinkMTU holds.
const linkMTU = 65521

// Slot is one machine's place on the network. Its fields do not change while
// it is held, and say what the guest's network stack must be told.
type Slot struct {
	// Index is the slot's number, from 1 on; it finds the slot again after a
	// restart.
	Index int
	// Name is the link's name on the host.
	Name string
	// MAC and Address are the guest's own; Address has the length of its subnet.
	MAC     net.HardwareAddr
	Address netip.Prefix
	// Gateway and GatewayMAC are the host's end. No ARP is answered there, so
	// the guest's stack needs them as a fixed neighbour.
	Gateway    netip.Addr
	GatewayMAC net.HardwareAddr
	// DNS is the guest's resolver, reached by the default route.
	DNS netip.Addr
	// MTU is the link's, in bytes, for the subnet's own route; UplinkMTU is
	// for the default route.
	MTU       int
	UplinkMTU int
	// GSOMaxSize, in bytes, and the two flags are the link's offloads as
	// gVisor's FDBasedLink takes them: the host segments and sums what the
	// guest sends in large packets and has verified what it delivers.
	GSOMaxSize        uint32
	TXChecksumOffload bool
	RXChecksumOffload bool

	network *Network
}

// slotAt works out the fixed part of a slot from its index. Each has four
// addresses of the range: the second is the host's, the third the guest's.
// Index 0 is the DNS service's.
func slotAt(cfg Config, index int) *Slot {
	base := addrNumber(cfg.Range.Addr()) + 4*uint32(index)
	gateway, guest := numberAddr(base+1), numberAddr(base+2)
	return &Slot{
		Index:             index,
		Name:              fmt.Sprintf("%s%d", cfg.hostEnds(), index),
		MAC:               macOf(guestByte, guest),
		Address:           netip.PrefixFrom(guest, 30),
		Gateway:           gateway,
		GatewayMAC:        macOf(gatewayByte, gateway),
		DNS:               numberAddr(addrNumber(cfg.Range.Addr()) + 2),
		MTU:               linkMTU,
		GSOMaxSize:        65536,
		RXChecksumOffload: true,
	}
}

// maxIndex is the highest slot that the range has room for.
func maxIndex(r netip.Prefix) int { return 1<<(32-r.Bits()-2) - 1 }

// The first two bytes of hardware addresses: locally administered, and ours.
const guestByte, gatewayByte, ownByte = 0x02, 0x06, 0xa7

// macOf makes a locally administered address that is unique on this host.
func macOf(first byte, a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{first, ownByte, b[0], b[1], b[2], b[3]}
}

func (s *Slot) guestEnd() string {
	return fmt.Sprintf("%s%d", s.network.cfg.guestEnds(), s.Index)
}

// rule is the slot's part of the firewall.
func (s *Slot) rule() slotRule {
	return slotRule{link: s.Name, guest: s.Address.Addr()}
}

// SetPolicy replaces what the machine may reach, at once. Connections that are
// open to what it may no longer reach end; programs that wait for something
// from one learn so.
func (s *Slot) SetPolicy(p Policy) error {
	if err := p.Validate(); err != nil {
		return err
	}
	return s.network.setPolicy(s, p, true)
}

// Begin is SetPolicy for a machine that has not run yet: it has no connections
// that must be looked for, which takes some 10 ms.
func (s *Slot) Begin(p Policy) error {
	if err := p.Validate(); err != nil {
		return err
	}
	return s.network.setPolicy(s, p, false)
}
