package network

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// heldSlot is a slot that a machine holds, with the policy in force.
type heldSlot struct {
	slot    *Slot
	offline atomic.Bool               // all names are refused
	names   atomic.Pointer[nameRules] // nil: names change nothing

	mu     sync.Mutex // one change at a time; taken before Network.mu
	gone   bool       // given back: no more changes
	denied []span
	seen   seenAddresses
}

func hold(slot *Slot, p Policy) *heldSlot {
	held := &heldSlot{slot: slot, denied: p.denied(), seen: make(seenAddresses)}
	held.offline.Store(p.offline())
	held.names.Store(compileNames(p.Names))
	return held
}

// recall takes over what was open by name when the policy was put in force by
// a previous process, as far as the policy allows.
func (h *heldSlot) recall(opened []openedAddress, now time.Time) []openedAddress {
	rules := h.names.Load()
	for _, o := range opened {
		if name, ok := plainName(o.name); ok && rules != nil {
			h.seen[o.addr] = &seenAddress{until: o.until, names: []string{name}}
		}
	}
	return h.seen.judge(rules, now)
}

// setPolicy puts another policy in force for a held slot, and ends what is open
// to what it closes if the machine has run.
func (n *Network) setPolicy(s *Slot, p Policy, ran bool) error {
	n.mu.Lock()
	held := n.held[s.Index]
	n.mu.Unlock()
	if held == nil || held.slot != s {
		return fmt.Errorf("network slot %d is no longer held by this machine", s.Index)
	}
	held.mu.Lock()
	defer held.mu.Unlock()
	if held.gone {
		return fmt.Errorf("network slot %d is no longer held by this machine", s.Index)
	}
	rules, before := compileNames(p.Names), held.denied
	change := slotChange{oldDenied: before, denied: p.denied()}
	if held.names.Load() != nil {
		change.closed = held.seen.all()
	}
	change.opened = held.seen.judge(rules, time.Now())
	if err := n.firewall.changeSlot(s.Address.Addr(), change); err != nil {
		return err
	}
	named := held.names.Swap(rules) != nil
	held.offline.Store(p.offline())
	held.denied = change.denied
	if closed := named || len(subtractSpans(held.denied, before)) > 0; !ran || !closed || len(held.denied) == 0 {
		return nil
	}
	return n.sever(held)
}

// retire ends a slot's policy for good.
func (n *Network) retire(held *heldSlot) error {
	held.mu.Lock()
	defer held.mu.Unlock()
	held.gone = true
	change := slotChange{oldDenied: held.denied}
	if held.names.Load() != nil {
		change.closed = held.seen.all()
	}
	if err := n.firewall.changeSlot(held.slot.Address.Addr(), change); err != nil {
		return err
	}
	held.denied, held.seen = nil, make(seenAddresses)
	held.names.Store(nil)
	return nil
}

// errDenied is what asking for a name comes to that a policy does not allow (any more).
var errDenied = errors.New("the machine's policy does not allow this name")

// answered lets the machine reach the addresses that it is about to be told for
// a name, before it is.
func (n *Network) answered(held *heldSlot, name string, addrs []netip.Addr, ttl time.Duration) error {
	held.mu.Lock()
	defer held.mu.Unlock()
	rules := held.names.Load()
	if held.gone || !rules.allows(name) {
		return errDenied
	}
	opened, gone := held.seen.see(name, addrs, ttl, time.Now())
	if rules == nil {
		return nil
	}
	err := n.firewall.changeSlot(held.slot.Address.Addr(), slotChange{opened: opened, closed: gone})
	if err != nil {
		for _, o := range opened {
			delete(held.seen, o.addr) // to be tried again with the next answer
		}
	}
	return err
}

// open tells whether the policy lets the machine reach an address. The caller
// holds mu.
func (h *heldSlot) open(addr netip.Addr) bool {
	return !inSpans(h.denied, addr) || h.names.Load() != nil && h.seen[addr] != nil
}
