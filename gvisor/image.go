package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// Image describes a checkpoint.
type Image struct {
	Key   string // the ImageKey of the version that wrote it
	Bytes int64  // the size of its files
	// Unsummed images have no checksum of their memory until SumUp, and until
	// then are restored without looking.
	Unsummed bool
}

// largeMemory is from how many bytes on memory is written past the host's cache.
const largeMemory = 64 << 20

// Checkpoint writes the memory of a paused guest to imageDir, which must not
// exist; it appears complete or not at all. The guest stays paused. The disk
// is not part of it: take a copy of the root before the guest is resumed.
//
// The files carry checksums, but for one with much memory, and are on their way
// to the disk. They survive the end of this process and of the sandbox, but a
// failure of power only after Seal.
func (r *Runtime) Checkpoint(ctx context.Context, id, imageDir string) (Image, error) {
	if !filepath.IsAbs(imageDir) {
		return Image{}, fmt.Errorf("checkpoint directory %q is not absolute", imageDir)
	}
	g, err := r.find(id)
	if err != nil {
		return Image{}, err
	}
	g.op.Lock()
	binDir := g.info.BinDir
	g.op.Unlock()
	if binDir == "" {
		return Image{}, fmt.Errorf("checkpoint sandbox %s: %w: it runs on a version that is not known any more", id, ErrIncompatible)
	}
	key, err := r.imageKeyOf(ctx, binDir)
	if err != nil {
		return Image{}, err
	}
	r.makeRoom(g)
	usage, err := r.cgroups.usage(id)
	if err != nil {
		return Image{}, fmt.Errorf("checkpoint sandbox %s: measure it: %w", id, err)
	}
	resp, err := r.ask(ctx, id, &protocol.Request{
		Op: protocol.OpCheckpoint, ImageDir: imageDir, Key: key, Large: usage.Memory > largeMemory,
	})
	if err != nil {
		return Image{}, err
	}
	if resp.Image == nil {
		return Image{}, fmt.Errorf("checkpoint sandbox %s: the worker did not say what it wrote", id)
	}
	image := Image{Key: resp.Image.Key, Bytes: resp.Image.Bytes()}
	for _, f := range resp.Image.Files {
		image.Unsummed = image.Unsummed || f.Unsummed
	}
	return image, nil
}

// SumUp gives a checkpoint the checksums that it lacks. It can be repeated.
func (r *Runtime) SumUp(ctx context.Context, imageDir string) error {
	image, err := protocol.ReadImage(imageDir)
	if err != nil {
		return fmt.Errorf("sum up %s: %w", imageDir, err)
	}
	changed, err := image.SumUp(imageDir)
	if err == nil && changed {
		err = protocol.WriteImage(imageDir, image)
	}
	if err != nil {
		return fmt.Errorf("sum up %s: %w", imageDir, err)
	}
	return ctx.Err()
}

// Seal returns when a checkpoint would survive a failure of power, its
// directory entry included. It can be repeated.
func (r *Runtime) Seal(ctx context.Context, imageDir string) error {
	image, err := protocol.ReadImage(imageDir)
	if err != nil {
		return fmt.Errorf("seal %s: %w", imageDir, err)
	}
	var syncing errgroup.Group
	for _, f := range image.Files {
		syncing.Go(func() error { return syncFile(filepath.Join(imageDir, f.Name)) })
	}
	syncing.Go(func() error { return syncFile(filepath.Join(imageDir, protocol.ImageFile)) })
	err = syncing.Wait()
	for _, dir := range []string{imageDir, filepath.Dir(imageDir)} {
		if err == nil {
			err = syncFile(dir)
		}
	}
	if err != nil {
		return fmt.Errorf("seal %s: %w", imageDir, err)
	}
	return ctx.Err()
}

// syncFile brings a file or a directory to the disk.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// wants reads what an image needs and compares it with the version that shall
// restore it.
func (r *Runtime) wants(ctx context.Context, imageDir, binDir string) (*protocol.Image, error) {
	image, err := protocol.ReadImage(imageDir)
	if err != nil {
		return nil, err
	}
	key, err := r.imageKeyOf(ctx, binDir)
	if err != nil {
		return nil, err
	}
	return &image, compareKeys(image.Key, key)
}

// diagnose says whether an image is to blame for a guest that could not be
// restored from it, as ErrDamaged or ErrIncompatible; else it is nil.
func (r *Runtime) diagnose(ctx context.Context, imageDir, binDir string) error {
	image, err := r.wants(ctx, imageDir, binDir)
	if err != nil {
		return err
	}
	for _, f := range image.Files {
		if err := f.Check(imageDir); err != nil {
			return err
		}
	}
	return nil
}
