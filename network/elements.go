package network

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

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

// openedElements writes the name with each address, for a later process.
func openedElements(guest netip.Addr, opened []openedAddress, now time.Time) []nftables.SetElement {
	var elements []nftables.SetElement
	for _, o := range opened {
		if left := o.until.Sub(now); left >= time.Millisecond {
			elements = append(elements, nftables.SetElement{Key: append(guest.AsSlice(), o.addr.AsSlice()...), Timeout: left, Comment: o.name})
		}
	}
	return elements
}

// blankElements are the keys of addresses opened by name, with some time-out.
func blankElements(guest netip.Addr, addrs []netip.Addr) []nftables.SetElement {
	var elements []nftables.SetElement
	for _, addr := range addrs {
		elements = append(elements, nftables.SetElement{Key: append(guest.AsSlice(), addr.AsSlice()...), Timeout: time.Minute})
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

// readOpened finds what a previous process's firewall holds open by name, by guest.
func (f *firewall) readOpened() (map[netip.Addr][]openedAddress, error) {
	found := make(map[netip.Addr][]openedAddress)
	return found, f.transaction("reading what is open by name", func(c *nftables.Conn) error {
		tables, err := c.ListTablesOfFamily(f.table.Family)
		if err != nil || !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == f.table.Name }) {
			return err
		}
		sets, err := c.GetSets(f.table)
		if err != nil || !slices.ContainsFunc(sets, func(s *nftables.Set) bool { return s.Name == f.opened.Name }) {
			return err
		}
		elements, err := c.GetSetElements(f.opened)
		now := time.Now()
		for _, e := range elements {
			if len(e.Key) != 8 {
				return fmt.Errorf("an element has a key of %d bytes, want 8", len(e.Key))
			}
			guest, addr := netip.AddrFrom4([4]byte(e.Key[:4])), netip.AddrFrom4([4]byte(e.Key[4:]))
			found[guest] = append(found[guest], openedAddress{addr, now.Add(e.Expires), e.Comment})
		}
		return err
	})
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
