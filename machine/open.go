package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atoll-cloud/atoll/disk"
	"github.com/atoll-cloud/atoll/gvisor"
	"github.com/atoll-cloud/atoll/network"
	"github.com/atoll-cloud/atoll/store"
)

// Open starts the engine: it takes over the machines that a previous server
// left running, finishes or undoes what that one was doing, builds templates
// that are missing and begins to fill the warm pool.
func Open(ctx context.Context, config Config, records *store.Store, observer Observer) (_ *Engine, err error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	e := &Engine{
		config: config, log: config.Logger, now: config.Now, started: config.Now(),
		making: make(chan struct{}, makers()), pool: newPool(config.Pool, config.PoolMax),
		meters:    meters{observer: observer},
		instances: map[string]*instance{}, held: map[string]int{},
	}
	e.life, e.kill = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close(false))
		}
	}()
	if err := e.openRecords(ctx, records); err != nil {
		return nil, err
	}
	if err := e.openParts(ctx); err != nil {
		return nil, err
	}
	missing, err := e.loadTemplates(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.loadSnapshots(ctx); err != nil {
		return nil, err
	}
	if err := e.loadCheckpoints(ctx); err != nil {
		return nil, err
	}
	if err := e.removeOldBundles(); err != nil {
		e.log.Warn("old versions of the helper binaries are still there", "error", err)
	}
	if e.config.Meter != nil {
		e.config.Meter.Keep()
	}
	// Builds begin here and not before: what nobody owns has been removed by now,
	// and a guest that a template is made of has no record.
	e.background.Go(func() { e.buildMissing(missing) })
	e.background.Go(func() { e.keepSamples(e.life) })
	e.background.Go(e.keepIdle)
	e.background.Go(func() { e.sweepEnded(e.life) })
	for range runtime.NumCPU() {
		e.background.Go(e.keepPool)
	}
	return e, nil
}

func (e *Engine) openRecords(ctx context.Context, records *store.Store) (err error) {
	for name, bucket := range map[string]**store.Bucket{"machines": &e.machines, "ended": &e.ended, "templates": &e.built, "checkpoints": &e.kept} {
		if *bucket, err = records.Bucket(ctx, name); err != nil {
			return fmt.Errorf("open the records of %s: %w", name, err)
		}
	}
	e.events, err = records.Log(ctx, "events", store.LogLimits{MaxAge: 7 * 24 * time.Hour, MaxBytes: 256 * mib})
	if err != nil {
		return fmt.Errorf("open the event log: %w", err)
	}
	return os.MkdirAll(filepath.Join(e.config.DataDir, "logs"), 0o700)
}

// openParts opens disk, runtime and network and sorts out what they hold.
func (e *Engine) openParts(ctx context.Context) (err error) {
	c := e.config
	e.disks, err = disk.Open(ctx, disk.Config{Dir: filepath.Join(c.DataDir, "disks"), PoolSizeBytes: c.DiskPoolBytes, Logger: c.Logger})
	if err != nil {
		return fmt.Errorf("open the disks: %w", err)
	}
	e.runtime, err = gvisor.Open(ctx, gvisor.Config{
		Root: filepath.Join(c.RunDir, "g"), BinDir: c.binDir(c.Bundle), CgroupParent: "atoll-" + c.Instance, Workers: makers(), Logger: c.Logger,
	})
	if err != nil {
		return fmt.Errorf("open the runtime: %w", err)
	}
	if !e.hasTree(memoryTree) {
		if _, err := e.disks.Create(ctx, memoryTree); err != nil {
			return fmt.Errorf("make room for memory images: %w", err)
		}
	}
	records, err := e.readRecords(ctx)
	if err != nil {
		return err
	}
	guests := e.runtime.List(ctx)
	alive := map[string]bool{}
	for _, g := range guests {
		alive[g.ID] = g.Alive
	}
	inUse := map[int]network.Policy{}
	for _, r := range records {
		if (r.State == Running || r.State == Frozen) && alive[r.ID] {
			inUse[r.Slot] = r.Network
		}
	}
	if err := e.sweepGuests(ctx, records, guests); err != nil {
		return err
	}
	n := &e.config.Network
	n.Prefix, n.RunDir, n.Ahead, n.Logger = c.Instance, filepath.Join(c.RunDir, "n"), c.Pool+8, c.Logger
	e.network, err = network.Open(ctx, *n, inUse)
	if err != nil {
		return fmt.Errorf("open the network: %w", err)
	}
	return each(slices.Collect(maps.Values(records)), func(r Machine) error {
		if err := e.adopt(ctx, r, alive[r.ID]); err != nil {
			return fmt.Errorf("take over machine %s: %w", r.ID, err)
		}
		return nil
	})
}

// readRecords returns the records of machines that are not ended, by id.
func (e *Engine) readRecords(ctx context.Context) (map[string]Machine, error) {
	records := map[string]Machine{}
	err := e.machines.All(ctx, func(key string, data []byte) error {
		var r Machine
		if err := json.Unmarshal(data, &r); err != nil {
			return fmt.Errorf("the record of machine %s: %w", key, err)
		}
		records[r.ID] = r
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the records of machines: %w", err)
	}
	return records, nil
}

// sweepGuests removes guests, disks and images that no machine owns: half-made
// machines, the warm pool, and those whose end was interrupted. Of machines that
// are on the disk it ends the guests alone: they lingered, or were being woken.
func (e *Engine) sweepGuests(ctx context.Context, records map[string]Machine, guests []gvisor.Info) error {
	orphans := map[string]*guest{}
	for _, g := range guests {
		orphans[g.ID] = &guest{id: g.ID}
	}
	trees, err := e.disks.List(ctx, machineTrees)
	if err != nil {
		return fmt.Errorf("list the disks of machines: %w", err)
	}
	for _, tree := range trees {
		id := strings.TrimPrefix(tree.Name, machineTrees)
		orphans[id] = &guest{id: id}
	}
	images, err := os.ReadDir(e.disks.Path(memoryTree))
	if err != nil {
		return fmt.Errorf("list the memory images: %w", err)
	}
	for _, image := range images {
		if r, ok := records[image.Name()]; ok && r.Image != nil {
			continue
		}
		if err := e.removeImage(image.Name()); err != nil {
			return err
		}
	}
	var lingering []*guest
	for id, r := range records {
		if g := orphans[id]; g != nil && r.State == Stored && slices.ContainsFunc(guests, func(i gvisor.Info) bool { return i.ID == id }) {
			lingering = append(lingering, g)
		}
		delete(orphans, id)
	}
	staged, err := e.disks.List(ctx, stagingTrees)
	if err != nil {
		return fmt.Errorf("list unfinished disks: %w", err)
	}
	for _, tree := range staged {
		if err := e.disks.Remove(ctx, tree.Name); err != nil {
			return fmt.Errorf("remove the unfinished disk %s: %w", tree.Name, err)
		}
	}
	if len(orphans) > 0 {
		e.log.Info("removing guests that no machine owns", "count", len(orphans))
	}
	return errors.Join(
		each(slices.Collect(maps.Values(orphans)), func(g *guest) error { return e.takeApart(ctx, g) }),
		each(lingering, func(g *guest) error { return e.endGuest(ctx, g) }),
	)
}

// each runs f for all values, several at once, and returns all errors.
func each[V any](values []V, f func(V) error) error {
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		errs  []error
		place = make(chan struct{}, 2*makers())
	)
	for _, v := range values {
		place <- struct{}{}
		group.Go(func() {
			defer func() { <-place }()
			if err := f(v); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// adopt takes over a machine from its record: one that runs or is frozen goes
// on, one that is stored stays so, any other is brought to its end.
func (e *Engine) adopt(ctx context.Context, r Machine, alive bool) error {
	if r.Bundle == "" { // made by a version that did not record it
		r.Bundle = e.config.Bundle
	}
	m := newInstance(r, nil)
	if r.State != Ending {
		if err := e.takeNames(r); err != nil {
			return err
		}
	}
	e.mu.Lock()
	e.instances[r.ID] = m
	if m.placed {
		e.held[r.Team]++
	}
	e.mu.Unlock()
	if r.State == Stored && !e.hasTree(machineTrees+r.ID) {
		e.log.Error("the disk of a machine that was asleep is gone", "machine", r.ID, "team", r.Team)
		return e.finish(ctx, m, ReasonLost)
	}
	if r.State == Stored {
		m.op.Lock()
		defer m.op.Unlock()
		e.meterAdopt(r)
		e.schedule(m)
		return nil
	}
	g := &guest{id: r.ID, named: true}
	m.setLive(g)
	if r.Lifecycle.Lasting && !alive && (r.State == Running || r.State == Frozen) {
		m.op.Lock()
		defer m.op.Unlock()
		e.log.Info("a lasting machine has lost its guest; the next use boots it", "machine", r.ID)
		return e.lieDown(ctx, m, ReasonLost, ReasonLost)
	}
	if !alive || r.State != Running && r.State != Frozen {
		reason := r.EndReason
		if r.State == Running || r.State == Frozen {
			reason = ReasonLost
		}
		return e.finish(ctx, m, reason)
	}
	slot, err := e.network.Attach(r.Slot)
	if err != nil && r.Lifecycle.Lasting {
		m.op.Lock()
		defer m.op.Unlock()
		e.log.Error("a lasting machine cannot be reached any more and is booted by the next use", "machine", r.ID, "error", err)
		return e.lieDown(ctx, m, ReasonLost, ReasonLost)
	}
	if err != nil {
		e.log.Error("a machine cannot be reached any more and is ended", "machine", r.ID, "error", err)
		return e.finish(ctx, m, ReasonLost)
	}
	g.slot = slot
	g.control = &control{address: slot.Address.Addr(), token: r.ControlToken}
	m.op.Lock()
	defer m.op.Unlock()
	e.meterAdopt(r)
	if r.State == Running {
		// The last server may have been killed between the record and the act.
		if err := e.runtime.Resume(ctx, r.ID); err != nil {
			if r.Lifecycle.Lasting {
				e.log.Error("a lasting machine does not go on and is booted by the next use", "machine", r.ID, "error", err)
				return e.lieDown(ctx, m, ReasonLost, ReasonLost)
			}
			e.log.Error("a machine does not go on and is ended", "machine", r.ID, "error", err)
			return e.end(ctx, m, ReasonLost)
		}
	}
	m.connect()
	e.schedule(m)
	e.watch(m, g)
	e.log.Info("machine taken over", "machine", r.ID)
	return nil
}

// Close stops the engine. With end it ends all machines that are not paused, and
// stores those that are lasting; else they go on running, for the next server to
// take over. Paused ones only give up the memory that they linger in. What the host holds for machines is
// taken down when none is left in memory.
func (e *Engine) Close(end bool) error {
	e.mu.Lock()
	e.kill() // from here on nothing begins
	e.mu.Unlock()
	e.creating.Wait()
	e.background.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 2*endTimeout)
	defer cancel()

	errs := []error{each(e.pool.drain(), func(g *guest) error { return e.takeApart(ctx, g) })}
	var awake atomic.Int64
	errs = append(errs, each(e.all(), func(m *instance) error {
		m.op.Lock()
		defer m.op.Unlock()
		if m.timer != nil {
			m.timer.Stop()
		}
		switch r := m.record(); {
		case r.State == Ended:
			return nil
		case r.State == Stored && (r.Paused || r.Lifecycle.Lasting || !end):
			return e.letGo(ctx, m)
		case end && r.Lifecycle.Lasting && (r.State == Running || r.State == Frozen):
			return e.putAway(ctx, m)
		case end:
			return e.end(ctx, m, ReasonStopped)
		}
		awake.Add(1)
		m.sever()
		if g := m.live(); g != nil && g.control != nil {
			g.control.close()
		}
		return nil
	}))
	e.background.Wait() // what putting machines away has left to do
	return errors.Join(append(errs, e.closeParts(ctx, awake.Load() == 0))...)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// closeParts closes what openParts opened. With all, what the host holds for
// machines goes too.
func (e *Engine) closeParts(ctx context.Context, all bool) error {
	var errs []error
	if e.network != nil {
		if all {
			errs = append(errs, e.network.Purge())
		} else {
			errs = append(errs, e.network.Close())
		}
	}
	if e.runtime != nil {
		if all {
			errs = append(errs, e.runtime.Purge(ctx))
		} else {
			errs = append(errs, e.runtime.Close())
		}
	}
	if e.disks != nil {
		errs = append(errs, e.disks.Close(all))
	}
	if all && e.network != nil {
		for _, dir := range []string{e.config.Network.RunDir, e.config.RunDir} {
			errs = append(errs, ignoreMissing(os.Remove(dir)))
		}
	}
	return errors.Join(errs...)
}
