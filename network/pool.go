package network

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

// errClosed is what a closed network answers.
var errClosed = errors.New("the network is closed")

// Acquire gives a machine a slot with a policy in force. With slots ahead and
// an empty policy it asks nothing of the kernel.
func (n *Network) Acquire(ctx context.Context, p Policy) (*Slot, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	slot, err := n.take(ctx)
	if err != nil {
		return nil, err
	}
	held := hold(slot, p)
	if err := n.firewall.changeSlot(slot.Address.Addr(), slotChange{denied: held.denied}); err != nil {
		n.giveBack(&heldSlot{slot: slot})
		return nil, err
	}
	n.mu.Lock()
	n.held[slot.Index] = held
	n.mu.Unlock()
	return slot, nil
}

// take removes a ready slot from the pool, or makes one if there is none.
func (n *Network) take(ctx context.Context) (*Slot, error) {
	defer n.rouse()
	for {
		n.mu.Lock()
		if n.closed {
			n.mu.Unlock()
			return nil, errClosed
		}
		if len(n.free) > 0 {
			slot := n.free[0]
			n.free = n.free[1:]
			n.mu.Unlock()
			return slot, nil
		}
		index, err := n.nextIndex()
		if err == nil {
			n.work.Add(1) // Close waits for it
			n.mu.Unlock()
			defer n.work.Done()
			return n.make(ctx, index)
		}
		coming, ready := n.making+len(n.used) > 0, n.ready
		n.mu.Unlock()
		if !coming {
			return nil, err
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		}
	}
}

// nextIndex reserves an index to make a slot of. The caller holds mu.
func (n *Network) nextIndex() (int, error) {
	for _, list := range []*[]int{&n.returned, &n.remade} {
		if last := len(*list) - 1; last >= 0 {
			index := (*list)[last]
			*list = (*list)[:last]
			return index, nil
		}
	}
	if n.next > maxIndex(n.cfg.Range) {
		return 0, fmt.Errorf("all %d network slots of %s are in use: end machines or configure a larger range", maxIndex(n.cfg.Range), n.cfg.Range)
	}
	n.next++
	return n.next - 1, nil
}

// make brings a slot into being, clean and behind the firewall.
func (n *Network) make(ctx context.Context, index int) (*Slot, error) {
	slot := n.slot(index)
	err := ctx.Err()
	if err == nil {
		err = n.build(slot)
	}
	if err != nil {
		n.mu.Lock()
		n.returned = append(n.returned, index)
		n.mu.Unlock()
		return nil, fmt.Errorf("making network slot %d: %w", index, err)
	}
	return slot, nil
}

func (n *Network) build(slot *Slot) error {
	if err := n.dropMismatch(slot); err != nil {
		return err
	}
	p := pair{host: slot.Name, inner: slot.guestEnd(), hostMAC: slot.GatewayMAC, innerMAC: slot.MAC,
		hostAddr: ipNet(slot), innerIP: slot.Address.Addr().AsSlice(), mtu: linkMTU}
	if err := makePair(n.links, n.taps, p); err != nil {
		return err
	}
	guestEnd, err := n.tapLinks.LinkByName(slot.guestEnd())
	if err != nil {
		return fmt.Errorf("finding the guest's end %s: %w", slot.guestEnd(), err)
	}
	if err := n.tapLinks.LinkSetUp(guestEnd); err != nil {
		return fmt.Errorf("bringing %s up: %w", slot.guestEnd(), err)
	}
	for name, links := range map[string]*netlink.Handle{slot.Name: n.links, slot.guestEnd(): n.tapLinks} {
		if err := awaitCarrier(links, name); err != nil {
			return err
		}
	}
	return n.firewall.addSlot(slot.rule())
}

// dropMismatch removes a link found at Open that cannot become this slot: its
// other end is lost, or it was made for another range.
func (n *Network) dropMismatch(slot *Slot) error {
	link, err := n.links.LinkByName(slot.Name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finding link %s: %w", slot.Name, err)
	}
	_, err = n.tapLinks.LinkByName(slot.guestEnd())
	if err == nil && link.Attrs().HardwareAddr.String() == slot.GatewayMAC.String() && link.Attrs().MTU == linkMTU {
		return forgetFlows(n.links, guestFlows{slot.Address.Addr(): true})
	}
	return deleteLink(n.links, slot.Name)
}

// Attach gives the slot of a machine that was named to Open.
func (n *Network) Attach(index int) (*Slot, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	held := n.held[index]
	if held == nil {
		return nil, fmt.Errorf("network slot %d is not there: its machine has lost its network", index)
	}
	return held.slot, nil
}

// Release takes a slot back from a machine whose sandbox has ended. It returns
// at once; the slot is used again when nothing of the machine is left on it.
func (n *Network) Release(s *Slot) {
	n.mu.Lock()
	held := n.held[s.Index]
	if held == nil || held.slot != s {
		n.mu.Unlock()
		return
	}
	delete(n.held, s.Index)
	n.mu.Unlock()
	n.giveBack(held)
}

func (n *Network) giveBack(held *heldSlot) {
	n.mu.Lock()
	if len(n.used) == 0 {
		n.usedSince = time.Now()
	}
	n.used = append(n.used, held)
	n.mu.Unlock()
	n.rouse()
}

// rouse tells the keeper to look at the pool.
func (n *Network) rouse() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}
