package network

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// provoke makes a guest's TCP speak on connections that the firewall has
// closed, so that it is answered with a reset: a program that only waits for
// data would else wait for ever. Each gets segments in the peer's name with
// sequence numbers half of all apart, of which one at least is not what the
// guest expects, and TCP answers that with an acknowledgement of what it has.
// They carry nothing and reset nothing themselves.
func provoke(links *netlink.Handle, slot *Slot, connections map[flowEnds]bool) error {
	link, err := links.LinkByName(slot.Name)
	if err != nil {
		return fmt.Errorf("finding link %s: %w", slot.Name, err)
	}
	// A packet socket passes by the firewall, which would refuse these.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a packet socket: %w", err)
	}
	defer unix.Close(fd)
	const ipv4 = unix.ETH_P_IP<<8&0xff00 | unix.ETH_P_IP>>8
	to := &unix.SockaddrLinklayer{Protocol: ipv4, Ifindex: link.Attrs().Index, Halen: 6}
	copy(to.Addr[:], slot.MAC)
	for ends := range connections {
		for _, sequence := range []uint32{0, 1 << 31} {
			if err := unix.Sendto(fd, bareSegment(ends, sequence), 0, to); err != nil {
				return fmt.Errorf("sending to %s: %w", slot.Name, err)
			}
		}
	}
	return nil
}

// bareSegment is an IPv4 packet from the peer with a TCP acknowledgement.
func bareSegment(ends flowEnds, sequence uint32) []byte {
	const header, size = 20, 40
	p := make([]byte, size)
	peer, guest := ends.peer.Addr().As4(), ends.guest.Addr().As4()
	p[0] = 0x45 // version 4, five words
	binary.BigEndian.PutUint16(p[2:], size)
	p[8], p[9] = 64, unix.IPPROTO_TCP
	copy(p[12:], peer[:])
	copy(p[16:], guest[:])
	binary.BigEndian.PutUint16(p[10:], checksum(0, p[:header]))

	segment := p[header:]
	binary.BigEndian.PutUint16(segment, ends.peer.Port())
	binary.BigEndian.PutUint16(segment[2:], ends.guest.Port())
	binary.BigEndian.PutUint32(segment[4:], sequence)
	segment[12], segment[13] = 5<<4, ackFlag
	pseudo := uint32(unix.IPPROTO_TCP + len(segment)) // with the addresses
	binary.BigEndian.PutUint16(segment[16:], checksum(sum(pseudo, p[12:header]), segment))
	return p
}

// sum adds bytes, an even number, as words of 16 bits.
func sum(start uint32, b []byte) uint32 {
	for ; len(b) > 1; b = b[2:] {
		start += uint32(binary.BigEndian.Uint16(b))
	}
	return start
}

// checksum is the internet's checksum of bytes on top of a sum.
func checksum(start uint32, b []byte) uint16 {
	total := sum(start, b)
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return ^uint16(total)
}
