package edge

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/atoll-cloud/atoll/machine"
)

// fakeEngine serves machines whose ports are listeners of the test's own, and
// puts them to sleep and wakes them as the real one does.
type fakeEngine struct {
	mu       sync.Mutex
	machines map[string]machine.Machine
	severed  map[string]chan struct{}
	waking   map[string]chan struct{} // closed when the wake is over
	ports    map[string]string        // "id:port" → address
	dialErr  error                    // what Dial fails with, if anything
	wakeErr  error                    // what waking fails with, if anything
	slow     chan struct{}            // wakes last until it is closed, if there
	entered  func()                   // called before each Enter returns, if there

	dials  atomic.Int64
	open   atomic.Int64 // connections to guests that are open
	enters atomic.Int64 // calls of Enter
	waits  atomic.Int64 // calls of Enter that wait for a wake
	wakes  atomic.Int64
	holds  atomic.Int64 // enters without their leave
	excess atomic.Int64 // leaves without an enter
}

func newFakeEngine() *fakeEngine {
	return &fakeEngine{
		machines: map[string]machine.Machine{}, severed: map[string]chan struct{}{}, waking: map[string]chan struct{}{},
		ports: map[string]string{},
	}
}

// held is how many uses are not over; it is never 0 again once one was left
// twice.
func (e *fakeEngine) held() int64 { return e.holds.Load() + 1e6*e.excess.Load() }

func (e *fakeEngine) add(m machine.Machine) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.machines[m.ID] = m
	if e.severed[m.ID] == nil && (m.State == machine.Running || m.State == machine.Frozen) {
		e.severed[m.ID] = make(chan struct{})
	}
}

func (e *fakeEngine) end(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.machines, id)
	e.sever(id)
}

// pause stores a machine until it is resumed, or used if it may wake by that.
func (e *fakeEngine) pause(id string) {
	e.change(id, func(m *machine.Machine) {
		e.sever(id)
		m.State, m.Paused = machine.Stored, true
	})
}

// freeze puts a machine to sleep that nobody is to know of.
func (e *fakeEngine) freeze(id string) {
	e.change(id, func(m *machine.Machine) { m.State = machine.Frozen })
}

func (e *fakeEngine) resume(id string) {
	e.change(id, func(m *machine.Machine) { e.awake(m) })
}

func (e *fakeEngine) change(id string, edit func(*machine.Machine)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.machines[id]
	edit(&m)
	e.machines[id] = m
}

// sever and awake are called with mu held.
func (e *fakeEngine) sever(id string) {
	if c := e.severed[id]; c != nil {
		close(c)
		delete(e.severed, id)
	}
}

func (e *fakeEngine) awake(m *machine.Machine) {
	m.State, m.Paused = machine.Running, false
	if e.severed[m.ID] == nil {
		e.severed[m.ID] = make(chan struct{})
	}
}

// failDials makes every Dial fail with err.
func (e *fakeEngine) failDials(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dialErr = err
}

func (e *fakeEngine) Get(id string) (machine.Machine, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, ok := e.machines[id]
	if !ok {
		return machine.Machine{}, fmt.Errorf("sandbox %s %w", id, machine.ErrNotFound)
	}
	return m, nil
}

func (e *fakeEngine) Enter(ctx context.Context, id string) (func(), error) {
	e.enters.Add(1)
	for {
		e.mu.Lock()
		m, ok := e.machines[id]
		switch {
		case !ok:
			e.mu.Unlock()
			return nil, fmt.Errorf("sandbox %s %w", id, machine.ErrNotFound)
		case !m.State.Asleep():
			e.holds.Add(1)
			entered := e.entered
			e.mu.Unlock()
			if entered != nil {
				entered()
			}
			return e.leaveOnce(), nil
		case m.Paused && !m.Lifecycle.AutoResume:
			e.mu.Unlock()
			return nil, fmt.Errorf("sandbox %s is %w", id, machine.ErrPaused)
		case e.wakeErr != nil:
			err := e.wakeErr
			e.mu.Unlock()
			return nil, err
		}
		woken := e.waking[id]
		if woken == nil {
			woken = make(chan struct{})
			e.waking[id] = woken
			go e.wake(id, woken, e.slow)
		}
		e.waits.Add(1)
		e.mu.Unlock()
		select {
		case <-woken:
			e.waits.Add(-1)
		case <-ctx.Done():
			e.waits.Add(-1)
			return nil, ctx.Err()
		}
	}
}

func (e *fakeEngine) leaveOnce() func() {
	var left atomic.Bool
	return func() {
		if left.Swap(true) {
			e.excess.Add(1)
			return
		}
		e.holds.Add(-1)
	}
}

func (e *fakeEngine) wake(id string, woken, slow chan struct{}) {
	e.wakes.Add(1)
	if slow != nil {
		<-slow
	}
	e.resume(id)
	e.mu.Lock()
	delete(e.waking, id)
	e.mu.Unlock()
	close(woken)
}

func (e *fakeEngine) Severed(id string) <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, ok := e.severed[id]; ok && e.machines[id].State == machine.Running {
		return c
	}
	c := make(chan struct{})
	close(c)
	return c
}

func (e *fakeEngine) Dial(ctx context.Context, id string, port int) (net.Conn, error) {
	e.dials.Add(1)
	e.mu.Lock()
	addr, err := e.ports[fmt.Sprintf("%s:%d", id, port)], e.dialErr
	asleep := e.machines[id].State.Asleep()
	e.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if asleep {
		return nil, fmt.Errorf("%w: sandbox %s is asleep", machine.ErrUnavailable, id)
	}
	if addr == "" {
		return nil, fmt.Errorf("port %d: %w", port, machine.ErrPortClosed)
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	e.open.Add(1)
	return &countedConn{Conn: c, open: &e.open}, nil
}

type countedConn struct {
	net.Conn
	once sync.Once
	open *atomic.Int64
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

func (e *fakeEngine) AtHost(label string) (machine.Machine, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.machines {
		if m.Host == label && label != "" {
			return m, nil
		}
	}
	return machine.Machine{}, fmt.Errorf("host %s %w", label, machine.ErrNotFound)
}
