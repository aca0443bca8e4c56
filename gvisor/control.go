package gvisor

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// Pause stops a guest where it is; it keeps its memory and uses no CPU.
// Pausing a paused one does nothing.
func (r *Runtime) Pause(ctx context.Context, id string) error {
	return r.ask(ctx, protocol.OpPause, id, "")
}

// Resume lets a paused guest go on. Resuming a running one does nothing.
func (r *Runtime) Resume(ctx context.Context, id string) error {
	return r.ask(ctx, protocol.OpResume, id, "")
}

// Checkpoint writes the memory of a paused guest to imageDir, which must not
// exist; it appears complete or not at all. The guest stays paused. The disk
// is not part of it: take a copy of the root before the guest is resumed.
func (r *Runtime) Checkpoint(ctx context.Context, id, imageDir string) error {
	if !filepath.IsAbs(imageDir) {
		return fmt.Errorf("checkpoint directory %q is not absolute", imageDir)
	}
	return r.ask(ctx, protocol.OpCheckpoint, id, imageDir)
}
