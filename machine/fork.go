package machine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/disk"
	"github.com/atoll-cloud/atoll/gvisor"
	"github.com/atoll-cloud/atoll/observe"
)

// MaxForks is how many copies one fork may make.
const MaxForks = 100

// Fork makes copies of a running machine, memory and disk, all of one instant.
// Each copy has its own identity, succeeds or fails on its own, and counts
// against the team's limit. The machine itself stands still for a moment.
func (e *Engine) Fork(ctx context.Context, id string, spec ForkSpec) ([]Forked, error) {
	start := time.Now()
	m, err := e.instance(id)
	if err != nil {
		return nil, err
	}
	if m.record().Name != "" {
		return nil, fmt.Errorf("%w: machine %q has a name: take a checkpoint and make others from that", ErrInvalid, id)
	}
	if spec.Count < 1 || spec.Count > MaxForks {
		return nil, fmt.Errorf("%w: a fork makes 1 to %d copies, not %d", ErrInvalid, MaxForks, spec.Count)
	}
	if err := e.checkTimeout(spec.Timeout); err != nil {
		return nil, err
	}
	if err := e.begin(); err != nil {
		return nil, err
	}
	defer e.creating.Done()
	tree := stagingTrees + newID()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		defer cancel()
		if err := e.disks.Remove(ctx, tree); err != nil {
			e.log.Error("what a fork was made from is still there; it is removed at the next start", "tree", tree, "error", err)
		}
	}()
	parent, image, err := e.capture(ctx, m, tree)
	if err != nil {
		return nil, fmt.Errorf("fork machine %s: %w", id, err)
	}
	stood := time.Since(start)
	t := e.forkTemplate(parent, image, tree)
	copies := make([]Forked, spec.Count)
	var group sync.WaitGroup
	for i := range copies {
		group.Go(func() { copies[i] = e.forkOne(ctx, t, parent, spec) })
	}
	group.Wait()
	e.log.Info("machine forked", "machine", id, "copies", spec.Count, "captured", stood,
		"took", time.Since(start), "request", observe.RequestID(ctx))
	return copies, nil
}

// forkTemplate is what the copies of one fork are made of, and looks to them
// like the template of the machine they are copies of.
func (e *Engine) forkTemplate(parent Machine, image Image, tree string) *template {
	record := Template{
		ID: parent.TemplateID, BuildID: parent.BuildID,
		CPUs: parent.CPUs, MemoryMB: parent.MemoryMB, DiskMB: parent.DiskMB,
		ShowsCheckpoints: parent.ShowsCheckpoints,
		Snapshot:         &Snapshot{Source: parent.ID, Image: image, ControlToken: parent.ControlToken, AccessToken: parent.AccessToken},
	}
	if parent.Alias != "" {
		record.Names = []string{parent.Alias}
	}
	return &template{record: record, tree: tree, memory: filepath.Join(e.disks.Path(tree), memoryFolder), once: true}
}

// forkOne makes one copy.
func (e *Engine) forkOne(ctx context.Context, t *template, parent Machine, spec ForkSpec) Forked {
	start := time.Now()
	if err := e.reserve(parent.Team, spec.MaxConcurrent); err != nil {
		return Forked{Err: err}
	}
	copySpec := CreateSpec{
		Team: parent.Team, Timeout: spec.Timeout, Metadata: maps.Clone(parent.Metadata), Env: maps.Clone(parent.Env),
		Network: parent.Network, Door: spec.Door, Lifecycle: parent.Lifecycle,
	}
	if parent.AccessToken != "" {
		copySpec.AccessToken = newToken()
	}
	if parent.TrafficToken != "" {
		copySpec.TrafficToken = newToken()
	}
	m, _, err := e.create(ctx, t, copySpec, parent.ID)
	e.meters.created(false, time.Since(start), err)
	if err != nil {
		e.release(parent.Team)
		return Forked{Err: err}
	}
	return Forked{Machine: m.record()}
}

// capture copies a machine's disk and memory of one instant into a new tree,
// which stays writable. A machine that the engine put to sleep is woken for it.
func (e *Engine) capture(ctx context.Context, m *instance, tree string) (Machine, Image, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sleepTimeout)
	defer cancel()
	m.op.Lock()
	defer m.op.Unlock()
	record := m.record()
	switch {
	case record.Paused:
		return record, Image{}, fmt.Errorf("%w: machine %q is paused: resume it first", ErrPaused, record.ID)
	case record.State.Asleep():
		if err := e.wake(ctx, m, ResumeSpec{}, ReasonUsed); err != nil {
			return record, Image{}, err
		}
		record = m.record()
	case record.State != Running:
		return record, Image{}, fmt.Errorf("%w: machine %q is %s", ErrNotFound, record.ID, record.State)
	}
	// What can be written down before is not written while it stands still.
	if err := e.disks.Flush(ctx, machineTrees+record.ID); err != nil {
		return record, Image{}, fmt.Errorf("bring the disk to rest: %w", err)
	}
	image, err := e.captureStill(ctx, m, tree)
	if err != nil {
		return record, Image{}, errors.Join(err, e.disks.Remove(ctx, tree))
	}
	if err := os.Truncate(filepath.Join(e.disks.Path(tree), logFile), 0); err != nil {
		return record, Image{}, errors.Join(fmt.Errorf("empty the log: %w", err), e.disks.Remove(ctx, tree))
	}
	m.use.touch()
	return record, Image{Key: image.Key, Bundle: record.Bundle, Bytes: image.Bytes, Unsummed: image.Unsummed}, nil
}

// captureStill is the part of capture for which the guest stands still.
func (e *Engine) captureStill(ctx context.Context, m *instance, tree string) (image gvisor.Image, err error) {
	g := m.live()
	if err := e.runtime.Pause(ctx, g.id); err != nil {
		return image, fmt.Errorf("stop the guest: %w", err)
	}
	defer func() {
		err = errors.Join(err, e.goOn(ctx, m))
	}()
	if _, err := e.disks.Clone(ctx, machineTrees+g.id, tree, disk.CloneOptions{}); err != nil {
		return image, fmt.Errorf("copy the disk: %w", err)
	}
	return e.memoryBeside(ctx, g.id, tree)
}

// memoryBeside writes the memory of a guest that stands still into a copy of
// its disk, in place of its template's, which was copied with it.
func (e *Engine) memoryBeside(ctx context.Context, id, tree string) (image gvisor.Image, err error) {
	memory := filepath.Join(e.disks.Path(tree), memoryFolder)
	if err := os.RemoveAll(memory); err != nil {
		return image, fmt.Errorf("make room for the memory image: %w", err)
	}
	if image, err = e.runtime.Checkpoint(ctx, id, memory); err != nil {
		return image, fmt.Errorf("write the memory image: %w", err)
	}
	return image, nil
}
