package machine

import (
	"context"
	"net"
	"time"

	"github.com/atoll-cloud/atoll/network"
)

// Engine runs the machines of one node.
type Engine struct{}

// Create makes a machine and returns once its guest daemon answers.
func (e *Engine) Create(ctx context.Context, spec CreateSpec) (Machine, error) { panic("todo") }

// Get returns a machine that is not ended, or ErrNotFound.
func (e *Engine) Get(id string) (Machine, error) { panic("todo") }

// List returns the machines of a team that are not ended (all teams if empty),
// oldest first.
func (e *Engine) List(team string) []Machine { panic("todo") }

// Kill ends a machine and frees what it held. Killing one that is gone is ErrNotFound.
func (e *Engine) Kill(ctx context.Context, id, reason string) error { panic("todo") }

// SetDeadline replaces the time at which a machine ends; zero means never.
// Where onlyLater is set an earlier time than the present one changes nothing.
func (e *Engine) SetDeadline(ctx context.Context, id string, t time.Time, onlyLater bool) (Machine, error) {
	panic("todo")
}

// SetNetwork replaces a machine's egress policy at once.
func (e *Engine) SetNetwork(ctx context.Context, id string, p network.Policy) error { panic("todo") }

// Dial connects to a TCP port inside a running machine, on its address or on
// its loopback. It fails with ErrNotFound or ErrPortClosed.
func (e *Engine) Dial(ctx context.Context, id string, port int) (net.Conn, error) { panic("todo") }

// Done is closed when the machine has ended; it is closed already for unknown ones.
func (e *Engine) Done(id string) <-chan struct{} { panic("todo") }

// Samples returns the measurements of a machine in a span of time, oldest first.
func (e *Engine) Samples(id string, from, to time.Time) ([]Sample, error) { panic("todo") }

// Logs returns lines of a machine's log; also for one that ended recently.
func (e *Engine) Logs(ctx context.Context, team, id string, q LogQuery) ([]LogEntry, error) {
	panic("todo")
}

// Templates lists what machines can be made from.
func (e *Engine) Templates() []Template { panic("todo") }

// Template finds one by id or name (with or without ":tag"), or ErrNotFound.
func (e *Engine) Template(ref string) (Template, error) { panic("todo") }

// MaxTimeout is the longest time to live a machine may have; 0 is no limit.
func (e *Engine) MaxTimeout() time.Duration { panic("todo") }

// Node describes this node as it is now.
func (e *Engine) Node() Node { panic("todo") }

// Events calls f for each lifecycle event from now on until ctx ends.
func (e *Engine) Events(ctx context.Context, f func(Event)) error { panic("todo") }
