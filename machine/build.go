package machine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/disk"
	"github.com/atoll-cloud/atoll/image"
	"github.com/atoll-cloud/atoll/network"
	"github.com/atoll-cloud/atoll/store"
)

// builtin is a template that every node has.
type builtin struct {
	name                   string
	cpus, memoryMB, diskMB int
	key                    func() string
	build                  func(ctx context.Context, dir string, progress func(image.Progress)) error
	kernels                bool // of the code interpreter are in it
	showsCheckpoints       bool // as in Template
}

var builtins = []builtin{{
	name: "base", cpus: 2, memoryMB: 512, diskMB: 10 << 10,
	key: image.BaseRecipe().Key, build: image.Base,
}, {
	name: "code-interpreter-v1", cpus: 2, memoryMB: 1024, diskMB: 10 << 10,
	key: image.InterpreterRecipe().Key, build: image.Interpreter, kernels: true,
}, {
	name: "sprite", cpus: 2, memoryMB: 2048, diskMB: 100 << 10,
	key: image.SpriteRecipe().Key, build: image.Sprite, showsCheckpoints: true,
}}

func isBuiltin(name string) bool {
	return slices.ContainsFunc(builtins, func(b builtin) bool { return b.name == name })
}

// kernelsReady is how long kernels may take to start before the snapshot.
const kernelsReady = 2 * time.Minute

// memoryFolder holds the memory image in a template's tree, beside the root
// file system: what belongs together is one snapshot, whole or not there.
const memoryFolder = "memory"

// imageTrees holds root file systems without a guest daemon, so that a new
// version of Atoll only boots them again.
const imageTrees = "images/"

// loadTemplates makes the built-in templates known. The first is built here if
// it is missing or not current; the others that are come back, for buildMissing.
func (e *Engine) loadTemplates(ctx context.Context) (missing []builtin, err error) {
	for i, b := range builtins {
		if !e.config.has(b.name) {
			continue
		}
		_, there, err := e.builtRecord(ctx, b)
		if err != nil {
			return nil, fmt.Errorf("template %q: %w", b.name, err)
		}
		if !there && i > 0 {
			missing = append(missing, b)
			e.builds.announce(b.name)
			continue
		}
		if err := e.loadTemplate(ctx, b, e.config.Progress); err != nil {
			return nil, fmt.Errorf("template %q: %w", b.name, err)
		}
	}
	return missing, nil
}

// buildMissing builds templates one after the other while machines run already.
func (e *Engine) buildMissing(missing []builtin) {
	for _, b := range missing {
		err := e.loadTemplate(e.life, b, func(p Progress) { e.builds.report(b.name, p) })
		e.builds.finish(b.name, err)
		if err != nil && e.life.Err() == nil {
			e.log.Error("a template could not be built; it is tried again at the next start", "template", b.name, "error", err)
		}
	}
}

// builtRecord returns the record of a template's last build, empty if there was
// none, and whether that build is current and there.
func (e *Engine) builtRecord(ctx context.Context, b builtin) (record Template, there bool, err error) {
	_, err = e.built.Get(ctx, b.name, &record)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return record, false, fmt.Errorf("read its record: %w", err)
	}
	return record, record.BuildID == e.buildID(b) && e.hasTree(record.tree()), nil
}

// loadTemplate makes a built-in template known, and builds it first if need be.
func (e *Engine) loadTemplate(ctx context.Context, b builtin, progress func(Progress)) error {
	record, there, err := e.builtRecord(ctx, b)
	if err != nil {
		return err
	}
	if !there {
		now := e.now()
		if record.CreatedAt.IsZero() {
			record.CreatedAt = now
		}
		record.ID, record.Names, record.BuildID, record.UpdatedAt = b.name, []string{b.name}, e.buildID(b), now
		record.CPUs, record.MemoryMB, record.DiskMB, record.ShowsCheckpoints = b.cpus, b.memoryMB, b.diskMB, b.showsCheckpoints
		if err := e.buildTemplate(ctx, b, record, progress); err != nil {
			return err
		}
		if _, err := e.built.Put(ctx, b.name, record); err != nil {
			return fmt.Errorf("record the build: %w", err)
		}
		e.log.Info("template built", "template", b.name, "build", record.BuildID, "took", e.now().Sub(now))
	}
	if err := e.removeOldBuilds(ctx, b, record.tree()); err != nil {
		e.log.Warn("old builds of a template are still there", "template", b.name, "error", err)
	}
	t := e.templateOf(record)
	t.disks, t.kernels = make(chan string, disksAhead), b.kernels
	e.mu.Lock()
	e.templates = append(e.templates, t)
	e.mu.Unlock()
	e.pool.open(t)
	e.background.Go(func() { e.keepDisks(t) })
	return nil
}

// buildID changes with everything that a snapshot depends on.
func (e *Engine) buildID(b builtin) string {
	platform := e.config.Bundle + e.runtime.ImageKey()
	if b.showsCheckpoints {
		platform += checkpointsFolder
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %v %d %d", b.key(), platform, guestEnv, b.cpus, b.memoryMB))
	return hex.EncodeToString(sum[:])[:16]
}

// image names the tree with the template's root file system.
func (b builtin) image() string { return imageTrees + b.name + "-" + b.key() }

// buildTemplate makes a root file system where there is none yet, boots it,
// waits for the daemon inside and keeps memory and disk of that instant.
func (e *Engine) buildTemplate(ctx context.Context, b builtin, record Template, progress func(Progress)) error {
	rootfs, tree := b.image(), record.tree()
	if !e.hasTree(rootfs) {
		if err := e.buildImage(ctx, b, rootfs, progress); err != nil {
			return err
		}
	}
	progress(Progress{Work: b.name + " template", Step: "booting it once", Done: 0.97, Left: 2 * time.Second})
	id := newID()
	staging := machineTrees + id // a guest that is not in the records is removed at start
	staged, err := e.disks.Clone(ctx, rootfs, staging, disk.CloneOptions{})
	if err != nil {
		return fmt.Errorf("copy the root file system: %w", err)
	}
	g := &guest{id: id}
	defer e.discard(g)
	if err := e.makeMountPoints(staging, record.ShowsCheckpoints); err != nil {
		return err
	}
	if g.slot, err = e.network.Acquire(ctx, network.Policy{}); err != nil {
		return fmt.Errorf("take a network slot: %w", err)
	}
	l := launch{
		tree: staged.Path, bundle: e.config.Bundle,
		cpus: record.CPUs, memoryMB: record.MemoryMB, showsCheckpoints: record.ShowsCheckpoints,
	}
	if err := e.startGuest(ctx, g, l); err != nil {
		return err
	}
	if b.kernels {
		if err := waitKernels(ctx, g.control.address); err != nil {
			return err
		}
	}
	if err := (trial{rounds: 3, kernels: b.kernels, sprite: record.ShowsCheckpoints}).run(ctx, g.control.address); err != nil {
		return fmt.Errorf("try the guest out before its snapshot: %w", err)
	}
	g.control.close()
	if err := e.runtime.Pause(ctx, id); err != nil {
		return fmt.Errorf("pause the guest: %w", err)
	}
	if _, err := e.runtime.Checkpoint(ctx, id, filepath.Join(staged.Path, memoryFolder)); err != nil {
		return fmt.Errorf("write the memory image: %w", err)
	}
	if e.hasTree(tree) { // of a build whose record was never written
		if err := e.disks.Remove(ctx, tree); err != nil {
			return err
		}
	}
	if _, err := e.disks.Clone(ctx, staging, tree, disk.CloneOptions{ReadOnly: true}); err != nil {
		return fmt.Errorf("keep the snapshot: %w", err)
	}
	return nil
}

// buildImage makes the root file system of a template.
func (e *Engine) buildImage(ctx context.Context, b builtin, tree string, progress func(Progress)) error {
	staging := stagingTrees + newID()
	staged, err := e.disks.Create(ctx, staging)
	if err != nil {
		return fmt.Errorf("make room for the root file system: %w", err)
	}
	defer e.disks.Remove(context.WithoutCancel(ctx), staging)
	dir := filepath.Join(staged.Path, rootfsFolder)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	err = b.build(ctx, dir, func(p image.Progress) {
		progress(Progress{Work: b.name + " template", Step: p.Step, Done: 0.97 * float64(p.Done) / float64(max(p.Total, 1)), Left: p.ETA})
	})
	if err != nil {
		return fmt.Errorf("make the root file system: %w", err)
	}
	if _, err := e.disks.Clone(ctx, staging, tree, disk.CloneOptions{ReadOnly: true}); err != nil {
		return fmt.Errorf("keep the root file system: %w", err)
	}
	return nil
}

// removeOldBuilds removes the trees of a template that are not current. The
// machines made from them have disks of their own.
func (e *Engine) removeOldBuilds(ctx context.Context, b builtin, current string) error {
	var errs []error
	for _, kind := range []string{templateTrees, imageTrees} {
		trees, err := e.disks.List(ctx, kind)
		errs = append(errs, err)
		for _, tree := range trees {
			ours := strings.HasPrefix(tree.Name, kind+b.name+"-")
			if ours && tree.Name != current && tree.Name != b.image() {
				errs = append(errs, e.disks.Remove(ctx, tree.Name))
			}
		}
	}
	return errors.Join(errs...)
}

// makeMountPoints makes the folders of the root file system at which the guest
// daemon is shown, and the machine's checkpoints.
func (e *Engine) makeMountPoints(tree string, checkpoints bool) error {
	root, err := e.disks.Root(tree)
	if err != nil {
		return fmt.Errorf("open the root file system: %w", err)
	}
	defer root.Close()
	if err := root.MkdirAll(rootfsFolder+guestFolder, 0o755); err != nil {
		return fmt.Errorf("make the guest daemon's folder: %w", err)
	}
	if !checkpoints {
		return nil
	}
	if err := root.MkdirAll(rootfsFolder+checkpointsFolder, 0o755); err != nil {
		return fmt.Errorf("make the checkpoints' folder: %w", err)
	}
	return nil
}

func (e *Engine) hasTree(name string) bool {
	_, err := os.Stat(e.disks.Path(name))
	return err == nil
}
