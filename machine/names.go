package machine

import (
	"context"
	"fmt"
	"maps"
)

// names knows the machines that have a name. An entry whose machine is still
// being made is empty. Guarded by Engine.mu.
type names struct {
	byName map[[2]string]string // ids, by team and name
	byHost map[string]string    // ids, by label of the URL
}

// Named returns the machine of that name, or ErrNotFound.
func (e *Engine) Named(team, name string) (Machine, error) {
	e.mu.RLock()
	m := e.instances[e.names.byName[[2]string{team, name}]]
	e.mu.RUnlock()
	if m == nil {
		return Machine{}, fmt.Errorf("%w: no machine is called %q", ErrNotFound, name)
	}
	return m.record(), nil
}

// AtHost returns the machine that has that label of a URL, or ErrNotFound.
func (e *Engine) AtHost(host string) (Machine, error) {
	e.mu.RLock()
	m := e.instances[e.names.byHost[host]]
	e.mu.RUnlock()
	if m == nil {
		return Machine{}, fmt.Errorf("%w: no machine is at %q", ErrNotFound, host)
	}
	return m.record(), nil
}

// takeNames claims the names of a machine to be.
func (e *Engine) takeNames(record Machine) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := &e.names
	name := [2]string{record.Team, record.Name}
	if _, taken := n.byName[name]; taken && record.Name != "" {
		return fmt.Errorf("%w: there is a machine called %q already", ErrConflict, record.Name)
	}
	if _, taken := n.byHost[record.Host]; taken && record.Host != "" {
		return fmt.Errorf("%w: %q", ErrHostTaken, record.Host)
	}
	if n.byName == nil {
		n.byName, n.byHost = map[[2]string]string{}, map[string]string{}
	}
	if record.Name != "" {
		n.byName[name] = record.ID
	}
	if record.Host != "" {
		n.byHost[record.Host] = record.ID
	}
	return nil
}

// named makes a machine known by the names that were claimed for it. The caller
// holds e.mu.
func (n *names) named(record Machine) {
	if record.Name != "" {
		n.byName[[2]string{record.Team, record.Name}] = record.ID
	}
	if record.Host != "" {
		n.byHost[record.Host] = record.ID
	}
}

// giveNames frees the names of a machine that ends, or was not made.
func (e *Engine) giveNames(record Machine) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if name := [2]string{record.Team, record.Name}; e.names.byName[name] == record.ID {
		delete(e.names.byName, name)
	}
	if e.names.byHost[record.Host] == record.ID {
		delete(e.names.byHost, record.Host)
	}
}

// EditDoor changes what a door keeps with a machine. It wakes nobody. The edit
// must be quick, and must not call the engine.
func (e *Engine) EditDoor(ctx context.Context, id string, edit func(door map[string]string)) (Machine, error) {
	return e.change(ctx, id, func(_ *instance, record *Machine) error {
		door := maps.Clone(record.Door)
		if door == nil {
			door = map[string]string{}
		}
		edit(door)
		record.Door = door
		return nil
	})
}

// SetIdle replaces a machine's own idle policy; nil takes the node's.
func (e *Engine) SetIdle(ctx context.Context, id string, policy *IdlePolicy) (Machine, error) {
	return e.change(ctx, id, func(_ *instance, record *Machine) error {
		record.Lifecycle.Idle = policy
		return nil
	})
}
