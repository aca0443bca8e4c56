package network

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

// growBuffers makes room for transactions of thousands of slots.
func growBuffers(conn *netlink.Conn) error {
	const size = 4 << 20
	if err := conn.SetWriteBuffer(size); err != nil {
		return err
	}
	return conn.SetReadBuffer(size)
}

func sourceElement(s slotRule) nftables.SetElement {
	return nftables.SetElement{Key: append(linkKey(s.link), s.guest.AsSlice()...)}
}

func deniedElements(guest netip.Addr, spans []span) []nftables.SetElement {
	var elements []nftables.SetElement
	for _, s := range spans {
		elements = append(elements, nftables.SetElement{
			Key:    append(guest.AsSlice(), numberBytes(s.first)...),
			KeyEnd: append(guest.AsSlice(), numberBytes(s.last)...),
		})
	}
	return elements
}

// closedElements writes each span as its start and the first address after it,
// which is how sets of plain intervals are kept.
func closedElements(spans []span) []nftables.SetElement {
	var elements []nftables.SetElement
	for _, s := range spans {
		elements = append(elements, nftables.SetElement{Key: numberBytes(s.first)})
		if s.last != everything.last {
			elements = append(elements, nftables.SetElement{Key: numberBytes(s.last + 1), IntervalEnd: true})
		}
	}
	return elements
}

func guardedElements(links []string) []nftables.SetElement {
	var elements []nftables.SetElement
	for _, name := range links {
		elements = append(elements, nftables.SetElement{Key: linkKey(name)})
	}
	return elements
}

func addElements(c *nftables.Conn, set *nftables.Set, elements []nftables.SetElement) error {
	for chunk := range slices.Chunk(elements, elementsPerMessage) {
		if err := c.SetAddElements(set, chunk); err != nil {
			return err
		}
	}
	return nil
}

func deleteElements(c *nftables.Conn, set *nftables.Set, elements []nftables.SetElement) error {
	for chunk := range slices.Chunk(elements, elementsPerMessage) {
		if err := c.SetDeleteElements(set, chunk); err != nil {
			return err
		}
	}
	return nil
}
