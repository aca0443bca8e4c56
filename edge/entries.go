package edge

import (
	"errors"
	"sync"
	"sync/atomic"
)

// entries holds the machines that requests are open to or that connections are
// kept to. A machine that nobody uses costs nothing here, awake or asleep.
type entries struct {
	engine Engine

	mu     sync.RWMutex
	byID   map[string]*entry
	closed bool
}

// entry is one machine in use. It outlives the machine's sleep for as long as
// requests are open, so that their limit holds across it.
type entry struct {
	id   string
	open atomic.Int64 // requests and tunnels; grows under entries.mu only
	// up is the way to the machine since it last woke; nil where no request
	// has gone to it since. It is set under entries.mu.
	up atomic.Pointer[upstream]
}

// Why there is no way to a machine.
var (
	errClosing = errors.New("the edge is closing")
	errSevered = errors.New("the connections to the machine are cut")
)

func newEntries(e Engine) *entries {
	return &entries{engine: e, byID: make(map[string]*entry)}
}

// admit counts a request in and tells how many are open with it; release must
// count it out.
func (s *entries) admit(id string) (n *entry, open int64) {
	s.mu.RLock()
	if n = s.byID[id]; n != nil {
		open = n.open.Add(1)
	}
	s.mu.RUnlock()
	if n != nil {
		return n, open
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n = s.byID[id]; n == nil {
		n = &entry{id: id}
		s.byID[id] = n
	}
	return n, n.open.Add(1)
}

func (s *entries) release(n *entry) {
	if n.open.Add(-1) == 0 {
		s.forget(n)
	}
}

// upstream returns the way to a machine that the caller has entered, made on
// first use after each waking. It fails with errSevered if the machine was
// paused or has ended since, and with errClosing.
func (s *entries) upstream(n *entry) (*upstream, error) {
	if up := n.up.Load(); up != nil && !up.isSevered() {
		return up, nil
	}
	severed := s.engine.Severed(n.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if up := n.up.Load(); up != nil && !up.isSevered() {
		return up, nil
	}
	switch {
	case s.closed:
		return nil, errClosing
	case isClosed(severed):
		return nil, errSevered
	}
	up := newUpstream(s, n, severed)
	n.up.Store(up)
	go s.watch(up)
	return up, nil
}

// watch takes down the way to a machine when the machine is paused or ends,
// when nobody uses it any more, or when the edge closes.
func (s *entries) watch(up *upstream) {
	select {
	case <-up.severed:
	case <-up.ended.Done():
	}
	up.close()
	s.mu.Lock()
	up.entry.up.CompareAndSwap(up, nil) // a newer one may be there
	s.mu.Unlock()
	s.forget(up.entry)
}

// forget drops a machine that no request is open to and no connection is kept
// to. Whoever ends the last of these calls it.
func (s *entries) forget(n *entry) {
	if !n.unused() {
		return // without the lock that all machines share
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !n.unused() || s.byID[n.id] != n {
		return
	}
	delete(s.byID, n.id)
	if up := n.up.Swap(nil); up != nil {
		up.end()
	}
}

func (n *entry) unused() bool {
	if n.open.Load() > 0 {
		return false
	}
	up := n.up.Load()
	return up == nil || !up.connected()
}

func (s *entries) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, n := range s.byID {
		if up := n.up.Swap(nil); up != nil {
			up.end()
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
