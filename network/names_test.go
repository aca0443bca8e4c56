package network

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func allow(domains ...string) []NameRule { return rulesOf(AllowName, domains) }
func deny(domains ...string) []NameRule  { return rulesOf(DenyName, domains) }

func rulesOf(action NameAction, domains []string) (rules []NameRule) {
	for _, domain := range domains {
		rules = append(rules, NameRule{domain, action})
	}
	return rules
}

func both(a, b []NameRule) []NameRule { return append(a[:len(a):len(a)], b...) }

// Of the rules that match, the most specific decides, whatever their order.
func TestNameRules(t *testing.T) {
	cases := map[string]struct {
		rules           []NameRule
		allowed, denied string // names, with spaces between
	}{
		"one name":              {allow("example.com"), "example.com", "www.example.com com example.org notexample.com example.com.evil.org"},
		"below a name":          {allow("*.example.com"), "www.example.com a.b.example.com _dmarc.example.com", "example.com notexample.com com"},
		"a name and below":      {allow("example.com", "*.example.com"), "example.com a.example.com", "example.net"},
		"all":                   {allow("*"), "example.com com localhost.localdomain", ""},
		"nothing":               {deny("*"), "", "example.com com"},
		"all but one":           {both(allow("*"), deny("bad.com")), "example.com www.bad.com", "bad.com"},
		"all but below":         {both(allow("*"), deny("*.bad.com")), "bad.com", "www.bad.com a.b.bad.com"},
		"exact over below":      {both(deny("*.example.com"), allow("www.example.com")), "www.example.com", "a.example.com b.www.example.com"},
		"longer over shorter":   {both(allow("*.example.com"), deny("*.in.example.com")), "a.example.com in.example.com", "a.in.example.com"},
		"and below that":        {both(both(allow("*"), deny("*.com")), allow("*.a.com")), "b.a.com x.org", "a.com b.com"},
		"only denying":          {deny("bad.com"), "", "bad.com example.com"},
		"denying wins":          {both(allow("a.com", "*.b.com", "*"), deny("a.com", "*.b.com", "*")), "", "a.com x.b.com c.com"},
		"denying first as well": {both(deny("a.com"), allow("a.com")), "", "a.com"},
		"in one form":           {allow("EXAMPLE.com.", "*.BÜCHER.example"), "example.com a.xn--bcher-kva.example", "bücher.example"},
		"underscores":           {allow("_a.example.com"), "_a.example.com", "a.example.com"},
	}
	for what, c := range cases {
		for _, order := range []string{"as written", "reversed"} {
			rules := append([]NameRule(nil), c.rules...)
			if order == "reversed" {
				for i, rule := range c.rules {
					rules[len(rules)-1-i] = rule
				}
			}
			if err := (Policy{Names: rules}).Validate(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			compiled := compileNames(rules)
			for _, name := range strings.Fields(c.allowed) {
				if !compiled.allows(name) {
					t.Errorf("%s, %s: %s is denied", what, order, name)
				}
			}
			for _, name := range strings.Fields(c.denied) {
				if compiled.allows(name) {
					t.Errorf("%s, %s: %s is allowed", what, order, name)
				}
			}
		}
	}
	if !compileNames(nil).allows("example.com") {
		t.Error("without rules a name is denied")
	}
}

// Rules that mean nothing are refused with the reason.
func TestNameRulesRefused(t *testing.T) {
	for _, domain := range []string{"", ".", "*.", "**", "*.*", "a.*.com", "*a.com", "a b.com", "a..com", ".com", "http://a.com", "a.com/x", "a.com:443",
		"192.0.2.1", "*.2.1", "::1", "a\\.com", "a\x00.com", strings.Repeat("a", 64) + ".com", strings.Repeat("a.", 127) + "com", strings.Repeat("ü", 5000)} {
		if err := (Policy{Names: allow(domain)}).Validate(); err == nil {
			t.Errorf("the domain %q was taken", domain)
		}
	}
	if err := (Policy{Names: []NameRule{{"a.com", "permit"}}}).Validate(); err == nil || !strings.Contains(err.Error(), "permit") {
		t.Errorf("an unknown action: got %v", err)
	}
	if err := (Policy{Names: make([]NameRule, maxNameRules+1)}).Validate(); err == nil {
		t.Error("too many rules were taken")
	}
}

// The bundle is valid, without doubles, and gives way to the caller's own rules.
func TestDefaults(t *testing.T) {
	rules := Defaults()
	if err := (Policy{Names: rules}).Validate(); err != nil {
		t.Error(err)
	}
	seen := make(map[string]bool)
	for _, rule := range rules {
		form, _ := ParseDomain(rule.Domain)
		if rule.Action != AllowName || form != rule.Domain || form == "*" || seen[form] {
			t.Errorf("the rule %+v is not in its one form, or there twice", rule)
		}
		seen[form] = true
	}
	compiled := compileNames(rules)
	for _, name := range strings.Fields("github.com api.github.com raw.githubusercontent.com registry.npmjs.org pypi.org files.pythonhosted.org registry-1.docker.io deb.debian.org archive.ubuntu.com proxy.golang.org static.crates.io api.anthropic.com api.openai.com") {
		if !compiled.allows(name) {
			t.Errorf("%s is not in the bundle", name)
		}
	}
	mixed := compileNames(WithDefaults(append(deny("GitHub.com"), allow("example.com")...)))
	if mixed.allows("github.com") || !mixed.allows("api.github.com") || !mixed.allows("example.com") || mixed.allows("example.org") {
		t.Error("the caller's own rules do not win over the bundle's")
	}
}

// What is remembered of answers is bounded, and what was just given stays.
func TestSeenAddresses(t *testing.T) {
	now := time.Unix(1000, 0)
	seen := make(seenAddresses)
	address := func(i int) netip.Addr { return numberAddr(0x08000000 + uint32(i)) }
	for i := range maxOpened {
		opened, gone := seen.see(fmt.Sprintf("n%d.example", i), []netip.Addr{address(i)}, time.Duration(i+100)*time.Second, now)
		if len(opened) != 1 || len(gone) != 0 || !opened[0].until.Equal(now.Add(time.Duration(i+100)*time.Second+openGrace)) {
			t.Fatalf("address %d: opened %v, gone %v", i, opened, gone)
		}
	}
	opened, gone := seen.see("short.example", []netip.Addr{address(maxOpened)}, 0, now)
	if len(opened) != 1 || len(gone) != 1 || gone[0] != address(0) || len(seen) != maxOpened {
		t.Errorf("one too many: opened %v, gone %v, %d remembered", opened, gone, len(seen))
	}
	// Asked again while there is time left, nothing changes in the firewall.
	if opened, _ := seen.see("n5.example", []netip.Addr{address(5)}, 105*time.Second, now.Add(9*time.Minute)); len(opened) != 0 {
		t.Errorf("asked again: opened %v", opened)
	}
	if opened, _ := seen.see("n5.example", []netip.Addr{address(5)}, 105*time.Second, now.Add(10*time.Minute)); len(opened) != 1 {
		t.Errorf("asked again when the time is nearly over: opened %v", opened)
	}
	for i := range 3 * maxSharing {
		seen.see(fmt.Sprintf("s%d.example", i), []netip.Addr{address(7)}, 0, now)
	}
	if names := seen[address(7)].names; len(names) != maxSharing || names[maxSharing-1] != fmt.Sprintf("s%d.example", 3*maxSharing-1) {
		t.Errorf("of an address with many names these are remembered: %v", names)
	}
	kept := seen.judge(compileNames(allow("s20.example", "n9.example")), now)
	if len(kept) != 2 || len(seen) != 2 {
		t.Errorf("two names are allowed, and open are %v of %d", kept, len(seen))
	}
}

func FuzzDomain(f *testing.F) {
	for _, text := range []string{"*", "*.example.com", "example.com.", "BÜCHER.example", "xn--a", "\xd70", "a\\.b", "1.2.3.4", "*.", "a..b"} {
		f.Add(text, "www.example.com.")
	}
	f.Fuzz(func(t *testing.T, text, question string) {
		domain, err := ParseDomain(text)
		if err != nil {
			return
		}
		if again, err := ParseDomain(domain); err != nil || again != domain {
			t.Fatalf("%q is %q, and that is %q (%v)", text, domain, again, err)
		}
		if err := validateNames(allow(text)); err != nil {
			t.Fatal(err)
		}
		name, plain := plainName(question)
		if !plain {
			return
		}
		above, wild := strings.CutPrefix(domain, "*.")
		want := domain == "*" || wild && strings.HasSuffix(name, "."+above) || !wild && name == domain
		if got := compileNames(allow(text)).allows(name); got != want {
			t.Fatalf("%q is allowed by %q: %v", name, domain, got)
		}
		if got := compileNames(both(allow("*"), deny(text))).allows(name); got == want {
			t.Fatalf("%q is denied by %q: %v", name, domain, !got)
		}
	})
}

// Whatever an upstream answers, what is opened and told is bounded.
func FuzzAnswer(f *testing.F) {
	answer := new(dns.Msg).SetQuestion("example.com.", dns.TypeA)
	header := dns.RR_Header{Name: "example.com.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1<<32 - 1}
	for range 3 {
		answer.Answer = append(answer.Answer, &dns.A{Hdr: header, A: net.IPv4(203, 0, 113, 10)})
	}
	answer.Extra = answer.Answer[:1]
	packed, err := answer.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Fuzz(func(t *testing.T, b []byte) {
		answer := new(dns.Msg)
		if answer.Unpack(b) != nil {
			return
		}
		boundAnswer(answer)
		addrs, ttl := answeredAddresses(answer)
		if len(addrs) > maxAnswered || ttl < 0 || ttl > longestTTL {
			t.Fatalf("%d addresses for %s", len(addrs), ttl)
		}
		given := make(map[netip.Addr]bool)
		for _, addr := range addrs {
			given[addr] = addr.Is4()
		}
		for _, record := range answer.Answer {
			if a, ok := record.(*dns.A); ok && a.A.To4() != nil && !given[netip.AddrFrom4([4]byte(a.A.To4()))] {
				t.Fatalf("%v is told and not opened", a)
			}
			if record.Header().Ttl > uint32(longestTTL/time.Second) {
				t.Fatalf("%v is told for longer than an address is open", record)
			}
		}
		seen, now := make(seenAddresses), time.Unix(1000, 0)
		opened, gone := seen.see("example.com", addrs, ttl, now)
		if len(opened) != len(given) || len(gone) != 0 {
			t.Fatalf("of %d addresses %d were opened and %d closed", len(given), len(opened), len(gone))
		}
		for _, o := range opened {
			if o.until.Before(now.Add(ttl)) || len(openedElements(numberAddr(1), []openedAddress{o}, now)) != 1 {
				t.Fatalf("%v is open until %s", o.addr, o.until)
			}
		}
	})
}
