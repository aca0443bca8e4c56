package machine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

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
// slot, its snapshot restored. The guest answers, and has no identity yet.
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
	image := t.memory
	if e.config.Cold {
		image = ""
	}
	if err := e.startGuest(ctx, g, t.snapshot(), tree, image); err != nil {
		return nil, err
	}
	return g, nil
}

// startGuest restores a memory image, or boots where there is none, on the
// guest's disk and slot, and waits for the daemon inside.
func (e *Engine) startGuest(ctx context.Context, g *guest, t Template, tree, image string) error {
	tap, err := g.slot.OpenTap()
	if err != nil {
		return fmt.Errorf("open the network slot: %w", err)
	}
	defer tap.Close()
	spec := gvisor.Spec{
		ID:          g.id,
		Rootfs:      filepath.Join(tree, rootfsFolder),
		Args:        []string{guestBinary},
		Env:         guestEnv,
		Cwd:         "/",
		Hostname:    "atoll",
		CPUs:        float64(t.CPUs),
		MemoryBytes: int64(t.MemoryMB) * mib,
		PIDs:        hostPIDs,
		LogFile:     filepath.Join(tree, logFile),
		Mounts:      []gvisor.Mount{{Source: e.config.guestDir(e.config.Bundle), Target: guestFolder}},
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
	if image == "" {
		err = e.runtime.Boot(ctx, spec)
	} else {
		err = e.runtime.Restore(ctx, spec, image)
	}
	if err != nil {
		return fmt.Errorf("start the guest: %w", err)
	}
	g.control = &control{address: g.slot.Address.Addr()}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return g.control.ready(ctx)
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

// takeApart frees all that a guest occupies. It goes on after an error, so
// that one stuck part does not keep the others, and may be called again.
func (e *Engine) takeApart(ctx context.Context, g *guest) error {
	if g.control != nil {
		g.control.close()
	}
	var errs []error
	if err := e.runtime.Destroy(ctx, g.id); err != nil {
		errs = append(errs, fmt.Errorf("end the guest: %w", err))
	} else if g.slot != nil {
		// A slot in use must not be given to another machine: only after the end.
		e.network.Release(g.slot)
		g.slot = nil
	}
	if len(errs) == 0 {
		if g.named {
			if err := e.keepLog(g.id); err != nil {
				e.log.Warn("the log of an ended machine was not kept", "machine", g.id, "error", err)
			}
		}
		if err := e.disks.Remove(ctx, machineTrees+g.id); err != nil {
			errs = append(errs, fmt.Errorf("remove the disk: %w", err))
		}
	}
	return errors.Join(errs...)
}

// timed runs f and returns how long it took.
func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}
