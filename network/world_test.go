package network

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	hostWAN    = "198.51.100.2" // the host's address on its uplink
	router     = "198.51.100.1"
	publicA    = "203.0.113.10" // "the internet", by Config.Open
	publicB    = "203.0.113.20"
	privateDNS = "10.9.9.9" // the host's resolver, in a private net
	echoPort   = "7000"
)

// outsideAddresses are all served by the router's namespace, so that what
// cannot be reached is closed and not merely absent.
var outsideAddresses = []string{publicA, publicB, privateDNS, "192.168.7.7", "172.20.1.1", "169.254.169.254", "100.64.1.1", "198.18.0.5", "192.0.0.8", "240.1.1.1"}

// space is a network namespace of a test.
type space struct {
	t     testing.TB
	home  *os.File
	file  *os.File
	links *netlink.Handle
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newSpace(t testing.TB) *space {
	t.Helper()
	home, err := os.Open("/proc/thread-self/ns/net")
	must(t, err)
	path := filepath.Join(t.TempDir(), "space")
	file, err := openNamespace(int(home.Fd()), path)
	must(t, err)
	links, err := handleIn(home, file)
	must(t, err)
	s := &space{t, home, file, links}
	lo, err := links.LinkByName("lo")
	must(t, err)
	must(t, links.LinkSetUp(lo))
	t.Cleanup(func() {
		links.Close()
		file.Close()
		home.Close()
		if err := removeNamespace(path); err != nil {
			t.Error(err)
		}
	})
	return s
}

// do runs f inside the namespace.
func (s *space) do(f func() error) error {
	return inNamespace(int(s.home.Fd()), int(s.file.Fd()), f)
}

func (s *space) dial(network, address string) (conn net.Conn, err error) {
	err = s.do(func() error {
		conn, err = net.DialTimeout(network, address, 5*time.Second)
		return err
	})
	return conn, err
}

func (s *space) listenUDP(address string) net.PacketConn {
	s.t.Helper()
	var conn net.PacketConn
	must(s.t, s.do(func() (err error) {
		conn, err = net.ListenPacket("udp4", address)
		return err
	}))
	s.t.Cleanup(func() { conn.Close() })
	must(s.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn
}

// echo serves TCP on all addresses of the namespace until the test ends.
func (s *space) echo() {
	s.t.Helper()
	var listener net.Listener
	must(s.t, s.do(func() (err error) {
		listener, err = net.Listen("tcp4", "0.0.0.0:"+echoPort)
		return err
	}))
	serveEcho(s.t, listener)
}

func serveEcho(t testing.TB, listener net.Listener) {
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				fmt.Fprintln(conn, conn.RemoteAddr())
				io.Copy(conn, conn)
			})
			t.Cleanup(func() { conn.Close() })
		}
	})
	t.Cleanup(func() { listener.Close() })
}

// newWorld gives the test's host an uplink to an internet, and undoes it.
func newWorld(t testing.TB) *space {
	t.Helper()
	must(t, writeSysctl("ipv4/ip_forward=0"))
	internet := newSpace(t)
	host, err := handleHere()
	must(t, err)
	t.Cleanup(host.Close)
	lo, err := host.LinkByName("lo")
	must(t, err)
	must(t, host.LinkSetUp(lo))
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "wan0"
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = "lan0", netlink.NsFd(internet.file.Fd())
	must(t, host.LinkAdd(veth))
	t.Cleanup(func() { must(t, deleteLink(host, "wan0")) })
	wan, err := host.LinkByName("wan0")
	must(t, err)
	lan, err := internet.links.LinkByName("lan0")
	must(t, err)
	outer, err := internet.links.LinkByName("lo")
	must(t, err)
	must(t, host.AddrAdd(wan, addr(hostWAN+"/24")))
	must(t, host.LinkSetUp(wan))
	must(t, internet.links.AddrAdd(lan, addr(router+"/24")))
	must(t, internet.links.LinkSetUp(lan))
	for _, a := range outsideAddresses {
		must(t, internet.links.AddrAdd(outer, addr(a+"/32")))
	}
	must(t, awaitCarrier(host, "wan0"))
	must(t, awaitCarrier(internet.links, "lan0"))
	must(t, host.RouteAdd(&netlink.Route{LinkIndex: wan.Attrs().Index, Gw: net.ParseIP(router)}))
	// The world outside knows a way to the machines, so that only the
	// firewall keeps it out.
	must(t, internet.links.RouteAdd(&netlink.Route{LinkIndex: lan.Attrs().Index, Gw: net.ParseIP(hostWAN), Dst: addr("10.128.0.0/9").IPNet}))
	internet.echo()
	return internet
}

func addr(text string) *netlink.Addr {
	a, err := netlink.ParseAddr(text)
	if err != nil {
		panic(err)
	}
	return a
}

// testConfig is an instance in the test's world.
func testConfig(t testing.TB) Config {
	return Config{
		Prefix: "nt", RunDir: t.TempDir(), Ahead: 2,
		Open:     []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
		Upstream: []netip.AddrPort{netip.MustParseAddrPort(privateDNS + ":53")},
		Logger:   slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// openNetwork opens an instance and removes it when the test ends.
func openNetwork(t testing.TB, cfg Config) *Network {
	t.Helper()
	t.Cleanup(func() {
		if err := Purge(cfg); err != nil {
			t.Error(err)
		}
	})
	n, err := Open(context.Background(), cfg, nil)
	must(t, err)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// guest is a machine played by a namespace that owns the slot's guest end.
type guest struct {
	*space
	slot *Slot
	n    *Network
}

func newGuest(t testing.TB, n *Network, p Policy) *guest {
	t.Helper()
	slot, err := n.Acquire(context.Background(), p)
	must(t, err)
	return startGuest(t, n, slot)
}

func startGuest(t testing.TB, n *Network, slot *Slot) *guest {
	t.Helper()
	g := &guest{newSpace(t), slot, n}
	link, err := n.tapLinks.LinkByName(slot.guestEnd())
	must(t, err)
	must(t, n.tapLinks.LinkSetNsFd(link, int(g.file.Fd())))
	link, err = g.links.LinkByName(slot.guestEnd())
	must(t, err)
	index := link.Attrs().Index
	must(t, g.links.AddrAdd(link, addr(slot.Address.String())))
	must(t, g.links.LinkSetUp(link))
	must(t, g.links.NeighSet(&netlink.Neigh{LinkIndex: index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT,
		IP: slot.Gateway.AsSlice(), HardwareAddr: slot.GatewayMAC}))
	must(t, g.links.RouteAdd(&netlink.Route{LinkIndex: index, Gw: slot.Gateway.AsSlice(), MTU: slot.UplinkMTU}))
	must(t, awaitCarrier(g.links, slot.guestEnd()))
	must(t, awaitCarrier(n.links, slot.Name))
	return g
}

// end is what the engine does when a machine ends: the guest's end of the link
// has nobody behind it, and the slot goes back.
func (g *guest) end() {
	g.t.Helper()
	link, err := g.links.LinkByName(g.slot.guestEnd())
	must(g.t, err)
	must(g.t, g.links.LinkSetNsFd(link, int(g.n.taps.Fd())))
	g.n.Release(g.slot)
}

// call connects and reads the greeting, which is the address the peer sees.
func (g *guest) call(address string) (net.Conn, string, error) {
	return greet(g.dial("tcp4", address))
}

func greet(conn net.Conn, err error) (net.Conn, string, error) {
	if err != nil {
		return nil, "", err
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	line := make([]byte, 64)
	k, err := conn.Read(line)
	host, _, _ := net.SplitHostPort(strings.TrimSpace(string(line[:k])))
	return conn, host, err
}

// say sends a word and expects it back.
func say(conn net.Conn, word string) error {
	if _, err := io.WriteString(conn, word); err != nil {
		return err
	}
	back := make([]byte, len(word))
	if _, err := io.ReadFull(conn, back); err != nil {
		return err
	}
	if string(back) != word {
		return fmt.Errorf("said %q, heard %q", word, back)
	}
	return nil
}

// upstream is the DNS server that the host uses.
func upstream(t testing.TB, internet *space, handler dns.HandlerFunc) {
	t.Helper()
	var packets net.PacketConn
	var streams net.Listener
	must(t, internet.do(func() (err error) {
		if packets, err = net.ListenPacket("udp4", privateDNS+":53"); err != nil {
			return err
		}
		streams, err = net.Listen("tcp4", privateDNS+":53")
		return err
	}))
	var work sync.WaitGroup
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: streams, Handler: handler}} {
		work.Go(func() { server.ActivateAndServe() })
	}
	t.Cleanup(func() { packets.Close(); streams.Close(); work.Wait() })
}

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// joinSpace links the test's host with a namespace.
func joinSpace(t testing.TB, host *netlink.Handle, s *space, name, hostAddr, spaceAddr string) netlink.Link {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace = "eth0", netlink.NsFd(s.file.Fd())
	must(t, host.LinkAdd(veth))
	t.Cleanup(func() {
		h, err := handleHere()
		must(t, err)
		defer h.Close()
		must(t, deleteLink(h, name))
	})
	link, err := host.LinkByName(name)
	must(t, err)
	peer, err := s.links.LinkByName("eth0")
	must(t, err)
	must(t, host.AddrAdd(link, addr(hostAddr)))
	must(t, host.LinkSetUp(link))
	must(t, s.links.AddrAdd(peer, addr(spaceAddr)))
	must(t, s.links.LinkSetUp(peer))
	must(t, awaitCarrier(host, name))
	return link
}

func route(link netlink.Link, to, via string) *netlink.Route {
	return &netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(via), Dst: addr(to).IPNet}
}

func netipPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
