package machine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atoll-cloud/atoll/disk"
	"github.com/atoll-cloud/atoll/observe"
)

// RestoreCheckpoint sets a machine's disk back to a checkpoint, after it has
// taken an automatic one, and its memory where the checkpoint has it; else the
// machine boots. Asleep or not, it runs afterwards. While one restore is under
// way another is ErrConflict.
func (e *Engine) RestoreCheckpoint(ctx context.Context, id, checkpoint string) (Machine, error) {
	start := time.Now()
	m, err := e.instance(id)
	if err != nil {
		return Machine{}, err
	}
	if _, err := m.checkpoint(checkpoint); err != nil {
		return Machine{}, err
	}
	if !m.restoring.CompareAndSwap(false, true) {
		return Machine{}, fmt.Errorf("%w: a checkpoint of machine %q is being restored already", ErrConflict, id)
	}
	defer m.restoring.Store(false)
	ctx, done, err := e.operate(ctx, m)
	if err != nil {
		return Machine{}, err
	}
	defer done()
	c, err := m.checkpoint(checkpoint)
	if err != nil {
		return Machine{}, err
	}
	if err := e.restoreCheckpoint(ctx, m, c); err != nil {
		return Machine{}, fmt.Errorf("restore checkpoint %s of machine %s: %w", checkpoint, id, diskFull(err))
	}
	e.log.Info("checkpoint restored", "machine", id, "checkpoint", checkpoint, "took", time.Since(start), "request", observe.RequestID(ctx))
	return m.record(), nil
}

// restoreCheckpoint is RestoreCheckpoint for a caller that holds m.op. Until the
// disks are swapped the machine keeps what it has; from then on it has what the
// checkpoint has, wherever a server dies.
func (e *Engine) restoreCheckpoint(ctx context.Context, m *instance, c Checkpoint) error {
	record := m.record()
	staging := stagingTrees + newID()
	defer func() {
		if err := e.disks.Remove(context.WithoutCancel(ctx), staging); err != nil {
			e.log.Error("a disk that a restore leaves is still there; it is removed at the next start", "tree", staging, "error", err)
		}
	}()
	if err := e.keepBefore(ctx, m, c, staging); err != nil {
		return err
	}
	if err := e.lieDown(ctx, m, ReasonRestored, ""); err != nil {
		return err
	}
	tree := machineTrees + record.ID
	if err := e.disks.Swap(ctx, tree, staging); err != nil {
		return err
	}
	// The swap must last before anybody hears of it.
	if err := e.disks.Sync(ctx); err != nil {
		return err
	}
	record = m.record()
	record.Restored, record.DiskBase = Restored{Checkpoint: c.ID, At: e.now()}, c.Bytes
	m.setRecord(record)
	if err := e.wake(ctx, m, ResumeSpec{MaxConcurrent: e.config.TeamLimit(record.Team), memory: c.Image}, ReasonRestored); err != nil {
		return errors.Join(err, e.save(ctx, m.record()))
	}
	return nil
}

// keepBefore stops a machine, takes the checkpoint before a restore, and copies
// the one that is restored to staging. On an error the machine goes on.
func (e *Engine) keepBefore(ctx context.Context, m *instance, c Checkpoint, staging string) (err error) {
	record := m.record()
	if record.State != Running && !record.State.Asleep() {
		return fmt.Errorf("%w: machine %q is %s", ErrNotFound, record.ID, record.State)
	}
	if err := e.disks.Sync(ctx, machineTrees+record.ID); err != nil {
		return fmt.Errorf("bring the disk to rest: %w", err)
	}
	limit := diskLimit(record.DiskMB, c.Bytes)
	if _, err := e.disks.Clone(ctx, checkpointTree(c.Machine, c.ID), staging, disk.CloneOptions{LimitBytes: limit}); err != nil {
		return fmt.Errorf("copy the checkpoint: %w", err)
	}
	if record.State == Running {
		m.sever()
		m.live().control.close()
		if err := e.runtime.Pause(ctx, record.ID); err != nil {
			m.connect()
			return fmt.Errorf("stop the guest: %w", err)
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, e.goOn(ctx, m))
			}
		}()
	}
	auto := Checkpoint{ID: m.automaticID(c.ID, e.now()), Auto: true, Comment: "before the restore of " + c.ID}
	if auto, err = e.keepDisk(ctx, m, auto, false); err != nil {
		return errors.Join(err, e.disks.Remove(ctx, checkpointTree(record.ID, auto.ID)))
	}
	return e.keepCheckpoint(ctx, m, auto)
}

// automaticID is the id of the checkpoint before a restore of that one.
func (m *instance) automaticID(restored string, now time.Time) string {
	for at := now.Unix(); ; at++ {
		id := fmt.Sprintf("pre-restore-%s-%d", restored, at)
		if !slices.ContainsFunc(m.checkpoints(), func(c Checkpoint) bool { return c.ID == id }) {
			return id
		}
	}
}

// checkpointTemplate is what machines are made of that come from a checkpoint.
func (e *Engine) checkpointTemplate(team string, ref CheckpointRef) (*template, error) {
	m, err := e.instance(ref.Machine)
	if err != nil {
		return nil, err
	}
	source := m.record()
	if source.Team != team {
		return nil, fmt.Errorf("%w: no machine %q runs here", ErrNotFound, ref.Machine)
	}
	c, err := m.checkpoint(ref.ID)
	if err != nil {
		return nil, err
	}
	image := Image{}
	if c.Image != nil {
		image = *c.Image
	}
	t := e.forkTemplate(source, image, checkpointTree(c.Machine, c.ID))
	if c.Image == nil {
		t.record.Snapshot, t.memory = nil, ""
	}
	t.diskBase = c.Bytes
	return t, nil
}
