package gvisor

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// wire makes a pair of virtual interfaces: the host's end with an address, and
// a packet socket on the other, for a guest, with or without offload headers.
func wire(t *testing.T, name string, subnet byte, headers int) *Link {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name + "h", MTU: 1500}, PeerName: name + "g"}
	check(netlink.LinkAdd(pair))
	t.Cleanup(func() { check(netlink.LinkDel(pair)) })
	host, err := netlink.LinkByName(name + "h")
	check(err)
	guest, err := netlink.LinkByName(name + "g")
	check(err)
	address, err := netlink.ParseAddr(fmt.Sprintf("10.231.%d.1/30", subnet))
	check(err)
	check(netlink.AddrAdd(host, address))
	check(netlink.LinkSetUp(host))
	check(netlink.LinkSetUp(guest))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	check(err)
	check(unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, headers))
	check(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: guest.Attrs().Index})) // ETH_P_ALL
	tap := os.NewFile(uintptr(fd), "tap")
	t.Cleanup(func() { tap.Close() })
	return &Link{
		Tap: tap, Name: "eth0", MAC: guest.Attrs().HardwareAddr, MTU: 1500,
		Address: netip.MustParsePrefix(fmt.Sprintf("10.231.%d.2/30", subnet)),
		Gateway: netip.MustParseAddr(fmt.Sprintf("10.231.%d.1", subnet)),
	}
}

// get asks the guest behind a link until it answers.
func get(t *testing.T, l *Link) {
	t.Helper()
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	url := "http://" + net.JoinHostPort(l.Address.Addr().String(), "80") + "/big"
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		var resp *http.Response
		if resp, err = client.Get(url); err == nil {
			n, err := io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err == nil && n == 8<<20 {
				return
			}
		}
	}
	t.Fatal(err)
}

// TestNetworkOfBootedAndRestored moves enough to need segmentation.
func TestNetworkOfBootedAndRestored(t *testing.T) {
	h := newHarness(t)
	prefix := fmt.Sprintf("atg%d", os.Getpid()%100000)
	first, second := wire(t, prefix+"a", byte(os.Getpid())|1, 0), wire(t, prefix+"b", byte(os.Getpid())&^1, 1)
	s := h.spec("a", "serve")
	s.Link = first
	h.must(h.Boot(t.Context(), s))
	get(t, first)
	h.must(h.Pause(t.Context(), "a"))
	image := filepath.Join(h.dir, "image")
	h.checkpoint(t.Context(), "a", image)
	h.must(h.Resume(t.Context(), "a"))
	get(t, first)
	c := h.spec("b", "serve")
	c.Link = second // another address than in the checkpoint
	h.must(h.Restore(t.Context(), c, image))
	get(t, second)
	get(t, first)
}
