package gvisor

import (
	"context"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// Pause stops a guest where it is; it keeps its memory and uses no CPU.
// Pausing a paused one does nothing.
func (r *Runtime) Pause(ctx context.Context, id string) error {
	_, err := r.ask(ctx, id, &protocol.Request{Op: protocol.OpPause})
	return err
}

// Resume lets a paused guest go on. Resuming a running one does nothing.
func (r *Runtime) Resume(ctx context.Context, id string) error {
	g, err := r.find(id)
	if err != nil {
		return err
	}
	if _, err = r.ask(ctx, id, &protocol.Request{Op: protocol.OpResume}); err == nil {
		r.takeRoom(g)
	}
	return err
}
