package gvisor

import (
	"context"
	"fmt"
	"os"
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

// Image describes a checkpoint.
type Image struct {
	Key   string // the ImageKey of the runtime that wrote it
	Bytes int64  // the size of its files
}

// Checkpoint writes the memory of a paused guest to imageDir, which must not
// exist; it appears complete or not at all. The guest stays paused. The disk
// is not part of it: take a copy of the root before the guest is resumed.
func (r *Runtime) Checkpoint(ctx context.Context, id, imageDir string) (Image, error) {
	if !filepath.IsAbs(imageDir) {
		return Image{}, fmt.Errorf("checkpoint directory %q is not absolute", imageDir)
	}
	if err := r.ask(ctx, protocol.OpCheckpoint, id, imageDir); err != nil {
		return Image{}, err
	}
	files, err := os.ReadDir(imageDir)
	if err != nil {
		return Image{}, fmt.Errorf("read checkpoint: %w", err)
	}
	image := Image{Key: r.key}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			return Image{}, fmt.Errorf("read checkpoint: %w", err)
		}
		image.Bytes += info.Size()
	}
	return image, nil
}
