package kernel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
)

// restartTime bounds how long a restart waits for the context's turn.
const restartTime = 30 * time.Second

// errRemoved is reported to those who wait for a context that was removed.
var errRemoved = errors.New("the context was removed")

// runContext is a kernel with what clients know of it. (A Go context is
// something else.)
type runContext struct {
	id       string
	language string
	cwd      string
	// env was given when the context was made.
	env  map[string]string
	spec *spec
	// warm is code that runs silently when the kernel has started on its own.
	warm string
	host Host
	turn *turn
	// order is when it was made, among the others.
	order int

	mu sync.Mutex
	// process is nil before the first start, and when the one before was
	// reported to have ended.
	process *process
	// note is what the next client is to be told, as nobody else was.
	note string
	// applied are the machine's variables as the kernel has them.
	applied map[string]string
	// reason is why a kernel was ended by us.
	reason string
	// hurry ends a write to the client of the current execution.
	hurry   func()
	removed bool
}

// live returns the context's kernel, started if need be. The caller has the turn.
func (c *runContext) live(ctx context.Context) (p *process, err error) {
	c.mu.Lock()
	p, removed := c.process, c.removed
	c.mu.Unlock()
	if removed {
		return nil, errRemoved
	}
	if p != nil && p.alive() {
		return p, nil
	}
	if p != nil {
		c.tellNext(fmt.Sprintf("The kernel had ended (%s) and was started again; variables are lost.", describe(p.status)))
	}
	vars := c.host.Environment()
	wanted := maps.Clone(vars)
	if wanted == nil {
		wanted = map[string]string{}
	}
	maps.Copy(wanted, c.env)
	p, err = launch(ctx, c.host, c.spec, c.cwd, wanted)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.process, c.applied, c.reason = p, vars, ""
	removed = c.removed
	c.mu.Unlock()
	if removed {
		p.stop()
		return nil, errRemoved
	}
	return p, nil
}

// tellNext leaves a note for the next client.
func (c *runContext) tellNext(note string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note = note + "\n"
}

// takeNote returns the note for this client.
func (c *runContext) takeNote() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	note := c.note
	c.note = ""
	return note
}

// lost forgets a kernel that ended while code ran, and returns why it did.
func (c *runContext) lost(p *process) (why string, ours bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == p {
		c.process = nil
	}
	if c.reason != "" {
		return c.reason, true
	}
	return fmt.Sprintf("The kernel ended (%s). It was started again; variables are lost.", describe(p.status)), false
}

// end stops the kernel for a reason that the client of what runs is told.
func (c *runContext) end(reason string) {
	c.mu.Lock()
	p := c.process
	c.reason = reason
	if c.hurry != nil {
		c.hurry()
	}
	c.mu.Unlock()
	if p != nil {
		p.stop()
	}
}

// restart replaces the kernel by a new one.
func (c *runContext) restart(ctx context.Context) error {
	c.end("The context was restarted; variables are lost.")
	ctx, cancel := context.WithTimeout(ctx, restartTime)
	defer cancel()
	if err := c.turn.insist(ctx); err != nil {
		return fmt.Errorf("restart the context: wait for what runs in it: %w", err)
	}
	defer c.turn.release()
	c.mu.Lock()
	if c.process != nil && !c.process.alive() {
		c.process = nil // as asked for; nothing to tell the next client
	}
	c.note = ""
	c.mu.Unlock()
	_, err := c.live(context.WithoutCancel(ctx))
	return err
}

// remove ends the context for good.
func (c *runContext) remove() {
	c.mu.Lock()
	c.removed = true
	c.mu.Unlock()
	c.end("The context was removed.")
}

// ready reports that the kernel has started and runs nothing.
func (c *runContext) ready() bool {
	if !c.turn.try() {
		return false
	}
	defer c.turn.release()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process != nil && c.process.alive()
}

// changes returns the machine's variables that the kernel does not have yet,
// and takes it that the kernel gets them.
func (c *runContext) changes() (changed map[string]string) {
	now := c.host.Environment()
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, value := range now {
		if old, ok := c.applied[key]; ok && old == value {
			continue
		}
		if _, own := c.env[key]; own {
			continue
		}
		if changed == nil {
			changed = map[string]string{}
		}
		changed[key] = value
	}
	c.applied = now
	return changed
}

// parts returns what the kernel is to run for a client: the code, and what
// sees to it that the machine's variables are as they are now and those of the
// execution hold while it runs.
func (c *runContext) parts(p *process, in *executeRequest) ([]part, error) {
	changed := c.changes()
	if p.grants {
		w := &wishes{Set: changed, During: in.Env, Trial: in.Trial}
		if len(w.Set) == 0 && len(w.During) == 0 && !w.Trial {
			w = nil
		}
		return []part{{code: in.Code, wishes: w}}, nil
	}
	code := in.Code
	if in.Trial {
		code = "" // leaves no trace in any kernel
	}
	before, after, err := environmentCode(c.language, changed, in.Env)
	return surround(before, code, after, c.spec.publishesLate()), err
}

// setHurry says how a write to the current client is ended early.
func (c *runContext) setHurry(f func()) {
	c.mu.Lock()
	c.hurry = f
	c.mu.Unlock()
}
