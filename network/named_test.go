package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// hosts is a DNS server of names with addresses; a name may stand for another.
func hosts(asked *atomic.Int64, ttl uint32, names map[string][]string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, query *dns.Msg) {
		asked.Add(1)
		q := query.Question[0]
		answer := new(dns.Msg).SetReply(query)
		for owner := strings.ToLower(q.Name); ; {
			header := dns.RR_Header{Name: owner, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
			values := names[owner]
			if len(values) == 1 && dns.IsFqdn(values[0]) {
				header.Rrtype = dns.TypeCNAME
				answer.Answer = append(answer.Answer, &dns.CNAME{Hdr: header, Target: values[0]})
				owner = values[0]
				continue
			}
			for _, value := range values {
				answer.Answer = append(answer.Answer, &dns.A{Hdr: header, A: net.ParseIP(value)})
			}
			break
		}
		if len(answer.Answer) == 0 {
			answer.Rcode = dns.RcodeNameError
		}
		if w.LocalAddr().Network() == "udp" {
			answer.Truncate(upstreamSize)
		}
		w.WriteMsg(answer)
	}
}

// outside are the names of the test's world.
var outside = map[string][]string{
	"a.example.":      {publicA},
	"b.example.":      {publicB},
	"www.a.example.":  {"edge.cdn.test."},
	"edge.cdn.test.":  {publicB},
	"shared.example.": {publicA},
	"rebind.example.": {privateDNS, "169.254.169.254", router, hostWAN, publicA},
	"many.example.":   addressList(2 * maxAnswered),
}

func addressList(n int) (list []string) {
	for i := range n {
		list = append(list, numberAddr(0x08000000+uint32(i)).String())
	}
	return list
}

// resolve asks for a name's addresses and expects that code.
func (g *guest) resolve(name string, code int) *dns.Msg {
	g.t.Helper()
	answer, err := g.ask("udp", name, dns.TypeA, 4096)
	must(g.t, err)
	if answer.Rcode != code {
		g.t.Errorf("%s: got %s, want %s", name, dns.RcodeToString[answer.Rcode], dns.RcodeToString[code])
	}
	return answer
}

// reaches expects that an address is open, or closed.
func (g *guest) reaches(address string, open bool) {
	g.t.Helper()
	conn, _, err := g.call(address + ":" + echoPort)
	if open && err != nil || !open && !errors.Is(err, unix.ECONNREFUSED) {
		g.t.Errorf("%s: got %v, want open %v", address, err, open)
	}
	if err == nil {
		conn.Close()
	}
}

// A machine under rules by name reaches the addresses that it was given for
// names it may ask for, by any protocol, and nothing else. Another machine
// gains nothing by that.
func TestReachByName(t *testing.T) {
	internet := newWorld(t)
	var asked atomic.Int64
	upstream(t, internet, hosts(&asked, 60, outside))
	n := openNetwork(t, testConfig(t))
	rules := append(allow("a.example", "*.a.example", "*.sub.example"), deny("b.example")...)
	g, other := newGuest(t, n, Policy{Names: rules}), newGuest(t, n, Policy{Names: rules})

	g.reaches(publicA, false)
	for what, q := range map[string]dns.Question{
		"a denied name":        {Name: "b.example.", Qtype: dns.TypeA},
		"one without a rule":   {Name: "other.test.", Qtype: dns.TypeA},
		"IPv6 of a denied one": {Name: "b.example.", Qtype: dns.TypeAAAA},
		"text of a denied one": {Name: "data.b.example.", Qtype: dns.TypeTXT},
		"a reverse name":       {Name: "10.113.0.203.in-addr.arpa.", Qtype: dns.TypePTR},
		"a dot in a label":     {Name: `x\.a.example.`, Qtype: dns.TypeA},
		"odd bytes":            {Name: `\000.a.example.`, Qtype: dns.TypeA},
		"the root":             {Name: ".", Qtype: dns.TypeNS},
	} {
		for _, transport := range []string{"udp", "tcp"} {
			answer, err := g.ask(transport, q.Name, q.Qtype, 0)
			must(t, err)
			if answer.Rcode != dns.RcodeRefused {
				t.Errorf("%s by %s: got %s, want REFUSED", what, transport, dns.RcodeToString[answer.Rcode])
			}
		}
	}
	if asked.Load() != 0 {
		t.Errorf("the upstream was asked %d times for what is denied", asked.Load())
	}
	for name, kind := range map[string]uint16{"a.example": dns.TypeAAAA, "www.a.example": dns.TypeHTTPS, "localhost": dns.TypeAAAA} {
		if answer, err := g.ask("udp", name, kind, 0); err != nil || answer.Rcode != dns.RcodeSuccess || len(answer.Answer) != 0 {
			t.Errorf("%s %s: got %v, %v; want an empty answer", name, dns.TypeToString[kind], answer, err)
		}
	}

	g.resolve("A.Example", dns.RcodeSuccess)
	g.reaches(publicA, true)
	g.reaches(publicB, false)
	other.reaches(publicA, false)
	server := internet.listenUDP(publicA + ":7001")
	machine := g.listenUDP(g.slot.Address.Addr().String() + ":7002")
	_, err := machine.WriteTo([]byte("by UDP"), server.LocalAddr())
	must(t, err)
	b := make([]byte, 64)
	_, from, err := server.ReadFrom(b)
	must(t, err)
	_, err = server.WriteTo([]byte("and back"), from)
	must(t, err)
	expectNext(t, machine, "and back")

	// A name's aliases belong to it, whatever the rules say of them; by TCP as by UDP.
	answer, err := g.ask("tcp", "www.a.example", dns.TypeA, 0)
	must(t, err)
	if answer.Rcode != dns.RcodeSuccess || len(answer.Answer) != 2 {
		t.Errorf("an alias: got %v", answer)
	}
	g.reaches(publicB, true)
	g.resolve("edge.cdn.test", dns.RcodeRefused)
}

// No name opens what is private or the host's, and other resolvers are closed
// like everything else.
func TestNamesOpenNothingPrivate(t *testing.T) {
	internet := newWorld(t)
	var asked atomic.Int64
	upstream(t, internet, hosts(&asked, 60, outside))
	n := openNetwork(t, testConfig(t))
	g := newGuest(t, n, Policy{Names: both(allow("*"), deny("a.example")), Allow: prefixes(publicB + "/32")})
	neighbour := newGuest(t, n, Policy{})
	neighbour.echo()

	g.reaches(publicB, true) // allowed by address
	g.reaches(publicA, false)
	for _, transport := range []string{"udp4", "tcp4"} {
		conn, err := g.dial(transport, publicA+":53")
		if err == nil {
			err = pokeUDP(conn)
			conn.Close()
		}
		if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EHOSTUNREACH) {
			t.Errorf("another resolver by %s: got %v, want it refused", transport, err)
		}
	}
	if answer := g.resolve("rebind.example", dns.RcodeSuccess); len(answer.Answer) != 5 {
		t.Errorf("got %v", answer)
	}
	for _, closed := range []string{privateDNS, "169.254.169.254", router, hostWAN, neighbour.slot.Address.Addr().String(), g.slot.Gateway.String()} {
		g.reaches(closed, false)
	}
	g.reaches(publicA, true) // the name is allowed, if not the other one for the address
	if answer := g.resolve("many.example", dns.RcodeSuccess); len(answer.Answer) != maxAnswered {
		t.Errorf("%d addresses were told, want %d", len(answer.Answer), maxAnswered)
	}
}

// opened is what the firewall holds open by name for the guest.
func (g *guest) opened() map[string]time.Duration {
	g.t.Helper()
	all, err := g.n.firewall.readOpened()
	must(g.t, err)
	left := make(map[string]time.Duration)
	for _, o := range all[g.slot.Address.Addr()] {
		left[o.addr.String()] = time.Until(o.until)
	}
	return left
}

// An address stays open for as long as the answer may be used and some time
// longer; connections go on when that is over.
func TestOpenedForATime(t *testing.T) {
	internet := newWorld(t)
	var asked atomic.Int64
	upstream(t, internet, hosts(&asked, 1<<31-1, outside))
	n := openNetwork(t, testConfig(t))
	g := newGuest(t, n, Policy{Names: allow("a.example")})
	answer := g.resolve("a.example", dns.RcodeSuccess)
	if told := time.Duration(answer.Answer[0].Header().Ttl) * time.Second; told != longestTTL {
		t.Errorf("the machine was told a time to live of %s, want %s", told, longestTTL)
	}
	if left := g.opened()[publicA]; left <= longestTTL+openSlack || left > longestTTL+openGrace {
		t.Errorf("the address is open for %s", left)
	}
	conn, _, err := g.call(publicA + ":" + echoPort)
	must(t, err)
	defer conn.Close()
	must(t, say(conn, "while it is open"))
	// The kernel lets it time out.
	address := netip.MustParseAddr(publicA)
	must(t, n.firewall.changeSlot(g.slot.Address.Addr(), slotChange{opened: []openedAddress{{address, time.Now().Add(50 * time.Millisecond), "a.example"}}}))
	eventually(t, "the address has timed out", func() bool { return len(g.opened()) == 0 })
	g.reaches(publicA, false)
	must(t, say(conn, "after that"))
	// What has timed out is removed and opened like anything else.
	must(t, n.firewall.changeSlot(g.slot.Address.Addr(), slotChange{closed: []netip.Addr{address}}))
	must(t, g.slot.SetPolicy(Policy{Names: allow("a.example", "b.example")}))
	must(t, say(conn, "and with other rules"))
	must(t, g.slot.SetPolicy(Policy{Names: allow("b.example")}))
	if err := say(conn, "and denied"); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("an open connection to a name that is denied now: got %v, want a reset", err)
	}
}

// Rules hold at once. What a program has open to what is denied now ends, even
// if it only waits; what is allowed goes on.
func TestNamesChange(t *testing.T) {
	internet := newWorld(t)
	var asked atomic.Int64
	upstream(t, internet, hosts(&asked, 60, outside))
	n := openNetwork(t, testConfig(t))
	g, other := newGuest(t, n, Policy{}), newGuest(t, n, Policy{})
	g.resolve("a.example", dns.RcodeSuccess)
	g.resolve("b.example", dns.RcodeSuccess)
	open := func(g *guest, address string) net.Conn {
		t.Helper()
		conn, _, err := g.call(address + ":" + echoPort)
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	ends := func(conn net.Conn) {
		t.Helper()
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("a program that waits for what is denied now: got %v, want a reset", err)
		}
	}
	toA, toB, others := open(g, publicA), open(g, publicB), open(other, publicB)

	// From no rules at all: what was resolved before counts.
	must(t, g.slot.SetPolicy(Policy{Names: allow("a.example", "shared.example")}))
	ends(toB)
	must(t, say(toA, "still allowed"))
	g.reaches(publicA, true)
	g.reaches(publicB, false)
	g.resolve("b.example", dns.RcodeRefused)
	g.resolve("shared.example", dns.RcodeSuccess)

	// One of two names for the address is enough.
	must(t, g.slot.SetPolicy(Policy{Names: both(allow("*"), deny("a.example"))}))
	must(t, say(toA, "by its other name"))
	g.reaches(publicA, true)
	g.resolve("b.example", dns.RcodeSuccess)
	toB = open(g, publicB)

	must(t, g.slot.SetPolicy(Policy{Names: allow("b.example")}))
	ends(toA)
	g.reaches(publicA, false)
	must(t, say(toB, "stays"))

	// To rules by address, which know no names.
	must(t, g.slot.SetPolicy(Policy{Deny: prefixes(publicB + "/32")}))
	ends(toB)
	g.reaches(publicB, false)
	g.reaches(publicA, true)
	if left := g.opened(); len(left) != 0 {
		t.Errorf("open by name without rules by name: %v", left)
	}
	must(t, g.slot.SetPolicy(Policy{Deny: prefixes("0.0.0.0/0"), Names: allow("b.example")}))
	g.resolve("b.example", dns.RcodeSuccess)
	g.reaches(publicB, true)
	must(t, g.slot.SetPolicy(Policy{}))
	g.reaches(publicA, true)
	must(t, say(others, "never touched"))
}

// A process that takes over holds open what was open by name, for as long as
// was left, and remembers why.
func TestNamesAfterReopen(t *testing.T) {
	internet := newWorld(t)
	var asked atomic.Int64
	upstream(t, internet, hosts(&asked, 60, outside))
	cfg := testConfig(t)
	n, err := Open(context.Background(), cfg, nil)
	must(t, err)
	t.Cleanup(func() { must(t, Purge(cfg)) })
	policy := Policy{Names: allow("a.example", "b.example")}
	g, ended := newGuest(t, n, policy), newGuest(t, n, policy)
	g.resolve("a.example", dns.RcodeSuccess)
	g.resolve("b.example", dns.RcodeSuccess)
	ended.resolve("a.example", dns.RcodeSuccess)
	toA, _, err := g.call(publicA + ":" + echoPort)
	must(t, err)
	defer toA.Close()
	toB, _, err := g.call(publicB + ":" + echoPort)
	must(t, err)
	defer toB.Close()
	before := g.opened()
	must(t, n.Close())
	g.reaches(publicA, true)

	n, err = Open(context.Background(), cfg, map[int]Policy{g.slot.Index: policy})
	must(t, err)
	defer n.Close()
	g.n, ended.n = n, n
	if after := g.opened(); len(after) != 2 || after[publicA] > before[publicA] || after[publicA] < time.Minute {
		t.Errorf("open are %v, and were %v", after, before)
	}
	if left := ended.opened(); len(left) != 0 {
		t.Errorf("open for a machine that has ended: %v", left)
	}
	g.reaches(publicB, true)
	must(t, errors.Join(say(toA, "a"), say(toB, "b")))
	g.resolve("other.example", dns.RcodeRefused)
	slot, err := n.Attach(g.slot.Index)
	must(t, err)
	must(t, slot.SetPolicy(Policy{Names: allow("a.example")}))
	if _, err := io.ReadAll(toB); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("a name that is denied now: got %v, want a reset", err)
	}
	must(t, say(toA, "still there"))
	g.reaches(publicA, true)
	g.reaches(publicB, false)
}

// The next machine of a slot has nothing of the former's names.
func TestNamesOfRecycledSlot(t *testing.T) {
	internet := newWorld(t)
	var asked atomic.Int64
	upstream(t, internet, hosts(&asked, 60, outside))
	cfg := testConfig(t)
	cfg.Ahead = 1
	n := openNetwork(t, cfg)
	policy := Policy{Names: allow("*")}
	first := newGuest(t, n, policy)
	first.resolve("a.example", dns.RcodeSuccess)
	first.reaches(publicA, true)
	first.end()
	var slots []*Slot
	eventually(t, "the slot comes round again", func() bool {
		slot, err := n.Acquire(context.Background(), policy)
		must(t, err)
		slots = append(slots, slot)
		return slot.Index == first.slot.Index
	})
	second := startGuest(t, n, slots[len(slots)-1])
	if left := second.opened(); len(left) != 0 {
		t.Errorf("open by name in a new machine: %v", left)
	}
	second.reaches(publicA, false)
}

// However many names a machine asks for, only so many addresses are open, and
// the one just given is.
func TestOpenedIsBounded(t *testing.T) {
	newWorld(t)
	cfg := testConfig(t)
	cfg.Resolver = numbered{}
	n := openNetwork(t, cfg)
	g := newGuest(t, n, Policy{Names: allow("*.example")})
	const names = maxOpened/maxAnswered + 4
	for i := range names {
		g.resolve(fmt.Sprintf("n%d.example", i), dns.RcodeSuccess)
	}
	left := g.opened()
	if len(left) != maxOpened {
		t.Errorf("%d addresses are open, want %d", len(left), maxOpened)
	}
	for i := range names {
		_, open := left[numberAddr(0x08000000+uint32(i)<<8).String()]
		if want := i >= 4; open != want {
			t.Errorf("the addresses of name %d are open: %v", i, open)
		}
	}
}

// numbered answers n<i>.example with more addresses than are opened.
type numbered struct{}

func (numbered) Resolve(_ context.Context, _ netip.Addr, query *dns.Msg) (*dns.Msg, error) {
	answer := new(dns.Msg).SetReply(query)
	var i uint32
	if _, err := fmt.Sscanf(query.Question[0].Name, "n%d.example.", &i); err != nil {
		return nil, err
	}
	for k := range uint32(maxAnswered + 1) {
		header := dns.RR_Header{Name: query.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60 + i}
		answer.Answer = append(answer.Answer, &dns.A{Hdr: header, A: numberAddr(0x08000000 + i<<8 + k).AsSlice()})
	}
	return answer, nil
}

// Questions, answers and changes of policy at the same time leave the firewall
// as the last policy wants it.
func TestNamesUnderWay(t *testing.T) {
	newWorld(t)
	cfg := testConfig(t)
	cfg.Resolver = numbered{}
	n := openNetwork(t, cfg)
	g := newGuest(t, n, Policy{Names: allow("*.example")})
	done := make(chan error)
	for worker := range 4 {
		go func() {
			var err error
			for i := 0; i < 20 && err == nil; i++ {
				_, err = g.ask("udp", fmt.Sprintf("n%d.example", worker*20+i), dns.TypeA, 0)
			}
			done <- err
		}()
	}
	policies := []Policy{{}, {Names: allow("n1.example")}, {Deny: prefixes("0.0.0.0/0")}, {Names: allow("*")}, {Names: deny("*.example")}}
	for i := range 30 {
		must(t, g.slot.SetPolicy(policies[i%len(policies)]))
	}
	for range 4 {
		must(t, <-done)
	}
	if left := g.opened(); len(left) != 0 {
		t.Errorf("all names are denied, and open are %v", left)
	}
	held := n.held[g.slot.Index]
	if !slices.Equal(held.denied, []span{everything}) || len(held.seen) != 0 {
		t.Errorf("closed is %v, and remembered %v", held.denied, held.seen)
	}
}
