package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/atoll-cloud/atoll/gvisor"
	"github.com/atoll-cloud/atoll/network"
)

// Names of trees on the disk pool, and of what is in one.
const (
	machineTrees  = "machines/"
	templateTrees = "templates/"
	stagingTrees  = "staging/"

	rootfsFolder = "rootfs" // the guest's root file system
	logFile      = "log"    // its log, beside it and under the same quota
)

// The guest daemon is shown in every machine from one folder of the host: it
// is no part of the machine's disk, and its pages are in memory once.
const (
	guestFolder = "/usr/lib/atoll"
	guestBinary = guestFolder + "/atoll-guest"
)

const mib = 1 << 20

// makeGuest makes a live guest of a template: a copy of its disk, a network
// slot, its snapshot restored. The guest answers, and has no identity yet. One
// made of a machine's snapshot is left paused, since programs are in it that
// must not run before it has.
func (e *Engine) makeGuest(ctx context.Context, t *template) (_ *guest, err error) {
	select {
	case e.making <- struct{}{}:
		defer func() { <-e.making }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a place to make a machine in: %w", ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, makeTimeout)
	defer cancel()

	id, tree, err := e.takeDisk(ctx, t)
	if err != nil {
		return nil, err
	}
	g := &guest{id: id, template: t}
	if t.once { // the log is that of the machine that it is a copy of
		if err := os.Truncate(filepath.Join(tree, logFile), 0); err != nil {
			return nil, errors.Join(fmt.Errorf("empty the log: %w", err), e.takeApart(ctx, g))
		}
	}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
			defer cancel()
			err = errors.Join(err, e.takeApart(ctx, g))
		}
	}()
	if g.slot, err = e.network.Acquire(ctx, network.Policy{}); err != nil {
		return nil, fmt.Errorf("take a network slot: %w", err)
	}
	record := t.snapshot()
	l := launch{
		tree: tree, image: t.memory, bundle: e.config.Bundle,
		cpus: record.CPUs, memoryMB: record.MemoryMB, showsCheckpoints: record.ShowsCheckpoints,
	}
	if s := record.Snapshot; s != nil {
		l.bundle, l.paused = s.Image.Bundle, true
	} else if e.config.Cold {
		l.image = ""
	}
	if err := e.startGuest(ctx, g, l); err != nil {
		return nil, err
	}
	if record.Snapshot != nil {
		g.control.token = record.Snapshot.ControlToken
	}
	return g, nil
}

// launch is how a guest comes to life on its disk and its slot.
type launch struct {
	tree           string // folder of the tree with its root file system
	image          string // folder of its memory image; empty: it boots
	bundle         string // version of the helper binaries it runs on
	cpus, memoryMB int
	// showsCheckpoints is whether the guest has the mount for them.
	showsCheckpoints bool
	// paused leaves a restored guest paused, before its first instruction.
	// Others are waited for until the daemon inside answers.
	paused bool
}

// startGuest restores a memory image, or boots where there is none.
func (e *Engine) startGuest(ctx context.Context, g *guest, l launch) error {
	tap, err := g.slot.OpenTap()
	if err != nil {
		return fmt.Errorf("open the network slot: %w", err)
	}
	defer tap.Close()
	mounts := []gvisor.Mount{{Source: e.config.guestDir(l.bundle), Target: guestFolder}}
	if l.showsCheckpoints {
		folder, err := e.disks.Folder(checkpointTrees + g.id)
		if err != nil {
			return fmt.Errorf("make the folder of the machine's checkpoints: %w", err)
		}
		mounts = append(mounts, gvisor.Mount{Source: folder, Target: checkpointsFolder})
	}
	spec := gvisor.Spec{
		ID:          g.id,
		Rootfs:      filepath.Join(l.tree, rootfsFolder),
		Args:        []string{guestBinary},
		Env:         guestEnv,
		Cwd:         "/",
		Hostname:    "atoll",
		CPUs:        float64(l.cpus),
		MemoryBytes: int64(l.memoryMB) * mib,
		PIDs:        hostPIDs,
		BinDir:      e.config.binDir(l.bundle),
		Paused:      l.paused,
		LogFile:     filepath.Join(l.tree, logFile),
		Mounts:      mounts,
		Link: &gvisor.Link{
			Tap:     tap,
			Name:    "eth0",
			MAC:     g.slot.MAC,
			MTU:     g.slot.MTU,
			Address: g.slot.Address,
			Gateway: g.slot.Gateway,

			GatewayMAC: g.slot.GatewayMAC,
			UplinkMTU:  g.slot.UplinkMTU,
		},
	}
	if l.image == "" {
		err = e.runtime.Boot(ctx, spec)
	} else {
		err = e.runtime.Restore(ctx, spec, l.image)
	}
	if err != nil {
		return fmt.Errorf("start the guest: %w", imageError(err))
	}
	g.control = &control{address: g.slot.Address.Addr()}
	if g.paused = l.paused; g.paused {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return g.control.ready(ctx)
}

// imageError turns the runtime's complaints about an image into ours.
func imageError(err error) error {
	for theirs, ours := range map[error]error{gvisor.ErrDamaged: ErrDamaged, gvisor.ErrIncompatible: ErrIncompatible} {
		if errors.Is(err, theirs) {
			// What lies before tells of our steps, not of the image.
			_, reason, _ := strings.Cut(err.Error(), theirs.Error())
			return fmt.Errorf("%w: %w%s", ours, theirs, reason)
		}
	}
	return err
}

// guestEnv is the environment of the guest daemon. It runs on one processor:
// each thread of a guest costs memory on the host, and handing work from one
// to another costs more there than it gains.
var guestEnv = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"ATOLL_PIDS_MAX=" + strconv.Itoa(guestPIDs),
	"GOMAXPROCS=1",
}

const (
	// guestPIDs limits the processes of users, counted inside the guest, where
	// one too many is an error that programs understand.
	guestPIDs = 1024
	// hostPIDs limits the tasks of the sandbox on the host, some five for each
	// process of the guest: the guest's own limit is met first.
	hostPIDs = 8192
)

// endGuest ends a guest's processes and gives back its slot and its memory. Its
// disk stays. It may be called again after an error.
func (e *Engine) endGuest(ctx context.Context, g *guest) error {
	if g.control != nil {
		g.control.close()
	}
	if err := e.runtime.Destroy(ctx, g.id); err != nil {
		return fmt.Errorf("end the guest: %w", err)
	}
	if g.slot != nil {
		// A slot in use must not be given to another machine: only after the end.
		e.network.Release(g.slot)
		g.slot = nil
	}
	return nil
}

// takeApart frees all that a guest occupies, its disk and image included. It
// may be called again after an error.
func (e *Engine) takeApart(ctx context.Context, g *guest) error {
	if err := e.endGuest(ctx, g); err != nil {
		return err
	}
	if g.named {
		if err := e.keepLog(g.id); err != nil {
			e.log.Warn("the log of an ended machine was not kept", "machine", g.id, "error", err)
		}
		if err := e.removeImage(g.id); err != nil {
			return err
		}
	}
	if err := e.removeCheckpoints(ctx, g.id); err != nil {
		return err
	}
	if err := e.disks.Remove(ctx, machineTrees+g.id); err != nil {
		return fmt.Errorf("remove the disk: %w", err)
	}
	return nil
}
