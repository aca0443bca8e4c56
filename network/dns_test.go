package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// ask puts one question to the machine's resolver.
func (g *guest) ask(transport, name string, kind uint16, edns uint16) (*dns.Msg, error) {
	conn, err := g.dial(transport, netipPort(g.slot.DNS, 53).String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	query := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	if edns > 0 {
		query.SetEdns0(edns, false)
	}
	client := dns.Client{Net: transport, Timeout: 10 * time.Second, UDPSize: dns.MaxMsgSize}
	answer, _, err := client.ExchangeWithConn(query, &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize})
	return answer, err
}

// zone answers A for any name, with as many TXT strings as "many" names ask.
func zone(asked *atomic.Int64) dns.HandlerFunc {
	return func(w dns.ResponseWriter, query *dns.Msg) {
		asked.Add(1)
		q := query.Question[0]
		answer := new(dns.Msg).SetReply(query)
		header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 300}
		switch {
		case strings.HasPrefix(q.Name, "missing."):
			answer.Rcode = dns.RcodeNameError
		case q.Qtype == dns.TypeA:
			answer.Answer = []dns.RR{&dns.A{Hdr: header, A: net.ParseIP(publicA)}}
		case q.Qtype == dns.TypeTXT:
			for i := range 40 {
				answer.Answer = append(answer.Answer, &dns.TXT{Hdr: header, Txt: []string{fmt.Sprintf("%02d%s", i, strings.Repeat("x", 60))}})
			}
		case q.Qtype == dns.TypePTR:
			answer.Answer = []dns.RR{&dns.PTR{Hdr: header, Ptr: "secret.internal."}}
		}
		if w.LocalAddr().Network() == "udp" {
			answer.Truncate(upstreamSize)
		}
		w.WriteMsg(answer)
	}
}

// Machines resolve names by UDP and TCP through the host's server, which lies
// where they cannot reach it themselves.
func TestNames(t *testing.T) {
	internet := newWorld(t)
	var asked atomic.Int64
	upstream(t, internet, zone(&asked))
	n := openNetwork(t, testConfig(t))
	g := newGuest(t, n, Policy{})

	for _, transport := range []string{"udp", "tcp"} {
		answer, err := g.ask(transport, "Example.com", dns.TypeA, 0)
		must(t, err)
		if len(answer.Answer) != 1 || answer.Answer[0].(*dns.A).A.String() != publicA {
			t.Errorf("%s: answer is %v", transport, answer)
		}
		if answer.Question[0].Name != "Example.com." {
			t.Errorf("%s: the question came back as %q", transport, answer.Question[0].Name)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("two equal questions reached the upstream %d times, want once", asked.Load())
	}
	cases := map[string]struct {
		name    string
		kind    uint16
		code    int
		answers int
		passed  bool // to the upstream
	}{
		"no such name":            {"missing.example", dns.TypeA, dns.RcodeNameError, 0, true},
		"IPv6":                    {"example.com", dns.TypeAAAA, dns.RcodeSuccess, 0, false},
		"localhost":               {"localhost", dns.TypeA, dns.RcodeSuccess, 1, false},
		"zone transfer":           {"example.com", dns.TypeAXFR, dns.RcodeRefused, 0, false},
		"reverse of private":      {"9.9.9.10.in-addr.arpa", dns.TypePTR, dns.RcodeNameError, 0, false},
		"reverse of private zone": {"168.192.in-addr.arpa", dns.TypePTR, dns.RcodeNameError, 0, false},
		"reverse of public":       {"8.8.8.8.in-addr.arpa", dns.TypePTR, dns.RcodeSuccess, 1, true},
		"reverse of IPv6":         {"1.0.ip6.arpa", dns.TypePTR, dns.RcodeNameError, 0, false},
	}
	for what, c := range cases {
		before := asked.Load()
		answer, err := g.ask("udp", c.name, c.kind, 0)
		must(t, err)
		if answer.Rcode != c.code || len(answer.Answer) != c.answers || (asked.Load() > before) != c.passed {
			t.Errorf("%s: got %s with %d answers, upstream asked: %v", what, dns.RcodeToString[answer.Rcode], len(answer.Answer), asked.Load() > before)
		}
	}
	for _, c := range []struct {
		transport string
		edns      uint16
		whole     bool
	}{{"udp", 0, false}, {"udp", 4096, false}, {"tcp", 0, true}} {
		answer, err := g.ask(c.transport, "many.example", dns.TypeTXT, c.edns)
		must(t, err)
		if answer.Truncated == c.whole || (len(answer.Answer) == 40) != c.whole {
			t.Errorf("a large answer by %s, EDNS %d: truncated %v, %d records", c.transport, c.edns, answer.Truncated, len(answer.Answer))
		}
	}
}

// Without internet there are no names; and when the upstream does not answer
// the machine hears so at once.
func TestNamesRefusedAndFailed(t *testing.T) {
	newWorld(t)
	n := openNetwork(t, testConfig(t))
	g := newGuest(t, n, Policy{Deny: prefixes("0.0.0.0/0"), Allow: prefixes(publicA + "/32")})
	expectCode := func(code int) {
		t.Helper()
		answer, err := g.ask("udp", "example.com", dns.TypeA, 0)
		must(t, err)
		if answer.Rcode != code {
			t.Errorf("got %s, want %s", dns.RcodeToString[answer.Rcode], dns.RcodeToString[code])
		}
	}
	expectCode(dns.RcodeRefused)
	must(t, g.slot.SetPolicy(Policy{Deny: prefixes("0.0.0.0/1")}))
	expectCode(dns.RcodeServerFailure)
}

// stuck never answers before its context ends.
type stuck struct{ asked chan struct{} }

func (s stuck) Resolve(ctx context.Context, _ netip.Addr, _ *dns.Msg) (*dns.Msg, error) {
	s.asked <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// One machine's unanswered questions do not keep others from asking.
func TestQuestionsInWorkAreBounded(t *testing.T) {
	newWorld(t)
	cfg := testConfig(t)
	resolver := stuck{make(chan struct{}, 2*dnsPerGuest)}
	cfg.Resolver = resolver
	n := openNetwork(t, cfg)
	g, other := newGuest(t, n, Policy{}), newGuest(t, n, Policy{})
	to := net.UDPAddrFromAddrPort(netipPort(g.slot.DNS, 53))
	send := func(conn net.PacketConn, name string) {
		query, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
		must(t, err)
		_, err = conn.WriteTo(query, to)
		must(t, err)
	}
	conn := g.listenUDP(g.slot.Address.Addr().String() + ":0")
	for i := range dnsPerGuest + 1 {
		send(conn, fmt.Sprintf("q%d.example.", i))
	}
	b := make([]byte, 512)
	k, _, err := conn.ReadFrom(b)
	must(t, err)
	answer := new(dns.Msg)
	must(t, answer.Unpack(b[:k]))
	if answer.Rcode != dns.RcodeServerFailure {
		t.Errorf("a question too many: got %s", dns.RcodeToString[answer.Rcode])
	}
	for range dnsPerGuest {
		<-resolver.asked
	}
	send(other.listenUDP(other.slot.Address.Addr().String()+":0"), "example.com.")
	<-resolver.asked
}

// Kept answers age, expire and do not grow without bound.
func TestAnswerCache(t *testing.T) {
	c := newAnswerCache()
	start := time.Unix(1000, 0)
	query := func(i int) *dns.Msg { return new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.example.", i), dns.TypeA) }
	reply := func(i int, ttl uint32) *dns.Msg {
		m := new(dns.Msg).SetReply(query(i))
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: net.IPv4(1, 2, 3, 4)}}
		return m
	}
	c.put(cacheKey(query(0)), reply(0, 30), start)
	got := c.get(cacheKey(query(0)), start.Add(10*time.Second))
	if got == nil || got.Answer[0].Header().Ttl != 20 {
		t.Errorf("after 10 of 30 seconds: %v", got)
	}
	if c.get(cacheKey(query(0)), start.Add(30*time.Second)) != nil {
		t.Error("an expired answer was given")
	}
	c.put(cacheKey(query(1)), reply(1, 0), start)
	if c.get(cacheKey(query(1)), start) != nil {
		t.Error("an answer that must not be kept was kept")
	}
	for i := range 3 * cacheEntries {
		c.put(cacheKey(query(i)), reply(i, 300), start)
	}
	if len(c.answers) > cacheEntries {
		t.Errorf("%d answers are kept, want at most %d", len(c.answers), cacheEntries)
	}
}

// echoResolver answers with what it was asked.
type echoResolver struct{}

func (echoResolver) Resolve(_ context.Context, _ netip.Addr, query *dns.Msg) (*dns.Msg, error) {
	if len(query.Question) != 1 {
		return nil, errors.New("not one question")
	}
	return new(dns.Msg).SetReply(query), nil
}

// Whatever bytes a machine sends, the service neither fails nor asks anything
// but one question, and its answer can be sent.
func FuzzQuestion(f *testing.F) {
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypePTR, dns.TypeAXFR} {
		query, err := new(dns.Msg).SetQuestion("8.8.8.10.in-addr.arpa.", kind).SetEdns0(1232, true).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(query)
	}
	cfg, err := Config{Range: netip.MustParsePrefix("10.201.0.0/16"), Upstream: []netip.AddrPort{}}.withDefaults()
	if err != nil {
		f.Fatal(err)
	}
	n := &Network{cfg: cfg, held: make(map[int]*heldSlot)}
	slot := slotAt(cfg, 1)
	n.held[1] = hold(slot, Policy{})
	d := &dnsServer{network: n, resolver: echoResolver{}, closed: spansOf(alwaysClosed), ctx: context.Background()}
	d.inWork.limit, d.inWork.total = 1, 1
	f.Fuzz(func(t *testing.T, b []byte) {
		query := new(dns.Msg)
		if query.Unpack(b) != nil || len(query.Question) != 1 {
			return
		}
		answer := d.answer(slot.Address.Addr(), query)
		answer.Question = query.Question
		fit(answer, query, true)
		if _, err := answer.Pack(); err != nil {
			t.Fatalf("the answer to %v cannot be sent: %v", query, err)
		}
	})
}
