package network

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// span is an inclusive run of IPv4 addresses. The kernel's interval sets refuse
// entries that overlap, so all address lists become disjoint spans first.
type span struct{ first, last uint32 }

// everything is the whole of IPv4.
var everything = span{0, ^uint32(0)}

func addrNumber(a netip.Addr) uint32 {
	b := a.Unmap().As4()
	return binary.BigEndian.Uint32(b[:])
}

func numberAddr(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

func numberBytes(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// spanOf is a prefix as a span; false if it is not IPv4.
func spanOf(p netip.Prefix) (span, bool) {
	addr, bits := p.Addr(), p.Bits()
	if addr.Is4In6() && bits >= 96 {
		addr, bits = addr.Unmap(), bits-96
	}
	if !addr.Is4() || bits < 0 {
		return span{}, false
	}
	host := uint32(uint64(1)<<(32-bits) - 1)
	first := addrNumber(addr) &^ host
	return span{first, first | host}, true
}

// spansOf gives the IPv4 prefixes of a list as sorted, merged spans.
func spansOf(prefixes []netip.Prefix) []span {
	var spans []span
	for _, p := range prefixes {
		if s, ok := spanOf(p); ok {
			spans = append(spans, s)
		}
	}
	return mergeSpans(spans)
}

// mergeSpans sorts spans and joins those that overlap or touch.
func mergeSpans(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int {
		switch {
		case a.first < b.first:
			return -1
		case a.first > b.first:
			return 1
		}
		return 0
	})
	var merged []span
	for _, s := range spans {
		if n := len(merged); n > 0 && uint64(s.first) <= uint64(merged[n-1].last)+1 {
			merged[n-1].last = max(merged[n-1].last, s.last)
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// subtractSpans takes b out of a. Both are sorted and merged, and so is the result.
func subtractSpans(a, b []span) []span {
	var rest []span
	for _, s := range a {
		first, done := s.first, false
		for _, cut := range b {
			if cut.last < first || cut.first > s.last {
				continue
			}
			if cut.first > first {
				rest = append(rest, span{first, cut.first - 1})
			}
			if cut.last >= s.last {
				done = true
				break
			}
			first = cut.last + 1
		}
		if !done {
			rest = append(rest, span{first, s.last})
		}
	}
	return rest
}

// inSpans tells whether an address lies in one of the spans.
func inSpans(spans []span, a netip.Addr) bool {
	if !a.Unmap().Is4() {
		return false
	}
	n := addrNumber(a)
	for _, s := range spans {
		if s.first <= n && n <= s.last {
			return true
		}
	}
	return false
}
