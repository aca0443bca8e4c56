package machine

import (
	"context"
	"fmt"
)

// Fork makes copies of a running machine, memory and disk, all of one instant.
// Each copy has its own identity, succeeds or fails on its own, and counts
// against the team's limit. The machine itself stands still for a moment.
func (e *Engine) Fork(ctx context.Context, id string, spec ForkSpec) ([]Forked, error) {
	return nil, fmt.Errorf("%w: forking is not there yet", ErrUnavailable)
}
