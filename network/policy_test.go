package network

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// What a policy closes is refused, what it allows wins over that, and no
// policy opens what is closed to all.
func TestPolicy(t *testing.T) {
	newWorld(t)
	n := openNetwork(t, testConfig(t))
	g := newGuest(t, n, Policy{})
	cases := map[string]struct {
		policy       Policy
		openA, openB bool
	}{
		"empty":                 {Policy{}, true, true},
		"deny one":              {Policy{Deny: prefixes(publicA + "/32")}, false, true},
		"deny its network":      {Policy{Deny: prefixes("203.0.113.0/28")}, false, true},
		"no internet":           {Policy{Deny: prefixes("0.0.0.0/0")}, false, false},
		"no internet but one":   {Policy{Deny: prefixes("0.0.0.0/0"), Allow: prefixes(publicB + "/32")}, false, true},
		"allow inside deny":     {Policy{Deny: prefixes("203.0.113.0/24"), Allow: prefixes(publicA + "/31")}, true, false},
		"overlapping":           {Policy{Deny: prefixes("203.0.113.0/24", "203.0.113.0/25", "203.0.113.10/32")}, false, false},
		"deny another protocol": {Policy{Deny: prefixes("::/0")}, true, true},
		"allow what is closed":  {Policy{Allow: prefixes("10.0.0.0/8", "0.0.0.0/0")}, true, true},
	}
	// Begin is the same for a machine that has not run.
	set := []func(Policy) error{g.slot.SetPolicy, g.slot.Begin}
	for name, c := range cases {
		must(t, set[0](c.policy))
		set[0], set[1] = set[1], set[0]
		for address, open := range map[string]bool{publicA: c.openA, publicB: c.openB, privateDNS: false, router: false, hostWAN: false} {
			conn, _, err := g.call(address + ":" + echoPort)
			if open && err != nil || !open && !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("%s: %s: got %v, want open %v", name, address, err, open)
			}
			if err == nil {
				conn.Close()
			}
		}
	}
	if err := g.slot.SetPolicy(Policy{Deny: make([]netip.Prefix, 1)}); err == nil {
		t.Error("an invalid prefix was taken")
	}
	if err := g.slot.SetPolicy(Policy{Deny: make([]netip.Prefix, maxPolicyPrefixes+1)}); err == nil {
		t.Error("too many prefixes were taken")
	}
}

// A changed policy holds at once for connections that are open, in both
// directions, and for that machine alone.
func TestPolicyChangeHoldsForOpenConnections(t *testing.T) {
	internet := newWorld(t)
	n := openNetwork(t, testConfig(t))
	g, other := newGuest(t, n, Policy{}), newGuest(t, n, Policy{})
	conn, _, err := g.call(publicA + ":" + echoPort)
	must(t, err)
	defer conn.Close()
	unchanged, _, err := other.call(publicA + ":" + echoPort)
	must(t, err)
	defer unchanged.Close()
	must(t, say(conn, "before"))

	server := internet.listenUDP(publicA + ":7001")
	asking := g.listenUDP(g.slot.Address.Addr().String() + ":7002")
	_, err = asking.WriteTo([]byte("subscribe"), server.LocalAddr())
	must(t, err)
	b := make([]byte, 64)
	_, from, err := server.ReadFrom(b)
	must(t, err)

	must(t, g.slot.SetPolicy(Policy{Deny: prefixes(publicA + "/32")}))
	if err := say(conn, "after"); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("an open connection to a denied address: got %v, want a reset", err)
	}
	must(t, say(unchanged, "other"))
	_, err = server.WriteTo([]byte("while denied"), from)
	must(t, err)
	must(t, g.slot.SetPolicy(Policy{}))
	// That was the end of it: the machine has to ask again.
	_, err = asking.WriteTo([]byte("subscribe"), server.LocalAddr())
	must(t, err)
	_, from, err = server.ReadFrom(b)
	must(t, err)
	_, err = server.WriteTo([]byte("allowed again"), from)
	must(t, err)
	expectNext(t, asking, "allowed again")
}

// A machine can hold only so many connections open, and others do not feel it.
func TestFlowLimit(t *testing.T) {
	newWorld(t)
	cfg := testConfig(t)
	cfg.MaxFlows = 20
	n := openNetwork(t, cfg)
	g, other := newGuest(t, n, Policy{}), newGuest(t, n, Policy{})
	open := 0
	for range 30 {
		conn, _, err := g.call(publicA + ":" + echoPort)
		if errors.Is(err, unix.ECONNREFUSED) {
			break
		}
		must(t, err)
		defer conn.Close()
		open++
	}
	if open != 20 {
		t.Errorf("a machine opened %d connections, want 20", open)
	}
	conn, _, err := other.call(publicA + ":" + echoPort)
	must(t, err)
	conn.Close()
}

// Subtraction of address lists agrees with looking at each address.
func TestSpans(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	list := func() (all []netip.Prefix) {
		for range random.IntN(6) {
			p, _ := numberAddr(random.Uint32N(1<<10) << 22).Prefix(1 + random.IntN(10))
			all = append(all, p)
		}
		return all
	}
	for range 2000 {
		deny, allow := list(), list()
		got := subtractSpans(spansOf(deny), spansOf(allow))
		for i := 1; i < len(got); i++ {
			if got[i].first <= got[i-1].last {
				t.Fatalf("%v minus %v: spans overlap: %v", deny, allow, got)
			}
		}
		for range 50 {
			a := numberAddr(random.Uint32())
			if want := contains(deny, a) && !contains(allow, a); inSpans(got, a) != want {
				t.Fatalf("%v minus %v: %s is in: %v, want %v", deny, allow, a, !want, want)
			}
		}
	}
	if got := spansOf(prefixes("0.0.0.0/1", "128.0.0.0/1")); len(got) != 1 || got[0] != everything {
		t.Errorf("two halves make %v", got)
	}
	if got := subtractSpans([]span{everything}, spansOf(prefixes("255.255.255.255/32", "0.0.0.0/32"))); len(got) != 1 || got[0] != (span{1, everything.last - 1}) {
		t.Errorf("all but the ends is %v", got)
	}
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
