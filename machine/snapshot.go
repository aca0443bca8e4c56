package machine

import (
	"context"
	"fmt"
)

// Snapshot keeps memory and disk of a running machine as a template. A name
// that the team has given to a snapshot before moves on to this one.
func (e *Engine) Snapshot(ctx context.Context, id, name string) (Template, error) {
	return Template{}, fmt.Errorf("%w: snapshots are not there yet", ErrUnavailable)
}

// Snapshots lists the snapshots that q selects, newest first.
func (e *Engine) Snapshots(q SnapshotQuery) []Template { return nil }

// DeleteTemplate removes a snapshot of a team. Machines made from it go on.
// Those that come with Atoll are ErrInvalid.
func (e *Engine) DeleteTemplate(ctx context.Context, team, id string) error {
	return fmt.Errorf("%w: no template %q here", ErrNotFound, id)
}
