package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/atoll-cloud/atoll/disk"
	"github.com/atoll-cloud/atoll/observe"
)

const (
	// checkpointTrees holds a folder per machine, which its guest sees at
	// checkpointsFolder. In it are its checkpoints, all/ID/@, and for the last
	// few of them a link, ID -> all/ID/@/rootfs.
	checkpointTrees   = "checkpoints/"
	allCheckpoints    = "/all/"
	checkpointsFolder = "/.sprite/checkpoints"
	shownCheckpoints  = 5

	maxComment = 4 << 10
)

func checkpointTree(machine, id string) string {
	return checkpointTrees + machine + allCheckpoints + id
}

// checkpointKey is the key of a checkpoint's record.
func checkpointKey(machine, id string) string { return machine + "." + id }

// diskImage is the folder of the memory that is kept with a machine's disk.
func (e *Engine) diskImage(id string) string {
	return filepath.Join(e.disks.Path(machineTrees+id), memoryFolder)
}

// CreateCheckpoint keeps a machine's disk, and with spec.Memory its memory, as
// they are. A running machine stands still for a moment; one that sleeps sleeps
// on, but for its memory to be kept one that is stored is woken.
func (e *Engine) CreateCheckpoint(ctx context.Context, id string, spec CheckpointSpec) (Checkpoint, error) {
	start := time.Now()
	m, err := e.instance(id)
	if err != nil {
		return Checkpoint{}, err
	}
	if len(spec.Comment) > maxComment {
		return Checkpoint{}, fmt.Errorf("%w: a comment may have %d bytes at most", ErrInvalid, maxComment)
	}
	ctx, done, err := e.operate(ctx, m)
	if err != nil {
		return Checkpoint{}, err
	}
	defer done()
	if spec.Memory && m.state() == Stored {
		if err := e.wake(ctx, m, ResumeSpec{}, ReasonUsed); err != nil {
			return Checkpoint{}, err
		}
	}
	c, err := e.checkpoint(ctx, m, Checkpoint{Comment: spec.Comment}, spec.Memory)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("take a checkpoint of machine %s: %w", id, diskFull(err))
	}
	e.log.Info("checkpoint taken", "machine", id, "checkpoint", c.ID, "took", time.Since(start), "request", observe.RequestID(ctx))
	return c, nil
}

// checkpoint takes a checkpoint of a machine, running or asleep. The caller
// holds m.op.
func (e *Engine) checkpoint(ctx context.Context, m *instance, c Checkpoint, memory bool) (Checkpoint, error) {
	record := m.record()
	if record.State != Running && !record.State.Asleep() {
		return c, fmt.Errorf("%w: machine %q is %s", ErrNotFound, record.ID, record.State)
	}
	// What can be written down before is not written while the guest stands still.
	if err := e.disks.Sync(ctx, machineTrees+record.ID); err != nil {
		return c, fmt.Errorf("bring the disk to rest: %w", err)
	}
	if record.State == Running {
		if err := e.runtime.Pause(ctx, record.ID); err != nil {
			return c, fmt.Errorf("stop the guest: %w", err)
		}
	}
	c, err := e.keepDisk(ctx, m, c, memory)
	if record.State == Running {
		err = errors.Join(err, e.goOn(ctx, m))
	}
	if err != nil {
		return c, errors.Join(err, e.disks.Remove(ctx, checkpointTree(c.Machine, c.ID)))
	}
	return c, e.keepCheckpoint(ctx, m, c)
}

// keepDisk copies the disk, and the memory, of a machine that stands still into
// the tree of a checkpoint to be.
func (e *Engine) keepDisk(ctx context.Context, m *instance, c Checkpoint, memory bool) (Checkpoint, error) {
	record := m.record()
	c.Machine, c.CreatedAt, c.Source = record.ID, e.now(), m.lastCheckpoint()
	if c.ID == "" {
		c.ID = "v" + strconv.Itoa(m.nextCheckpoint())
	}
	tree := checkpointTree(c.Machine, c.ID)
	if _, err := e.disks.Clone(ctx, machineTrees+c.Machine, tree, disk.CloneOptions{ReadOnly: !memory}); err != nil {
		return c, fmt.Errorf("copy the disk: %w", err)
	}
	var err error
	if c.Bytes, _, err = e.disks.Usage(ctx, machineTrees+c.Machine); err != nil {
		return c, fmt.Errorf("measure the disk: %w", err)
	}
	c.Bytes += record.DiskBase
	if !memory {
		return c, nil
	}
	image, err := e.memoryBeside(ctx, c.Machine, tree)
	if err != nil {
		return c, err
	}
	c.Image = &Image{Key: image.Key, Bundle: record.Bundle, Bytes: image.Bytes, Unsummed: image.Unsummed}
	return c, nil
}

// keepCheckpoint makes a captured checkpoint known and last.
func (e *Engine) keepCheckpoint(ctx context.Context, m *instance, c Checkpoint) (err error) {
	tree := checkpointTree(c.Machine, c.ID)
	defer func() {
		if err != nil {
			err = errors.Join(err, e.disks.Remove(ctx, tree))
		}
	}()
	if c.Image != nil {
		if err := e.sealMemory(ctx, m.record(), c, tree); err != nil {
			return err
		}
	}
	if _, err := e.kept.Put(ctx, checkpointKey(c.Machine, c.ID), c); err != nil {
		return fmt.Errorf("record the checkpoint: %w", err)
	}
	m.setCheckpoints(append(slices.Clone(m.checkpoints()), c))
	e.showCheckpoints(m)
	return nil
}

// sealMemory brings the tree of a checkpoint to rest that has memory in it.
func (e *Engine) sealMemory(ctx context.Context, source Machine, c Checkpoint, tree string) error {
	if c.Image.Unsummed {
		if err := e.runtime.SumUp(ctx, filepath.Join(e.disks.Path(tree), memoryFolder)); err != nil {
			return err
		}
		c.Image.Unsummed = false
	}
	// Before it is sealed, after which no file of it can be touched.
	e.sharePages(ctx, source, disk.File{Tree: tree, Path: memoryFolder + "/" + pagesFile})
	if err := e.disks.Sync(ctx, tree); err != nil {
		return fmt.Errorf("bring the memory to rest: %w", err)
	}
	if err := e.disks.Seal(ctx, tree); err != nil {
		return fmt.Errorf("seal the checkpoint: %w", err)
	}
	return nil
}

// Checkpoints lists a machine's checkpoints, the oldest first, those before
// restores included. It wakes nobody.
func (e *Engine) Checkpoints(ctx context.Context, id string) ([]Checkpoint, error) {
	m, err := e.instance(id)
	if err != nil {
		return nil, err
	}
	return slices.Clone(m.checkpoints()), nil
}

// DeleteCheckpoint removes a checkpoint. What was made from it stays.
func (e *Engine) DeleteCheckpoint(ctx context.Context, id, checkpoint string) error {
	m, err := e.instance(id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	m.op.Lock()
	defer m.op.Unlock()
	if _, err := m.checkpoint(checkpoint); err != nil {
		return err
	}
	if n := checkpointNumber(checkpoint); n > m.record().LastCheckpoint {
		record := m.record()
		record.LastCheckpoint = n
		if err := e.save(ctx, record); err != nil {
			return err
		}
		m.setRecord(record)
	}
	if err := e.kept.Delete(ctx, checkpointKey(id, checkpoint)); err != nil {
		return fmt.Errorf("remove the record of checkpoint %s: %w", checkpoint, err)
	}
	m.setCheckpoints(slices.DeleteFunc(slices.Clone(m.checkpoints()), func(c Checkpoint) bool { return c.ID == checkpoint }))
	e.showCheckpoints(m)
	if err := e.disks.Remove(ctx, checkpointTree(id, checkpoint)); err != nil {
		e.log.Error("the files of a deleted checkpoint are still there; they are removed at the next start", "machine", id, "checkpoint", checkpoint, "error", err)
	}
	return nil
}

// removeCheckpoints removes all of a machine that ends: the records first, so
// that none is left without its files.
func (e *Engine) removeCheckpoints(ctx context.Context, id string) error {
	if m, err := e.instance(id); err == nil {
		for _, c := range m.checkpoints() {
			if err := e.kept.Delete(ctx, checkpointKey(id, c.ID)); err != nil {
				return fmt.Errorf("remove the record of checkpoint %s: %w", c.ID, err)
			}
		}
		m.setCheckpoints(nil)
	}
	if err := e.disks.RemoveFolder(ctx, checkpointTrees+id); err != nil {
		return fmt.Errorf("remove the checkpoints: %w", err)
	}
	return nil
}

// loadCheckpoints finds the checkpoints of earlier servers, and removes records
// and trees of those that were never finished or whose removal was interrupted.
func (e *Engine) loadCheckpoints(ctx context.Context) error {
	known := map[string]bool{}
	err := e.kept.All(ctx, func(key string, data []byte) error {
		var c Checkpoint
		if err := json.Unmarshal(data, &c); err != nil {
			return fmt.Errorf("the record of checkpoint %s: %w", key, err)
		}
		tree := checkpointTree(c.Machine, c.ID)
		m, err := e.instance(c.Machine)
		switch {
		case err == nil && e.hasTree(tree):
			known[tree] = true
			m.setCheckpoints(append(m.checkpoints(), c))
			return nil
		case err == nil:
			e.log.Error("the files of a checkpoint are gone", "machine", c.Machine, "checkpoint", c.ID)
		}
		return e.kept.Delete(ctx, key)
	})
	if err != nil {
		return fmt.Errorf("read the records of checkpoints: %w", err)
	}
	trees, err := e.disks.List(ctx, checkpointTrees)
	if err != nil {
		return fmt.Errorf("list the trees of checkpoints: %w", err)
	}
	for _, tree := range trees {
		if known[tree.Name] {
			continue
		}
		if err := e.disks.Remove(ctx, tree.Name); err != nil {
			return fmt.Errorf("remove the tree %s, which no checkpoint has: %w", tree.Name, err)
		}
	}
	folders, err := e.disks.Folders(strings.TrimSuffix(checkpointTrees, "/"))
	if err != nil {
		return err
	}
	for _, folder := range folders {
		if _, err := e.instance(strings.TrimPrefix(folder, checkpointTrees)); err == nil {
			continue
		}
		if err := e.disks.RemoveFolder(ctx, folder); err != nil {
			return err
		}
	}
	for _, m := range e.all() {
		m.setCheckpoints(slices.SortedFunc(slices.Values(m.checkpoints()), func(a, b Checkpoint) int { return a.CreatedAt.Compare(b.CreatedAt) }))
		e.showCheckpoints(m)
	}
	return nil
}

// showCheckpoints lets the guest see the last few checkpoints under their names.
func (e *Engine) showCheckpoints(m *instance) {
	record := m.record()
	if !record.ShowsCheckpoints {
		return
	}
	all := m.checkpoints()
	want := map[string]bool{}
	for _, c := range all[max(0, len(all)-shownCheckpoints):] {
		want[c.ID] = true
	}
	if err := e.linkCheckpoints(record.ID, want); err != nil {
		e.log.Warn("the checkpoints that a machine sees are not the last ones", "machine", record.ID, "error", err)
	}
}

func (e *Engine) linkCheckpoints(id string, want map[string]bool) error {
	folder, err := e.disks.Folder(checkpointTrees + id)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Type() != os.ModeSymlink {
			continue
		}
		if want[entry.Name()] {
			delete(want, entry.Name())
		} else if err := os.Remove(filepath.Join(folder, entry.Name())); err != nil {
			return err
		}
	}
	for name := range want {
		target := filepath.Join(strings.Trim(allCheckpoints, "/"), name, "@", rootfsFolder)
		if err := os.Symlink(target, filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	return nil
}

func (m *instance) checkpoints() []Checkpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept
}

func (m *instance) setCheckpoints(all []Checkpoint) {
	m.mu.Lock()
	m.kept = all
	m.mu.Unlock()
}

func (m *instance) checkpoint(id string) (Checkpoint, error) {
	for _, c := range m.checkpoints() {
		if c.ID == id {
			return c, nil
		}
	}
	return Checkpoint{}, fmt.Errorf("%w: machine %q has no checkpoint %q", ErrNotFound, m.record().ID, id)
}

// checkpointNumber is the number of a checkpoint that is not automatic, else 0.
func checkpointNumber(id string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(id, "v"))
	if err != nil {
		return 0
	}
	return n
}

// nextCheckpoint is the number of the machine's next checkpoint.
func (m *instance) nextCheckpoint() int {
	last := m.record().LastCheckpoint
	for _, c := range m.checkpoints() {
		last = max(last, checkpointNumber(c.ID))
	}
	return last + 1
}

// lastCheckpoint is the one that the machine's disk came from.
func (m *instance) lastCheckpoint() string {
	restored, all := m.record().Restored, m.checkpoints()
	for i := len(all) - 1; i >= 0 && all[i].CreatedAt.After(restored.At); i-- {
		if !all[i].Auto {
			return all[i].ID
		}
	}
	return restored.Checkpoint
}

// diskFull says what can be done where there was no room. Who writes memory
// tells of it in words alone.
func diskFull(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		return fmt.Errorf("%w: the disk of this node is full: delete checkpoints or machines and try again: %w", ErrUnavailable, err)
	}
	return err
}
