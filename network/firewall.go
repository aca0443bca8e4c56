package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// alwaysClosed is what no guest may reach: private, shared, loopback,
// link-local, reserved, documentation and test nets, multicast, broadcast.
var alwaysClosed = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("224.0.0.0/3"),
}

// elementsPerMessage keeps a message's list of elements below the 64 KiB that
// a netlink attribute can hold.
const elementsPerMessage = 128

// firewall is the nftables table of an instance. What differs between slots is
// only in sets, so a change is one transaction of a few elements.
type firewall struct {
	cfg     Config
	dnsAddr netip.Addr
	whole   span // the instance's own range

	mu      sync.Mutex // one transaction at a time
	conn    *nftables.Conn
	table   *nftables.Table
	slots   *nftables.Set // link . address: the one source each link may use
	closed  *nftables.Set // destinations closed to all
	denied  *nftables.Set // guest . destination: closed by policy
	opened  *nftables.Set // guest . destination: opened by name, for a time
	guarded *nftables.Set // uplinks that forward only because of us
	flows   *nftables.Set // guest: counter of open connections
	asking  *nftables.Set // guest: rate of DNS questions
}

// slotRule is what the table holds for one slot.
type slotRule struct {
	link   string
	guest  netip.Addr
	denied []span
	opened []openedAddress
}

func newFirewall(cfg Config, dnsAddr netip.Addr) *firewall {
	whole, _ := spanOf(cfg.Range)
	f := &firewall{cfg: cfg, dnsAddr: dnsAddr, whole: whole}
	f.table = &nftables.Table{Name: cfg.table(), Family: nftables.TableFamilyINet}
	pair := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr)
	f.slots = &nftables.Set{Table: f.table, Name: "slots", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr)}
	f.closed = &nftables.Set{Table: f.table, Name: "closed", Interval: true, KeyType: nftables.TypeIPAddr}
	f.denied = &nftables.Set{Table: f.table, Name: "denied", Interval: true, Concatenation: true, KeyType: pair}
	f.opened = &nftables.Set{Table: f.table, Name: "opened", Concatenation: true, HasTimeout: true, KeyType: pair}
	f.guarded = &nftables.Set{Table: f.table, Name: "guarded", KeyType: nftables.TypeIFName}
	f.flows = &nftables.Set{Table: f.table, Name: "flows", Dynamic: true, Size: 65535, KeyType: nftables.TypeIPAddr}
	f.asking = &nftables.Set{Table: f.table, Name: "asking", Dynamic: true, Size: 65535,
		HasTimeout: true, Timeout: time.Minute, KeyType: nftables.TypeIPAddr}
	return f
}

// transaction sends what build adds as one change that happens whole or not at
// all. The connection is kept: closing one makes the kernel wait until removed
// elements are freed, some 10 ms.
func (f *firewall) transaction(what string, build func(*nftables.Conn) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn == nil {
		conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(growBuffers))
		if err != nil {
			return fmt.Errorf("opening nftables: %w", err)
		}
		f.conn = conn
	}
	err := build(f.conn)
	if err == nil {
		err = f.conn.Flush()
	}
	if err != nil {
		// What is left in the connection is unknown: the next change gets a new one.
		return errors.Join(fmt.Errorf("%s: %w", what, err), f.hangUp())
	}
	return nil
}

// hangUp closes the connection. The caller holds mu.
func (f *firewall) hangUp() error {
	conn := f.conn
	f.conn = nil
	if conn == nil {
		return nil
	}
	if err := conn.CloseLasting(); err != nil {
		return fmt.Errorf("closing nftables: %w", err)
	}
	return nil
}

// close ends the connection; the rules stay.
func (f *firewall) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hangUp()
}

// replace puts the whole table in place of a previous one in one step, so that
// at no time a packet passes unfiltered; tracked connections go on.
func (f *firewall) replace(slots []slotRule, closed []span, guarded []string) error {
	return f.transaction("replacing the firewall", func(c *nftables.Conn) error {
		c.AddTable(f.table) // deleting needs it to exist
		c.DelTable(f.table)
		c.AddTable(f.table)
		for _, set := range []*nftables.Set{f.slots, f.closed, f.denied, f.opened, f.guarded, f.flows, f.asking} {
			set.ID = 0
			if err := c.AddSet(set, nil); err != nil {
				return err
			}
		}
		f.addHostChains(c)
		f.addPassage(c)
		var sources, denied, opened []nftables.SetElement
		now := time.Now()
		for _, s := range slots {
			sources = append(sources, sourceElement(s))
			denied = append(denied, deniedElements(s.guest, s.denied)...)
			opened = append(opened, openedElements(s.guest, s.opened, now)...)
		}
		return errors.Join(
			addElements(c, f.slots, sources),
			addElements(c, f.denied, denied),
			addElements(c, f.opened, opened),
			addElements(c, f.closed, closedElements(closed)),
			addElements(c, f.guarded, guardedElements(guarded)),
		)
	})
}

// addSlot lets a new slot's link speak with its own address.
func (f *firewall) addSlot(s slotRule) error {
	return f.transaction("opening the firewall for a slot", func(c *nftables.Conn) error {
		return addElements(c, f.slots, []nftables.SetElement{sourceElement(s)})
	})
}

// slotChange is what a change of policy or an answer changes for one guest.
type slotChange struct {
	oldDenied, denied []span
	closed            []netip.Addr // no longer open by name
	opened            []openedAddress
}

// changeSlot makes a change for one guest.
func (f *firewall) changeSlot(guest netip.Addr, change slotChange) error {
	removed := slices.Clone(change.closed)
	for _, o := range change.opened {
		removed = append(removed, o.addr) // what is there gets no other time-out by being added
	}
	slices.SortFunc(removed, netip.Addr.Compare)
	removed = slices.Compact(removed)
	if len(change.oldDenied)+len(change.denied)+len(removed) == 0 {
		return nil
	}
	write := func(c *nftables.Conn) error {
		now := time.Now()
		// What is removed may have timed out, and must be there to be removed.
		blank := blankElements(guest, removed)
		return errors.Join(
			deleteElements(c, f.denied, deniedElements(guest, change.oldDenied)),
			addElements(c, f.denied, deniedElements(guest, change.denied)),
			addElements(c, f.opened, blank),
			deleteElements(c, f.opened, blank),
			addElements(c, f.opened, openedElements(guest, change.opened, now)),
		)
	}
	err := f.transaction("changing what a machine may reach", write)
	if errors.Is(err, unix.ENOENT) { // it timed out between being added and removed
		err = f.transaction("changing what a machine may reach", write)
	}
	return err
}

// setHost replaces what depends on the host's own interfaces and routes.
func (f *firewall) setHost(closed []span, guarded []string) error {
	return f.transaction("following the host's interfaces in the firewall", func(c *nftables.Conn) error {
		c.FlushSet(f.closed)
		c.FlushSet(f.guarded)
		return errors.Join(
			addElements(c, f.closed, closedElements(closed)),
			addElements(c, f.guarded, guardedElements(guarded)),
		)
	})
}

// addHostChains writes the rules between guests and the host itself. The
// comment of each chain says what it promises.
func (f *firewall) addHostChains(c *nftables.Conn) {
	guests, dns := f.cfg.hostEnds(), f.cfg.dnsHostEnd()
	resolver := f.dnsAddr.AsSlice()

	// entry: a guest speaks IPv4 with its own address or not at all. Questions
	// and answers of DNS are not tracked, so they take no room in the tables.
	f.chain(c, "entry", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw,
		rule(fromLinks(guests), protocolFamily(expr.CmpOpNeq, unix.NFPROTO_IPV4), drop),
		rule(fromLinks(guests), notIn(f.slots, &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, loadSource(2)), drop),
		rule(fromLinks(guests), destinationIs(resolver), transport(unix.IPPROTO_UDP), destinationPort(53), untracked),
		rule(fromLinks(guests), destinationIs(resolver), transport(unix.IPPROTO_TCP), destinationPort(53), untracked),
		rule(fromLink(dns), protocolFamily(expr.CmpOpEq, unix.NFPROTO_IPV4), sourceIs(resolver), untracked),
	)
	// refuse: the guest's program learns at once that it may not.
	f.chain(c, "refuse", "", nil, nil,
		rule(transport(unix.IPPROTO_TCP), reset),
		rule(prohibited),
	)
	// named: what is denied is open all the same if the guest was given it for a
	// name, and connections begun then go on when that time is over.
	f.chain(c, "named", "", nil, nil,
		rule(in(f.opened, loadSource(1), loadDestination(wordRegister)), setMark(openedMark), goBack),
		rule(stateIs(established), markIs(openedMark), goBack),
		rule(jump("refuse")),
	)
	// answers: the same for what comes back.
	f.chain(c, "answers", "", nil, nil,
		rule(in(f.opened, loadDestination(1), loadSource(wordRegister)), goBack),
		rule(stateIs(established), markIs(openedMark), goBack),
		rule(drop),
	)
	// input: the host itself only gets answers to what it asked.
	f.chain(c, "input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter,
		rule(fromLinks(guests), stateIs(established|related), accept),
		rule(fromLinks(guests), jump("refuse")),
		rule(fromLink(dns), drop),
	)
	// output: a connection of the host to a guest that is gone must not go on
	// with the next guest of the slot: its packets no longer belong to a tracked
	// connection, and do not begin one.
	f.chain(c, "output", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter,
		rule(toLinks(guests), transport(unix.IPPROTO_TCP), stateIs(fresh),
			tcpFlags(rstFlag, 0, expr.CmpOpEq), tcpFlags(synFlag|ackFlag, synFlag, expr.CmpOpNeq), reset),
		rule(toLinks(guests), transport(unix.IPPROTO_TCP), stateIs(invalid), tcpFlags(rstFlag, 0, expr.CmpOpEq), drop),
	)
}

// addPassage writes the rules for what passes through the host.
func (f *firewall) addPassage(c *nftables.Conn) {
	guests, dns := f.cfg.hostEnds(), f.cfg.dnsHostEnd()
	resolver := f.dnsAddr.AsSlice()
	// ask: DNS and nothing else, so often and not oftener.
	f.chain(c, "ask", "", nil, nil,
		rule(transport(unix.IPPROTO_UDP), perSource(f.asking, unix.NFT_DYNSET_OP_UPDATE,
			&expr.Limit{Type: expr.LimitTypePkts, Rate: 500, Unit: expr.LimitTimeSecond, Burst: 500, Over: true}), drop),
		rule(destinationIs(resolver), transport(unix.IPPROTO_UDP), destinationPort(53), accept),
		rule(destinationIs(resolver), transport(unix.IPPROTO_TCP), destinationPort(53), accept),
		rule(jump("refuse")),
	)
	// outward: what a guest sends through the host. Every packet is judged, not
	// only the first of a connection, so a new policy holds at once.
	f.chain(c, "outward", "", nil, nil,
		rule(toLink(dns), jump("ask")),
		rule(toLinks(guests), jump("refuse")),
		rule(in(f.closed, loadDestination(1)), jump("refuse")),
		rule(in(f.denied, loadSource(1), loadDestination(wordRegister)), jump("named")),
		rule(stateIs(invalid), drop),
		rule(stateIs(fresh), perSource(f.flows, unix.NFT_DYNSET_OP_ADD, &expr.Connlimit{Count: uint32(f.cfg.MaxFlows), Flags: 1}), jump("refuse")),
		rule(accept),
	)
	// inward: what comes through the host to a guest. Errors about its packets
	// may come from any router; the rest only from peers it may speak to.
	f.chain(c, "inward", "", nil, nil,
		rule(protocolFamily(expr.CmpOpNeq, unix.NFPROTO_IPV4), drop),
		rule(fromLink(dns), sourceIs(resolver), transport(unix.IPPROTO_UDP), sourcePort(53), accept),
		rule(fromLink(dns), sourceIs(resolver), transport(unix.IPPROTO_TCP), sourcePort(53), accept),
		rule(stateIs(related), accept),
		rule(in(f.denied, loadDestination(1), loadSource(wordRegister)), jump("answers")),
		rule(stateIs(established), accept),
		rule(jump("refuse")),
	)
	// forward: guests' traffic; and where forwarding is on only because of us,
	// the host does not become a router for its neighbours.
	f.chain(c, "forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter,
		rule(fromLinks(guests), jump("outward")),
		rule(toLinks(guests), jump("inward")),
		rule(fromLink(dns), drop),
		rule(toLink(dns), drop),
		rule(in(f.guarded, &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}), stateIs(fresh),
			trackedAs(expr.CtKeySTATUS, dstNatStatus, expr.CmpOpEq), drop),
	)
	// segments: guests' links carry larger packets than the way out does.
	handshake := rule(transport(unix.IPPROTO_TCP), tcpFlags(synFlag|rstFlag, synFlag, expr.CmpOpEq), clampSegments)
	f.chain(c, "segments", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityMangle,
		rule(fromLinks(guests), handshake), rule(toLinks(guests), handshake))
	// source: outside, guests appear under the host's address.
	f.chain(c, "source", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource,
		rule(protocolFamily(expr.CmpOpEq, unix.NFPROTO_IPV4), sourceWithin(f.whole), notToLinks(f.cfg.Prefix+"-"), masquerade),
	)
}

const (
	established = expr.CtStateBitESTABLISHED
	related     = expr.CtStateBitRELATED
	invalid     = expr.CtStateBitINVALID
	fresh       = expr.CtStateBitNEW

	synFlag, rstFlag, ackFlag = 0x02, 0x04, 0x10
	dstNatStatus              = 1 << 5 // IPS_DST_NAT
	// openedMark is on connections to what was open by name.
	openedMark = 0x61746f6c
)

// chain adds a chain with its rules; without a hook it is one to jump to.
func (f *firewall) chain(c *nftables.Conn, name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority, rules ...[]expr.Any) {
	chain := &nftables.Chain{Name: name, Table: f.table}
	if hook != nil {
		chain.Type, chain.Hooknum, chain.Priority = kind, hook, priority
	}
	c.AddChain(chain)
	for _, exprs := range rules {
		c.AddRule(&nftables.Rule{Table: f.table, Chain: chain, Exprs: exprs})
	}
}

// removeTable takes the whole table away; it is no error if there is none.
func removeTable(cfg Config) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("opening nftables: %w", err)
	}
	table := &nftables.Table{Name: cfg.table(), Family: nftables.TableFamilyINet}
	conn.AddTable(table)
	conn.DelTable(table)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("removing the firewall: %w", err)
	}
	return nil
}
