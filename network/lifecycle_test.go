package network

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// eventually waits for a condition that another goroutine or the kernel brings about.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (n *Network) freeSlots() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.free)
}

// A slot that is used again carries nothing over: neither policy nor tracked
// connections, and what a program on the host still sends to the machine that
// was is not delivered to the one that is.
func TestRecycledSlotIsClean(t *testing.T) {
	newWorld(t)
	cfg := testConfig(t)
	cfg.Ahead = 1
	n := openNetwork(t, cfg)
	eventually(t, "a slot is ready", func() bool { return n.freeSlots() == 1 })
	first := newGuest(t, n, Policy{Deny: prefixes(publicB + "/32")})
	first.echo()
	out, _, err := first.call(publicA + ":" + echoPort)
	must(t, err)
	defer out.Close()
	stale, _, err := greet(net.Dial("tcp4", first.slot.Address.Addr().String()+":"+echoPort))
	must(t, err)
	defer stale.Close()
	index := first.slot.Index
	first.end()

	var second *Slot
	eventually(t, "the slot comes round again", func() bool {
		slot, err := n.Acquire(context.Background(), Policy{})
		must(t, err)
		second = slot
		return slot.Index == index
	})
	if err := first.slot.SetPolicy(Policy{}); err == nil {
		t.Error("the former holder changed the policy of a slot given back")
	}
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	must(t, err)
	for _, flow := range flows {
		if (guestFlows{second.Address.Addr(): true}).MatchConntrackFlow(flow) {
			t.Errorf("a connection of the former machine is still tracked: %v", flow)
		}
	}
	g := startGuest(t, n, second)
	sniffed := g.sniff()
	if _, err := io.WriteString(stale, "a secret of the former machine"); err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(stale); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("a connection to a machine that is gone: got %v, want a reset", err)
	}
	conn, _, err := g.call(publicB + ":" + echoPort)
	must(t, err)
	must(t, say(conn, "marker"))
	conn.Close()
	if got := sniffed("marker"); bytes.Contains(got, []byte("a secret")) {
		t.Error("the new machine received what was meant for the former")
	}
}

// sniff records all frames at the guest's end; the result returns them once
// one contains the marker.
func (g *guest) sniff() func(marker string) []byte {
	g.t.Helper()
	var fd int
	must(g.t, g.do(func() (err error) {
		link, err := net.InterfaceByName(g.slot.guestEnd())
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8, Ifindex: link.Index})
	}))
	g.t.Cleanup(func() { unix.Close(fd) })
	must(g.t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	return func(marker string) (all []byte) {
		for frame := make([]byte, 1<<16); !bytes.Contains(all, []byte(marker)); {
			k, err := unix.Read(fd, frame)
			must(g.t, err)
			all = append(all, frame[:k]...)
		}
		return all
	}
}

// A process that takes over keeps the traffic of running machines flowing,
// with their policies, and cleans the slots of those that are not.
func TestReopen(t *testing.T) {
	newWorld(t)
	cfg := testConfig(t)
	n, err := Open(context.Background(), cfg, nil)
	must(t, err)
	t.Cleanup(func() { must(t, Purge(cfg)) })
	policy := Policy{Deny: prefixes(publicB + "/32")}
	running, ended := newGuest(t, n, policy), newGuest(t, n, policy)
	running.echo()
	out, _, err := running.call(publicA + ":" + echoPort)
	must(t, err)
	defer out.Close()
	in, _, err := greet(net.Dial("tcp4", running.slot.Address.Addr().String()+":"+echoPort))
	must(t, err)
	defer in.Close()
	link, err := ended.links.LinkByName(ended.slot.guestEnd())
	must(t, err)
	must(t, ended.links.LinkSetNsFd(link, int(n.taps.Fd())))
	must(t, n.Close())
	must(t, say(out, "while nobody serves"))
	must(t, say(in, "while nobody serves"))

	// Traffic flows all the while that the firewall is replaced.
	stop, flowed := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				flowed <- nil
				return
			default:
				if err := errors.Join(say(out, "x"), say(in, "y")); err != nil {
					flowed <- err
					return
				}
			}
		}
	}()
	for range 5 {
		n, err = Open(context.Background(), cfg, map[int]Policy{running.slot.Index: policy})
		must(t, err)
		must(t, n.Close())
	}
	n, err = Open(context.Background(), cfg, map[int]Policy{running.slot.Index: policy, 77: {}})
	must(t, err)
	defer n.Close()
	close(stop)
	must(t, <-flowed)

	slot, err := n.Attach(running.slot.Index)
	must(t, err)
	if slot.Address != running.slot.Address || slot.MAC.String() != running.slot.MAC.String() {
		t.Errorf("attached slot is %+v, was %+v", slot, running.slot)
	}
	if _, err := n.Attach(77); err == nil {
		t.Error("a slot that does not exist was attached")
	}
	if _, _, err := running.call(publicB + ":" + echoPort); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("the policy does not hold after taking over: %v", err)
	}
	must(t, slot.SetPolicy(Policy{}))
	conn, _, err := running.call(publicB + ":" + echoPort)
	must(t, err)
	conn.Close()
	eventually(t, "the slot of the ended machine is ready again", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return slices.ContainsFunc(n.free, func(s *Slot) bool { return s.Index == ended.slot.Index })
	})
}

// The packet socket carries whole frames behind a virtio-net header, both ways.
func TestTap(t *testing.T) {
	newWorld(t)
	n := openNetwork(t, testConfig(t))
	slot, err := n.Acquire(context.Background(), Policy{})
	must(t, err)
	tap, err := slot.OpenTap()
	must(t, err)
	defer tap.Close()
	fd := int(tap.Fd())
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	host, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netipPort(slot.Address.Addr(), 9)))
	must(t, err)
	defer host.Close()
	_, err = host.Write([]byte("to the guest"))
	must(t, err)
	frame := make([]byte, 1<<16)
	k, err := unix.Read(fd, frame)
	must(t, err)
	const header = 10
	eth := frame[header:k]
	if !bytes.Equal(eth[:6], slot.MAC) || !bytes.Equal(eth[6:12], slot.GatewayMAC) || !bytes.HasSuffix(eth, []byte("to the guest")) {
		t.Fatalf("unexpected frame % x", eth)
	}
	// The answer is the frame with its ends exchanged; UDP needs no checksum.
	answer := make([]byte, header, k)
	answer = append(answer, slot.GatewayMAC...)
	answer = append(answer, slot.MAC...)
	answer = append(answer, eth[12:]...)
	ip := answer[header+14:]
	copy(ip[12:16], slot.Address.Addr().AsSlice())
	copy(ip[16:20], slot.Gateway.AsSlice())
	source, destination := binary.BigEndian.Uint16(ip[20:]), binary.BigEndian.Uint16(ip[22:])
	binary.BigEndian.PutUint16(ip[20:], destination)
	binary.BigEndian.PutUint16(ip[22:], source)
	binary.BigEndian.PutUint16(ip[26:], 0)
	_, err = unix.Write(fd, answer)
	must(t, err)
	must(t, host.SetReadDeadline(time.Now().Add(10*time.Second)))
	got := make([]byte, 64)
	k, err = host.Read(got)
	must(t, err)
	if string(got[:k]) != "to the guest" {
		t.Errorf("the host heard %q", got[:k])
	}
}

// kernelObjects lists what instances could leave behind.
func kernelObjects(t *testing.T) string {
	t.Helper()
	h, err := handleHere()
	must(t, err)
	defer h.Close()
	links, err := h.LinkList()
	must(t, err)
	var all []string
	for _, link := range links {
		all = append(all, "link "+link.Attrs().Name)
	}
	conn, err := nftables.New()
	must(t, err)
	tables, err := conn.ListTables()
	must(t, err)
	for _, table := range tables {
		all = append(all, "table "+table.Name)
	}
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	must(t, err)
	all = append(all, fmt.Sprint("mounts ", strings.Count(string(mounts), "nsfs")))
	for _, name := range []string{"ipv4/ip_forward", "ipv4/conf/wan0/forwarding"} {
		all = append(all, name+" "+readSysctl(name))
	}
	return strings.Join(all, "\n")
}

// After Purge the kernel is as it was before Open, and while the network is
// open nothing listens on the host.
func TestPurgeLeavesNothing(t *testing.T) {
	newWorld(t)
	before := kernelObjects(t)
	cfg := testConfig(t)
	n, err := Open(context.Background(), cfg, nil)
	must(t, err)
	eventually(t, "slots are ready", func() bool { return n.freeSlots() == cfg.Ahead })
	_, err = n.Acquire(context.Background(), Policy{Deny: prefixes("0.0.0.0/0")})
	must(t, err)
	for _, protocol := range []string{"tcp", "tcp6", "udp", "udp6", "raw", "packet"} {
		sockets, err := os.ReadFile("/proc/thread-self/net/" + protocol)
		must(t, err)
		for line := range strings.Lines(string(sockets)) {
			fields := strings.Fields(line)
			closing := strings.HasPrefix(protocol, "tcp") && fields[3] == "06" // TIME_WAIT, of an earlier test
			if fields[0] != "sl" && fields[0] != "sk" && !closing {
				t.Errorf("something listens on the host by %s: %s", protocol, line)
			}
		}
	}
	must(t, n.Purge())
	if after := kernelObjects(t); after != before {
		t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
	}
	entries, err := os.ReadDir(cfg.RunDir)
	must(t, err)
	if len(entries) != 0 {
		t.Errorf("left in the run directory: %v", entries)
	}
}

// The range gives way to the host's own routes and is kept from then on.
func TestRange(t *testing.T) {
	newWorld(t)
	host, err := handleHere()
	must(t, err)
	defer host.Close()
	office := newSpace(t)
	link := joinSpace(t, host, office, "office0", "10.201.3.1/24", "10.201.3.2/24")
	cfg := testConfig(t)
	n := openNetwork(t, cfg)
	if got := n.Range().String(); got != "10.202.0.0/16" {
		t.Errorf("range is %s, want the first that is free", got)
	}
	must(t, n.Close())
	must(t, host.LinkDel(link))
	n, err = Open(context.Background(), cfg, nil)
	must(t, err)
	if got := n.Range().String(); got != "10.202.0.0/16" {
		t.Errorf("range is %s after taking over, want the one chosen before", got)
	}
	must(t, n.Close())
	cfg.Range = prefixes("198.51.100.0/28")[0]
	if _, err := Open(context.Background(), cfg, nil); err == nil {
		t.Error("a range that the host has a route into was taken")
	}
	cfg.Range = prefixes("10.210.0.0/28")[0]
	n, err = Open(context.Background(), cfg, nil)
	must(t, err)
	defer n.Close()
	for range 3 {
		slot, err := n.Acquire(context.Background(), Policy{})
		must(t, err)
		if !cfg.Range.Contains(slot.Address.Addr()) {
			t.Errorf("slot %d has address %s", slot.Index, slot.Address)
		}
	}
	if _, err := n.Acquire(context.Background(), Policy{}); err == nil {
		t.Error("a slot beyond the range was given")
	}
}

// The firewall and forwarding follow the host's routes.
func TestFollowsRoutes(t *testing.T) {
	newWorld(t)
	n := openNetwork(t, testConfig(t))
	g := newGuest(t, n, Policy{})
	conn, _, err := g.call(publicA + ":" + echoPort)
	must(t, err)
	conn.Close()
	host, err := handleHere()
	must(t, err)
	defer host.Close()
	office := newSpace(t)
	joinSpace(t, host, office, "office0", "203.0.114.1/24", "203.0.114.2/24")
	office.echo()
	eventually(t, "a network the host joined is closed", func() bool {
		conn, _, err := g.call("203.0.114.2:" + echoPort)
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, unix.ECONNREFUSED)
	})
}

// This machine has what the package needs, or its tests could not run.
func TestCheck(t *testing.T) {
	newWorld(t)
	for _, problem := range Check(testConfig(t)) {
		t.Errorf("%+v", problem)
	}
	before := kernelObjects(t)
	conn, err := nftables.New()
	must(t, err)
	drop := nftables.ChainPolicyDrop
	table := conn.AddTable(&nftables.Table{Name: "stranger", Family: nftables.TableFamilyIPv4})
	conn.AddChain(&nftables.Chain{Name: "FORWARD", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop})
	must(t, conn.Flush())
	problems := Check(testConfig(t))
	conn.DelTable(table)
	must(t, conn.Flush())
	if len(problems) != 1 || problems[0].Fatal || !strings.Contains(problems[0].What, "stranger") {
		t.Errorf("a firewall that drops what is forwarded: %+v", problems)
	}
	if after := kernelObjects(t); after != before {
		t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
	}
}

// Two instances on one host do not disturb each other, and the last to go
// leaves the host as it was.
func TestTwoInstances(t *testing.T) {
	newWorld(t)
	before := kernelObjects(t)
	one, two := testConfig(t), testConfig(t)
	two.Prefix, two.RunDir = "nu", t.TempDir()
	first, err := Open(context.Background(), one, nil)
	must(t, err)
	second, err := Open(context.Background(), two, nil)
	must(t, err)
	a, b := newGuest(t, first, Policy{}), newGuest(t, second, Policy{})
	b.echo()
	if _, _, err := a.call(b.slot.Address.Addr().String() + ":" + echoPort); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a machine of another instance: got %v, want a refused connection", err)
	}
	must(t, first.Purge())
	conn, _, err := b.call(publicA + ":" + echoPort)
	must(t, err)
	must(t, say(conn, "still here"))
	conn.Close()
	must(t, second.Purge())
	if after := kernelObjects(t); !strings.HasPrefix(after, before[:strings.Index(before, "mounts")]) || readSysctl("ipv4/conf/wan0/forwarding") != "0" {
		t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
	}
}
