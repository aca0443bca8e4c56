package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Network is the slots, the firewall and the names of one instance. One
// process at a time may have an instance open. Its methods may be called from
// several goroutines.
type Network struct {
	cfg      Config
	firewall *firewall
	dns      *dnsServer
	links    *netlink.Handle // of the host's namespace
	tapLinks *netlink.Handle // of the namespace of the guests' ends
	home     *os.File        // the host's namespace
	taps     *os.File
	names    *os.File // the DNS service's namespace

	stop context.CancelFunc
	work sync.WaitGroup
	wake chan struct{} // capacity 1: the keeper has something to do
	mtu  atomic.Int64  // of the way out, in bytes

	mu        sync.Mutex
	closed    bool
	held      map[int]*heldSlot // slots that machines hold
	free      []*Slot           // ready; taken from the front
	used      []*heldSlot       // given back, not yet clean
	usedSince time.Time         // when the first of them was
	remade    []int             // found at Open: to be made ready again
	next      int               // lowest index that was never used
	returned  []int             // indexes whose making failed
	making    int               // slots the keeper is making or cleaning
	ready     chan struct{}     // closed when the keeper has done so
	host      hostNet
	forwards  []string // uplinks that forward only because of us
}

// Open makes the instance ready: it takes over what a previous process left,
// puts the firewall in place in one step, serves names and starts to make
// slots ahead. inUse are the slots of running machines with the policies that
// hold for them: their traffic is not interrupted. Other slots that are found
// are cleaned and used again. Close ends it.
func Open(ctx context.Context, cfg Config, inUse map[int]Policy) (_ *Network, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.RunDir, 0o700); err != nil {
		return nil, fmt.Errorf("making the network's run directory: %w", err)
	}
	n := &Network{cfg: cfg, wake: make(chan struct{}, 1), held: make(map[int]*heldSlot), next: 1, ready: make(chan struct{})}
	defer func() {
		if err != nil {
			n.closeFiles()
		}
	}()
	if err := n.openFiles(); err != nil {
		return nil, err
	}
	if err := n.settleHost(len(inUse) > 0); err != nil {
		return nil, err
	}
	n.firewall = newFirewall(n.cfg, slotAt(n.cfg, 0).Address.Addr())
	if err := n.adopt(inUse); err != nil {
		return nil, errors.Join(err, n.firewall.close())
	}
	if n.dns, err = openDNS(n); err != nil {
		return nil, errors.Join(err, n.firewall.close())
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stop = stop
	n.work.Go(func() { n.keep(background) })
	n.work.Go(func() { n.follow(background) })
	n.dns.serve(background, &n.work)
	return n, nil
}

// Range is what the slots' addresses are taken from.
func (n *Network) Range() netip.Prefix { return n.cfg.Range }

// openFiles opens the namespaces and the kernel's ears in them.
func (n *Network) openFiles() (err error) {
	if n.home, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return fmt.Errorf("opening the host's network namespace: %w", err)
	}
	if n.links, err = handleHere(); err != nil {
		return err
	}
	if n.taps, err = openNamespace(int(n.home.Fd()), n.cfg.tapsPath()); err != nil {
		return err
	}
	if n.names, err = openNamespace(int(n.home.Fd()), n.cfg.dnsPath()); err != nil {
		return err
	}
	n.tapLinks, err = handleIn(n.home, n.taps)
	return err
}

// handleHere opens netlink in the calling thread's namespace.
func handleHere() (*netlink.Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	return h, nil
}

// handleIn opens netlink in another namespace.
func handleIn(home, space *os.File) (h *netlink.Handle, err error) {
	err = inNamespace(int(home.Fd()), int(space.Fd()), func() error {
		h, err = handleHere()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening netlink in a namespace: %w", err)
	}
	return h, nil
}

func (n *Network) closeFiles() {
	for _, h := range []*netlink.Handle{n.links, n.tapLinks} {
		if h != nil {
			h.Close()
		}
	}
	for _, f := range []*os.File{n.home, n.taps, n.names} {
		if f != nil {
			f.Close()
		}
	}
}

// settleHost decides the range and turns forwarding on where it is needed.
// While machines hold addresses of the previous range it stays.
func (n *Network) settleHost(held bool) error {
	before, err := readState(n.cfg.statePath())
	if err != nil {
		return err
	}
	if n.host, err = readHostNet(n.links, n.cfg); err != nil {
		return err
	}
	switch {
	case !n.cfg.Range.IsValid() && before.Range.IsValid():
		n.cfg.Range = before.Range
	case !n.cfg.Range.IsValid():
		if n.cfg.Range, err = chooseRange(n.host); err != nil {
			return err
		}
	case held && before.Range.IsValid() && before.Range != n.cfg.Range:
		return fmt.Errorf("machines are running with addresses of %s: end them before changing the range to %s", before.Range, n.cfg.Range)
	case before.Range != n.cfg.Range:
		for _, route := range n.host.routes {
			if route.Overlaps(n.cfg.Range) {
				return fmt.Errorf("the range %s for machines overlaps the host's route to %s: choose another", n.cfg.Range, route)
			}
		}
	}
	n.mtu.Store(int64(n.host.mtu))
	n.forwards, err = startForwarding(n.host, before.Forwarding)
	return errors.Join(err, n.saveState())
}

func (n *Network) saveState() error {
	return state{Range: n.cfg.Range, Forwarding: n.forwards}.write(n.cfg.statePath())
}

// adopt sorts the slots that are there into held and to be remade, and puts
// the firewall in place.
func (n *Network) adopt(inUse map[int]Policy) error {
	there, err := linkIndexes(n.links, n.cfg.hostEnds())
	if err != nil {
		return err
	}
	opened, err := n.firewall.readOpened()
	if err != nil {
		// Machines under rules by name must ask for their names again.
		n.cfg.Logger.Warn("what machines may reach by name could not be taken over", "error", err)
	}
	var rules []slotRule
	for index, policy := range inUse {
		if err := policy.Validate(); err != nil {
			return err
		}
		if there[index] == nil || index < 1 || index > maxIndex(n.cfg.Range) {
			// Its machine has no link any more; Attach will say so.
			n.cfg.Logger.Warn("a machine's network slot is gone", "slot", index)
			continue
		}
		held := hold(n.slot(index), policy)
		n.held[index] = held
		rule := held.slot.rule()
		rule.denied, rule.opened = held.denied, held.recall(opened[rule.guest], time.Now())
		rules = append(rules, rule)
	}
	for index := range there {
		n.next = min(max(n.next, index+1), maxIndex(n.cfg.Range)+1)
		if index > maxIndex(n.cfg.Range) { // of a larger range
			if err := deleteLink(n.links, slotAt(n.cfg, index).Name); err != nil {
				return err
			}
		} else if n.held[index] == nil {
			n.remade = append(n.remade, index)
		}
	}
	return n.firewall.replace(rules, n.host.closedTo(n.cfg), n.forwards)
}

// slot is the slot of an index, as callers see it.
func (n *Network) slot(index int) *Slot {
	s := slotAt(n.cfg, index)
	s.network, s.UplinkMTU = n, int(n.mtu.Load())
	return s
}

// Close ends the work of this process and leaves all slots, and the firewall
// around them, as they are: machines keep their traffic. Until the next Open
// nobody answers their DNS questions.
func (n *Network) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	n.mu.Unlock()
	n.stop()
	err := n.dns.close()
	n.work.Wait()
	n.tended() // nobody waits for slots that no keeper makes
	err = errors.Join(err, n.firewall.close())
	n.closeFiles()
	return err
}

// Purge closes the network and removes everything of it from the kernel. No
// machine may be running.
func (n *Network) Purge() error {
	return errors.Join(n.Close(), Purge(n.cfg))
}
