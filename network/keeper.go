package network

import (
	"context"
	"errors"
	"time"
)

const (
	// retryDelay is how long the keeper waits after the kernel refused something.
	retryDelay = time.Second
	// cleanDelay is how long slots wait to be cleaned together. Looking for the
	// connections of one guest takes as long as of many, some 10 ms of CPU,
	// because the kernel walks its whole table.
	cleanDelay = time.Second
)

// keep cleans the slots that come back and makes slots ahead, until ctx ends.
func (n *Network) keep(ctx context.Context) {
	for ctx.Err() == nil {
		busy, later, err := n.tend(ctx)
		if err != nil {
			n.cfg.Logger.Error("keeping network slots ready", "error", err)
			later = retryDelay
		} else if busy {
			continue
		}
		var again <-chan time.Time
		if later > 0 {
			again = time.After(later)
		}
		select {
		case <-ctx.Done():
		case <-n.wake:
		case <-again:
		}
	}
}

// tend does one piece of the keeper's work and tells whether there was any, or
// after what time there will be.
func (n *Network) tend(ctx context.Context) (busy bool, later time.Duration, err error) {
	used, index, later := n.nextPiece()
	defer n.tended()
	switch {
	case len(used) > 0:
		return true, 0, n.clean(used)
	case index == 0:
		return false, later, nil
	}
	slot, err := n.make(ctx, index)
	if err != nil {
		return false, 0, err
	}
	n.mu.Lock()
	n.free = append(n.free, slot)
	n.mu.Unlock()
	return true, 0, nil
}

// nextPiece decides between cleaning, which is put off while there are slots
// enough, and making.
func (n *Network) nextPiece() (used []*heldSlot, index int, later time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.used) > 0 {
		if later = cleanDelay - time.Since(n.usedSince); later <= 0 || len(n.free) <= n.cfg.Ahead/2 {
			used, n.used = n.used, nil
			n.making = len(used)
			return used, 0, 0
		}
	}
	left := len(n.remade) + len(n.returned)
	if left > 0 || len(n.free)+len(n.used) < n.cfg.Ahead && n.next <= maxIndex(n.cfg.Range) {
		if index, err := n.nextIndex(); err == nil {
			n.making = 1
			return nil, index, 0
		}
	}
	return nil, 0, later
}

// tended tells those who wait for a slot that the keeper has finished a piece.
func (n *Network) tended() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.making = 0
	close(n.ready)
	n.ready = make(chan struct{})
}

// clean takes from slots what their machines left: policies and connections.
func (n *Network) clean(used []*heldSlot) error {
	guests := make(guestFlows)
	var errs []error
	for _, held := range used {
		errs = append(errs, n.retire(held))
		guests[held.slot.Address.Addr()] = true
	}
	errs = append(errs, forgetFlows(n.links, guests))
	err := errors.Join(errs...)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, held := range used {
		if err != nil {
			n.used = append(n.used, held)
		} else {
			n.free = append(n.free, n.slot(held.slot.Index))
		}
	}
	return err
}
