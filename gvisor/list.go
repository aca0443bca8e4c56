package gvisor

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// pingTimeout is how long a sandbox may take to answer before it counts as hung.
const pingTimeout = 5 * time.Second

// maxAsking is how many are asked at the same time.
const maxAsking = 16

// Info is what is known of a guest.
type Info struct {
	ID     string
	PID    int  // of its sandbox, on the host
	Alive  bool // it answers; one that is not can only be destroyed
	Paused bool
}

// List tells of every guest there is, by ID, asking each whether it is alive.
func (r *Runtime) List(ctx context.Context) []Info {
	r.mu.Lock()
	guests := make([]*guest, 0, len(r.machines))
	for _, g := range r.machines {
		guests = append(guests, g)
	}
	r.mu.Unlock()
	slices.SortFunc(guests, func(a, b *guest) int { return strings.Compare(a.id, b.id) })
	infos := make([]Info, len(guests))
	there := make([]bool, len(guests))
	var asking errgroup.Group
	asking.SetLimit(maxAsking) // one that hangs must not make all wait
	for i, g := range guests {
		asking.Go(func() error {
			infos[i], there[i] = r.look(ctx, g)
			return nil
		})
	}
	_ = asking.Wait() // looking does not fail
	listed := infos[:0]
	for i, info := range infos {
		if there[i] {
			listed = append(listed, info)
		}
	}
	return listed
}

func (r *Runtime) look(ctx context.Context, g *guest) (Info, bool) {
	g.op.Lock()
	defer g.op.Unlock()
	r.mu.Lock()
	there := r.machines[g.id] == g
	r.mu.Unlock()
	if !there {
		return Info{}, false // failed to be created, or destroyed meanwhile
	}
	info := Info{ID: g.id, PID: g.info.PID}
	select {
	case <-g.exited:
		return info, true
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if h, release, err := r.helpersFor(g); err == nil {
		_, err = h.call(ctx, &protocol.Request{Op: protocol.OpPing, ID: g.id, StateDir: r.stateDir(g.id), Socket: r.socket(g.id)})
		release()
		info.Alive = err == nil
	}
	paused, err := protocol.Paused(r.stateDir(g.id))
	info.Paused = info.Alive && paused && err == nil
	return info, true
}

// adopt finds the guests of an earlier daemon. What it was only creating is
// cleared away; what has ended since is listed as not alive.
func (r *Runtime) adopt(ctx context.Context) error {
	entries, err := os.ReadDir(r.machinesDir())
	if err != nil {
		return fmt.Errorf("read sandbox directory: %w", err)
	}
	known := make(map[string]bool, len(entries))
	for _, e := range entries {
		g := newGuest(e.Name())
		if !validID.MatchString(g.id) {
			continue
		}
		known[g.id] = true
		if g.info, err = readInfo(r.stateDir(g.id)); err != nil {
			r.cfg.Logger.Info("clearing away a sandbox that was not finished", slog.String("sandbox", g.id))
			if err := r.clear(g); err != nil {
				return fmt.Errorf("clear away sandbox %s: %w", g.id, err)
			}
			continue
		}
		pidfd, err := openProcess(g.info)
		if err != nil {
			r.cfg.Logger.Info("a sandbox has ended meanwhile", slog.String("sandbox", g.id), slog.Any("error", err))
			g.ended()
		} else {
			r.setProcess(g, pidfd)
			r.watch(g)
			g.roomy.Store(true) // perhaps; looked at when it is resumed
		}
		r.machines[g.id] = g
	}
	return r.cgroups.sweep(ctx, known)
}
