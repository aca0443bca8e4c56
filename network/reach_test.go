package network

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A machine reaches the internet under the host's address, and nothing that is
// private, reserved, the host's or another machine's. What is closed says so
// at once.
func TestReach(t *testing.T) {
	newWorld(t)
	n := openNetwork(t, testConfig(t))
	g, other := newGuest(t, n, Policy{}), newGuest(t, n, Policy{})
	other.echo()
	hostListener, err := net.Listen("tcp4", "0.0.0.0:"+echoPort)
	must(t, err)
	serveEcho(t, hostListener)

	for _, public := range []string{publicA, publicB} {
		conn, seenAs, err := g.call(public + ":" + echoPort)
		must(t, err)
		if seenAs != hostWAN {
			t.Errorf("%s sees the machine as %s, want the host's address %s", public, seenAs, hostWAN)
		}
		must(t, say(conn, "hello"))
		conn.Close()
	}
	closed := map[string]string{
		"the host's outer address":     hostWAN,
		"the slot's gateway":           g.slot.Gateway.String(),
		"another slot's gateway":       other.slot.Gateway.String(),
		"the host's end of DNS":        slotAt(n.cfg, 0).Gateway.String(),
		"the DNS service, other ports": g.slot.DNS.String(),
		"another machine":              other.slot.Address.Addr().String(),
		"a network the host is on":     router,
		"10/8":                         privateDNS,
		"192.168/16":                   "192.168.7.7",
		"172.16/12":                    "172.20.1.1",
		"cloud metadata":               "169.254.169.254",
		"shared address space":         "100.64.1.1",
		"benchmark nets":               "198.18.0.5",
		"IETF assignments":             "192.0.0.8",
		"reserved":                     "240.1.1.1",
	}
	for what, address := range closed {
		if _, _, err := g.call(address + ":" + echoPort); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s (%s): got %v, want a refused connection", what, address, err)
		}
	}
	for what, address := range closed {
		conn, err := g.dial("udp4", address+":9")
		must(t, err)
		if err := pokeUDP(conn); !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("UDP to %s (%s): got %v, want it refused", what, address, err)
		}
		conn.Close()
	}
}

// pokeUDP sends until an ICMP error comes back, which the kernel sends to one
// destination only so often.
func pokeUDP(conn net.Conn) error {
	for try := 0; ; try++ {
		if _, err := conn.Write([]byte("poke")); err != nil {
			return err
		}
		must := conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		_, err := conn.Read(make([]byte, 16))
		if try == 20 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.Join(must, err)
		}
	}
}

// Programs on the host reach a machine, which is how the edge and the engine do.
func TestHostReachesGuest(t *testing.T) {
	newWorld(t)
	n := openNetwork(t, testConfig(t))
	// No policy stands between the host and the machine.
	g := newGuest(t, n, Policy{Deny: prefixes("0.0.0.0/0")})
	g.echo()
	conn, _, err := greet(net.Dial("tcp4", g.slot.Address.Addr().String()+":"+echoPort))
	must(t, err)
	defer conn.Close()
	must(t, say(conn, "hello"))
}

// Packets with another source than the machine's own do not leave its link,
// and those from outside that it did not ask for do not reach it.
func TestSpoofedAndUnasked(t *testing.T) {
	internet := newWorld(t)
	n := openNetwork(t, testConfig(t))
	g, other := newGuest(t, n, Policy{}), newGuest(t, n, Policy{})
	sink := internet.listenUDP(publicA + ":7001")

	lo, err := g.links.LinkByName("lo")
	must(t, err)
	for _, source := range []string{other.slot.Address.Addr().String(), hostWAN, "203.0.113.99", "10.9.9.8"} {
		must(t, g.links.AddrAdd(lo, addr(source+"/32")))
		spoofed := g.listenUDP(source + ":0")
		if _, err := spoofed.WriteTo([]byte("as "+source), sink.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	honest := g.listenUDP(g.slot.Address.Addr().String() + ":7002")
	_, err = honest.WriteTo([]byte("honest"), sink.LocalAddr())
	must(t, err)
	expectNext(t, sink, "honest")

	// The world outside and another machine send first, the host last.
	outside := internet.listenUDP(publicB + ":0")
	to := &net.UDPAddr{IP: g.slot.Address.Addr().AsSlice(), Port: 7002}
	_, err = outside.WriteTo([]byte("unasked"), to)
	must(t, err)
	neighbour := other.listenUDP(other.slot.Address.Addr().String() + ":0")
	_, err = neighbour.WriteTo([]byte("neighbour"), to)
	must(t, err)
	host, err := net.ListenPacket("udp4", g.slot.Gateway.String()+":0")
	must(t, err)
	defer host.Close()
	_, err = host.WriteTo([]byte("host"), to)
	must(t, err)
	expectNext(t, honest, "host")
}

func expectNext(t *testing.T, conn net.PacketConn, want string) {
	t.Helper()
	b := make([]byte, 2048)
	k, from, err := conn.ReadFrom(b)
	must(t, err)
	if string(b[:k]) != want {
		t.Fatalf("got %q from %s, want %q", b[:k], from, want)
	}
}

// Where forwarding is on only for the machines, the host does not become a
// router for its neighbours.
func TestHostIsNoRouter(t *testing.T) {
	internet := newWorld(t)
	inner := newSpace(t)
	host, err := handleHere()
	must(t, err)
	defer host.Close()
	link := joinSpace(t, host, inner, "office0", "192.168.50.1/24", "192.168.50.2/24")
	_ = link
	lan, err := internet.links.LinkByName("lan0")
	must(t, err)
	must(t, internet.links.RouteAdd(route(lan, "192.168.50.0/24", hostWAN)))
	openNetwork(t, testConfig(t))

	sink := inner.listenUDP("192.168.50.2:7001")
	intruder := internet.listenUDP(router + ":0")
	_, err = intruder.WriteTo([]byte("intruder"), sink.LocalAddr())
	must(t, err)
	own, err := net.ListenPacket("udp4", "192.168.50.1:0")
	must(t, err)
	defer own.Close()
	_, err = own.WriteTo([]byte("host"), sink.LocalAddr())
	must(t, err)
	expectNext(t, sink, "host")
	if got := readSysctl("ipv4/conf/office0/forwarding"); got != "0" {
		t.Errorf("forwarding on an interface that is no uplink is %q, want it left off", got)
	}
}
