package network

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxOpened bounds the addresses remembered, and open by name, of one
	// machine: some 300 KB of kernel memory.
	maxOpened = 1024
	// maxAnswered bounds the addresses of one answer.
	maxAnswered = 64
	// maxSharing bounds the names remembered of one address.
	maxSharing = 8
	// longestTTL bounds the time to live that a machine under rules by name is told.
	longestTTL = time.Hour
	// openGrace is for how long an address stays open beyond the time to live
	// of its answer: programs keep addresses a little longer than they may, and
	// a name asked again and again need not change the firewall each time.
	openGrace = 10 * time.Minute
	// openSlack is how much of the grace must be left for an answer.
	openSlack = 30 * time.Second
)

// seenAddress is an address that a machine was given for names it asked for.
// It is remembered after its time, because connections may live longer.
type seenAddress struct {
	until time.Time // it is open by name until then, if there are rules by name
	names []string  // plain; the last asked for is last
}

// openedAddress is an address in the firewall's set of those open by name.
type openedAddress struct {
	addr  netip.Addr
	until time.Time
	name  string // one of those it was given for
}

// seenAddresses is the memory of one machine.
type seenAddresses map[netip.Addr]*seenAddress

// see remembers addresses that a name was answered with. It returns what must
// change in the firewall for them: what is open anew or for longer, and what
// has lost its place.
func (s seenAddresses) see(name string, addrs []netip.Addr, ttl time.Duration, now time.Time) (opened []openedAddress, gone []netip.Addr) {
	for _, addr := range addrs {
		known := s[addr]
		if known == nil {
			known = &seenAddress{}
			s[addr] = known
		}
		known.call(name)
		if known.until.Before(now.Add(ttl + openSlack)) {
			known.until = now.Add(ttl + openGrace)
			opened = append(opened, openedAddress{addr, known.until, name})
		}
	}
	return opened, s.makeRoom(addrs)
}

// call notes a name that the address was given for.
func (a *seenAddress) call(name string) {
	if slices.Contains(a.names, name) {
		return
	}
	if len(a.names) == maxSharing {
		a.names = slices.Delete(a.names, 0, 1)
	}
	a.names = append(a.names, name)
}

// makeRoom forgets the addresses whose time ends first, beyond the bound; not
// those to keep.
func (s seenAddresses) makeRoom(keep []netip.Addr) (lost []netip.Addr) {
	if len(s) <= maxOpened {
		return nil
	}
	for addr := range s {
		if !slices.Contains(keep, addr) {
			lost = append(lost, addr)
		}
	}
	slices.SortFunc(lost, func(a, b netip.Addr) int {
		return cmp.Or(s[a].until.Compare(s[b].until), a.Compare(b))
	})
	lost = lost[:len(s)-maxOpened]
	for _, addr := range lost {
		delete(s, addr)
	}
	return lost
}

// all are the addresses remembered.
func (s seenAddresses) all() []netip.Addr { return slices.Collect(maps.Keys(s)) }

// judge forgets what rules do not allow and returns what is open by name at
// that time. Without rules all is remembered and nothing open by name.
func (s seenAddresses) judge(rules *nameRules, now time.Time) (opened []openedAddress) {
	if rules == nil {
		return nil
	}
	for addr, known := range s {
		known.names = slices.DeleteFunc(known.names, func(name string) bool { return !rules.allows(name) })
		if len(known.names) == 0 {
			delete(s, addr)
		} else if known.until.After(now) {
			opened = append(opened, openedAddress{addr, known.until, known.names[len(known.names)-1]})
		}
	}
	return opened
}

// answeredAddresses are the addresses in an answer and the longest of their
// times to live, bounded.
func answeredAddresses(answer *dns.Msg) (addrs []netip.Addr, ttl time.Duration) {
	for _, record := range answer.Answer {
		a, ok := record.(*dns.A)
		if !ok {
			continue
		}
		addr, ok := netip.AddrFromSlice(a.A.To4())
		if !ok || len(addrs) == maxAnswered {
			continue
		}
		ttl = max(ttl, min(longestTTL, time.Duration(a.Hdr.Ttl)*time.Second))
		addrs = append(addrs, addr)
	}
	return addrs, ttl
}

// boundAnswer takes from an answer, for a machine under rules by name, what its
// question did not ask for, and addresses beyond the number that is opened.
// What is left is told for no longer than it is open.
func boundAnswer(answer *dns.Msg) {
	answer.Extra = nil
	addresses := 0
	answer.Answer = slices.DeleteFunc(answer.Answer, func(record dns.RR) bool {
		h := record.Header()
		h.Ttl = min(h.Ttl, uint32(longestTTL/time.Second))
		if h.Rrtype == dns.TypeA {
			addresses++
		}
		return h.Rrtype == dns.TypeA && addresses > maxAnswered || h.Rrtype == dns.TypeHTTPS || h.Rrtype == dns.TypeSVCB
	})
}
