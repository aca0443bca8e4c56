package test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// The world outside: a network namespace, one hop away, that holds a public
// address, a name server, and hosts at addresses that no sandbox may reach.
const (
	outsideLink = "atest-host" // our end of the wire
	outsideFar  = "atest-far"
	outsideHere = "100.64.77.1" // our address on the wire, and what NAT shows
	outsideNext = "100.64.77.2"

	publicHost = "45.45.45.45"
	nameServer = "45.45.45.53"
	publicName = "outside.example"
	udpPort    = 9999
)

// forbidden are addresses of every range that is closed, all of them served in
// the namespace and routed to it.
var forbidden = []string{
	"10.99.99.99", "172.20.20.20", "192.168.200.1", // private
	"169.254.169.254", // link-local, where clouds keep credentials
	"100.100.100.100", // shared
	"198.18.0.9",      // benchmarks
}

// outside is that world while a test runs.
type outside struct {
	mu  sync.Mutex
	udp map[string]bool // messages that arrived
}

// newOutside builds the world and takes it down when the test is over.
func newOutside(t *testing.T) *outside {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	there, err := netns.New() // moves this thread there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { there.Close() })
	if err := netns.Set(home); err != nil {
		t.Fatal(err)
	}
	wire := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: outsideLink},
		PeerName:      outsideFar,
		PeerNamespace: netlink.NsFd(int(there)),
	}
	if err := netlink.LinkAdd(wire); err != nil {
		t.Fatalf("make the wire: %v", err)
	}
	t.Cleanup(func() {
		if l, err := netlink.LinkByName(outsideLink); err == nil {
			if err := netlink.LinkDel(l); err != nil {
				t.Errorf("remove the wire: %v", err)
			}
		}
	})
	address(t, outsideLink, outsideHere+"/30")
	routes := []string{"45.45.45.0/24"}
	for _, a := range forbidden {
		routes = append(routes, a+"/32")
	}
	for _, r := range routes {
		dst := parseNet(t, r)
		if err := netlink.RouteReplace(&netlink.Route{Dst: dst, Gw: net.ParseIP(outsideNext)}); err != nil {
			t.Fatalf("route %s: %v", r, err)
		}
	}
	// A last-resort default route makes the wire a way to the internet: servers
	// take those links for it that default routes use.
	l, err := netlink.LinkByName(outsideLink)
	if err != nil {
		t.Fatal(err)
	}
	last := &netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(outsideNext), Priority: 50000}
	if err := netlink.RouteAdd(last); err != nil {
		t.Fatalf("route by default: %v", err)
	}

	w := &outside{udp: map[string]bool{}}
	if err := netns.Set(there); err != nil {
		t.Fatal(err)
	}
	defer netns.Set(home) // the thread must go home before it is given back
	address(t, outsideFar, outsideNext+"/30")
	for _, a := range append([]string{publicHost, nameServer}, forbidden...) {
		address(t, "lo", a+"/32")
	}
	w.serve(t)
	return w
}

// serve opens the sockets; they stay in the namespace that they were opened in.
func (w *outside) serve(t *testing.T) {
	web, err := net.Listen("tcp4", ":80")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(rw, "outside sees %s", from)
	})}
	go srv.Serve(web)
	t.Cleanup(func() { srv.Close() })

	messages, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", udpPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { messages.Close() })
	go func() {
		b := make([]byte, 2048)
		for {
			n, _, err := messages.ReadFrom(b)
			if err != nil {
				return
			}
			w.mu.Lock()
			w.udp[string(b[:n])] = true
			w.mu.Unlock()
		}
	}()

	questions, err := net.ListenPacket("udp4", nameServer+":53")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := net.Listen("tcp4", nameServer+":53")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []*dns.Server{{PacketConn: questions, Handler: dns.HandlerFunc(answer)}, {Listener: stream, Handler: dns.HandlerFunc(answer)}} {
		go d.ActivateAndServe()
		t.Cleanup(func() { d.Shutdown() })
	}
}

// got reports whether a datagram arrived.
func (w *outside) got(message string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.udp[message]
}

// answer knows one name.
func answer(rw dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	if len(q.Question) != 1 || q.Question[0].Name != publicName+"." {
		m.Rcode = dns.RcodeNameError
	} else if q.Question[0].Qtype == dns.TypeA {
		m.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
			A:   net.ParseIP(publicHost),
		}}
	}
	_ = rw.WriteMsg(m) // the asker asks again
}

// address gives a link of the present namespace an address and brings it up.
func address(t *testing.T, link, cidr string) {
	t.Helper()
	l, err := netlink.LinkByName(link)
	if err != nil {
		t.Fatalf("%s: %v", link, err)
	}
	if err := netlink.AddrReplace(l, &netlink.Addr{IPNet: parseNet(t, cidr)}); err != nil {
		t.Fatalf("address %s: %v", cidr, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
}

func parseNet(t *testing.T, cidr string) *net.IPNet {
	t.Helper()
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		t.Fatal(err)
	}
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// fromHost asks a host of the world outside from where the server runs: it
// proves that what a sandbox cannot reach is there to be reached.
func fromHost(t *testing.T, host string) string {
	t.Helper()
	res, err := http.Get("http://" + host + "/")
	if err != nil {
		t.Fatalf("the test's own %s cannot be reached: %v", host, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
