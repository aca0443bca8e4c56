package gvisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// createTimeout bounds one attempt to create a sandbox. The worker is killed
// when it is over.
const createTimeout = 60 * time.Second

// Boot creates a sandbox and starts its guest anew. It returns when the first
// process has been started.
func (r *Runtime) Boot(ctx context.Context, spec Spec) error { return r.create(ctx, spec, "") }

// Restore creates a sandbox whose guest goes on from the checkpoint in
// imageDir. spec.Rootfs must be a copy of the root as it was then: gVisor does
// not notice another one. It returns with the guest running, or paused if the
// spec says so.
//
// A paused restore compares everything in imageDir with its checksums, and the
// image's key with that of the version (Spec.BinDir): ErrDamaged and
// ErrIncompatible say that it cannot be used, and no program of the guest has
// run. Others, of images that the host keeps to itself, are as fast as can be
// and look for such a reason only when they fail.
func (r *Runtime) Restore(ctx context.Context, spec Spec, imageDir string) error {
	if !filepath.IsAbs(imageDir) {
		return fmt.Errorf("checkpoint directory %q is not absolute", imageDir)
	}
	return r.create(ctx, spec, imageDir)
}

func (r *Runtime) create(ctx context.Context, spec Spec, imageDir string) error {
	if err := spec.check(); err != nil {
		return err
	}
	g := newGuest(spec.ID)
	g.op.Lock()
	defer g.op.Unlock()
	r.mu.Lock()
	if r.closed || r.machines[spec.ID] != nil {
		r.mu.Unlock()
		return fmt.Errorf("create sandbox %s: %w", spec.ID, ErrExists)
	}
	r.machines[spec.ID] = g
	r.mu.Unlock()

	err := r.tries(ctx, g, &spec, imageDir)
	if err != nil {
		r.mu.Lock()
		delete(r.machines, spec.ID)
		r.mu.Unlock()
		g.ended()
		return fmt.Errorf("create sandbox %s: %w", spec.ID, err)
	}
	r.watch(g)
	return nil
}

// tries makes two attempts, as long as it is not the image that is at fault.
func (r *Runtime) tries(ctx context.Context, g *guest, spec *Spec, imageDir string) error {
	var image *protocol.Image
	if imageDir != "" && spec.Paused {
		var err error
		if image, err = r.wants(ctx, imageDir, spec.BinDir); err != nil {
			return err
		}
	}
	err := r.attempt(ctx, g, spec, imageDir, image)
	if err == nil || ctx.Err() != nil || errors.Is(err, ErrDamaged) || errors.Is(err, ErrIncompatible) {
		return err
	}
	if imageDir != "" && image == nil {
		if found := r.diagnose(ctx, imageDir, spec.BinDir); found != nil {
			return fmt.Errorf("%w (%w)", found, err)
		}
	}
	// Rare failures of unclear cause are not repeated by another worker.
	r.cfg.Logger.Warn("creating a sandbox failed; trying once more", slog.String("sandbox", spec.ID), slog.Any("error", err))
	return r.attempt(ctx, g, spec, imageDir, image)
}

// attempt leaves nothing behind if it fails.
func (r *Runtime) attempt(ctx context.Context, g *guest, spec *Spec, imageDir string, image *protocol.Image) (err error) {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	link, files, err := spec.link()
	if err != nil {
		return err
	}
	h, release, err := r.helpersOf(spec.BinDir)
	if err != nil {
		return err
	}
	defer release()
	w, err := h.pool.take(ctx)
	if err != nil {
		return err
	}
	defer h.pool.give(w)
	if err := r.prepare(spec); err != nil {
		return errors.Join(err, r.clear(g))
	}
	cwd := spec.Cwd
	if cwd == "" {
		cwd = "/"
	}
	req := &protocol.Request{Op: protocol.OpCreate, ID: spec.ID, StateDir: r.stateDir(spec.ID), ImageDir: imageDir, Image: image,
		Create: &protocol.Create{
			Root: r.gvisorDir(), NetNS: r.netNS(), CgroupPath: r.cgroups.clonePath(spec.ID),
			Rootfs: spec.Rootfs, Args: spec.Args, Env: spec.Env, Cwd: cwd, Hostname: spec.Hostname,
			LogFile: spec.LogFile, Link: link, DebugDir: r.debugDir(),
			Paused: spec.Paused && imageDir != "",
		}}
	for _, m := range spec.Mounts {
		req.Create.Mounts = append(req.Create.Mounts, protocol.Mount(m))
	}
	resp, err := w.call(ctx, req, files...)
	if err == nil {
		err = r.record(g, resp, h.cfg.BinDir)
	}
	if err != nil {
		if ctx.Err() != nil {
			w.kill()
		}
		return errors.Join(err, r.clear(g))
	}
	return nil
}

// prepare makes the cgroup and the files that the sandbox's processes read
// when they start.
func (r *Runtime) prepare(spec *Spec) error {
	dir := r.stateDir(spec.ID)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	limits := limits{CPUs: spec.CPUs, PIDs: spec.PIDs}
	if spec.MemoryBytes > 0 {
		limits.Memory = spec.MemoryBytes + MemoryOverhead(spec.MemoryBytes)
	}
	join, err := r.cgroups.create(spec.ID, limits)
	if err != nil {
		return err
	}
	if err := protocol.SetPaused(dir, false); err != nil {
		return err
	}
	list := strings.Join(join, "\n")
	if list != "" {
		list += "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, protocol.JoinFile), []byte(list), 0o600); err != nil {
		return fmt.Errorf("write cgroup list: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, protocol.LimitsFile), []byte(seenLimits(spec)), 0o600); err != nil {
		return fmt.Errorf("write limits: %w", err)
	}
	return nil
}

// seenLimits is what the guest sees as its CPUs and memory.
func seenLimits(spec *Spec) string {
	cpus := runtime.NumCPU()
	if spec.CPUs > 0 {
		cpus = int(math.Ceil(spec.CPUs))
	}
	memory := uint64(spec.MemoryBytes)
	if memory == 0 {
		var info unix.Sysinfo_t
		if unix.Sysinfo(&info) == nil {
			memory = uint64(info.Totalram) * uint64(info.Unit)
		}
	}
	return strconv.Itoa(cpus) + " " + strconv.FormatUint(memory, 10) + "\n"
}

func (r *Runtime) debugDir() string {
	if !r.cfg.Debug {
		return ""
	}
	return filepath.Join(r.cfg.Root, "debug")
}
