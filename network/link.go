package network

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// carrierTimeout is far more than the kernel takes to start a link.
const carrierTimeout = 5 * time.Second

// pair is a veth pair between the host and a namespace.
type pair struct {
	host, inner       string
	hostMAC, innerMAC net.HardwareAddr
	hostAddr          *net.IPNet
	innerIP           net.IP
	mtu               int
}

// makePair makes the links, or completes what an interrupted process began.
// The inner end is left down.
func makePair(host *netlink.Handle, space *os.File, p pair) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = p.host, p.mtu, p.hostMAC
	attrs.NumTxQueues, attrs.NumRxQueues = 1, 1
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerMTU = p.inner, p.innerMAC, uint32(p.mtu)
	veth.PeerNamespace = netlink.NsFd(space.Fd())
	if err := host.LinkAdd(veth); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("making link %s: %w", p.host, err)
	}
	link, err := host.LinkByName(p.host)
	if err != nil {
		return fmt.Errorf("finding link %s: %w", p.host, err)
	}
	for _, setting := range []string{
		"ipv6/conf/" + p.host + "/disable_ipv6=1",
		"ipv4/conf/" + p.host + "/forwarding=1",
		"ipv4/conf/" + p.host + "/accept_redirects=0",
		"ipv4/conf/" + p.host + "/send_redirects=0",
	} {
		if err := writeSysctl(setting); err != nil {
			return err
		}
	}
	// Without ARP a guest cannot fill the host's neighbour table, and the
	// first packet needs no round trip.
	if err := host.LinkSetARPOff(link); err != nil {
		return fmt.Errorf("turning ARP off on %s: %w", p.host, err)
	}
	if err := host.AddrReplace(link, &netlink.Addr{IPNet: p.hostAddr}); err != nil {
		return fmt.Errorf("giving %s its address: %w", p.host, err)
	}
	if err := host.LinkSetUp(link); err != nil {
		return fmt.Errorf("bringing %s up: %w", p.host, err)
	}
	err = host.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, Family: unix.AF_INET,
		State: netlink.NUD_PERMANENT, IP: p.innerIP, HardwareAddr: p.innerMAC})
	if err != nil {
		return fmt.Errorf("fixing the neighbour of %s: %w", p.host, err)
	}
	return nil
}

// awaitCarrier waits until a link whose both ends are up passes packets; the
// kernel gets there a moment later, and drops what is sent before.
func awaitCarrier(h *netlink.Handle, name string) error {
	for deadline := time.Now().Add(carrierTimeout); ; time.Sleep(time.Millisecond) {
		link, err := h.LinkByName(name)
		if err != nil {
			return fmt.Errorf("finding link %s: %w", name, err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("link %s stays %s although both ends are up", name, link.Attrs().OperState)
		}
	}
}

// deleteLink removes a link of the host; it is no error if there is none.
func deleteLink(host *netlink.Handle, name string) error {
	link, err := host.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finding link %s: %w", name, err)
	}
	if err := host.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing link %s: %w", name, err)
	}
	return nil
}

// whole reads one of the kernel's tables until it did not change meanwhile:
// what is read during a change is only a part of it.
func whole[T any](read func() (T, error)) (T, error) {
	for try := 0; ; try++ {
		table, err := read()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || try == 4 {
			return table, err
		}
	}
}

// linkIndexes finds the numbers of the links that are named prefix and a number.
func linkIndexes(h *netlink.Handle, prefix string) (map[int]netlink.Link, error) {
	links, err := whole(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	found := make(map[int]netlink.Link)
	for _, link := range links {
		rest, ok := strings.CutPrefix(link.Attrs().Name, prefix)
		if !ok {
			continue
		}
		if n, err := strconv.Atoi(rest); err == nil && n >= 0 && strconv.Itoa(n) == rest {
			found[n] = link
		}
	}
	return found, nil
}

// ipNet is a prefix in the form that netlink wants.
func ipNet(s *Slot) *net.IPNet {
	return &net.IPNet{IP: s.Gateway.AsSlice(), Mask: net.CIDRMask(s.Address.Bits(), 32)}
}
