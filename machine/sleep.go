package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/atoll-cloud/atoll/disk"
	"github.com/atoll-cloud/atoll/observe"
)

// memoryTree holds the memory images of stored machines, each in a folder of
// the machine's name. They are not on the machine's own tree, since a guest
// that has filled its disk must be able to sleep.
const memoryTree = "memories"

// pagesFile is the one of an image's files with the pages of memory.
const pagesFile = "pages.img"

func (e *Engine) imageDir(id string) string { return filepath.Join(e.disks.Path(memoryTree), id) }

func (e *Engine) removeImage(id string) error {
	if err := os.RemoveAll(e.imageDir(id)); err != nil {
		return fmt.Errorf("remove the memory image: %w", err)
	}
	return nil
}

// Pause puts a machine to sleep until it is resumed. Its memory is kept with
// its disk, or, with diskOnly, forgotten. A paused one is ErrConflict.
func (e *Engine) Pause(ctx context.Context, id string, diskOnly bool) (Machine, error) {
	start := time.Now()
	m, err := e.instance(id)
	if err != nil {
		return Machine{}, err
	}
	ctx, done, err := e.operate(ctx, m)
	if err != nil {
		return Machine{}, err
	}
	defer done()
	if err := e.pause(ctx, m, diskOnly, ReasonPaused); err != nil {
		return Machine{}, err
	}
	e.log.Info("machine paused", "machine", id, "took", time.Since(start), "request", observe.RequestID(ctx))
	return m.record(), nil
}

// pause is Pause for a caller that holds m.op.
func (e *Engine) pause(ctx context.Context, m *instance, diskOnly bool, reason string) error {
	record := m.record()
	pausing := func(r *Machine) {
		r.Paused, r.Remaining = true, 0
		if !r.Deadline.IsZero() {
			r.Remaining = max(r.Deadline.Sub(e.now()), 0)
		}
		r.Deadline = time.Time{}
		if diskOnly {
			r.Image = nil
		}
	}
	switch {
	case record.Paused:
		return fmt.Errorf("%w: machine %q is paused already", ErrConflict, record.ID)
	case record.State == Running || record.State == Frozen:
		if err := e.store(ctx, m, !diskOnly, reason, pausing); err != nil {
			return err
		}
	case record.State == Stored:
		pausing(&record)
		if err := e.save(ctx, record); err != nil {
			return err
		}
		e.show(m, record)
		if diskOnly {
			if err := e.removeImage(record.ID); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("%w: machine %q is %s", ErrNotFound, record.ID, record.State)
	}
	if m.timer != nil {
		m.timer.Stop()
	}
	if m.live() == nil {
		return nil
	}
	if diskOnly { // or its memory would still be there at the next resume
		return e.letGo(ctx, m)
	}
	m.linger = time.AfterFunc(e.config.Linger, func() { e.stopLingering(m) })
	return nil
}

// store writes a machine to the disk: its memory, or nothing but what it has
// written to its files. The guest is left, standing still, for the caller to
// keep or to let go. On an error the machine is as it was, or has no guest any
// more that could go on.
func (e *Engine) store(ctx context.Context, m *instance, memory bool, reason string, edit func(*Machine)) (err error) {
	record, g := m.record(), m.live()
	wasRunning := record.State == Running
	m.sever()
	g.control.close()
	if err := e.runtime.Pause(ctx, g.id); err != nil {
		m.connect()
		return fmt.Errorf("stop the guest: %w", err)
	}
	defer func() {
		if err != nil && wasRunning {
			err = errors.Join(err, e.goOn(ctx, m))
		}
	}()
	image, err := e.writeDown(ctx, record, memory)
	if err != nil {
		return err
	}
	diskBytes, _, err := e.disks.Usage(ctx, machineTrees+record.ID)
	if err != nil {
		return fmt.Errorf("measure the disk: %w", err)
	}
	err = e.move(ctx, m, Stored, reason, func(r *Machine) {
		r.Image, r.Slot, r.DiskBytes = image, 0, diskBytes+r.DiskBase
		if edit != nil {
			edit(r)
		}
	})
	if err != nil {
		return err
	}
	m.samples.trim()
	if image != nil && image.Unsummed {
		e.background.Go(func() { e.sumUpImage(m) })
	}
	return nil
}

// sumUpImage sums up the image of a machine that is asleep, beside whatever
// happens to it.
func (e *Engine) sumUpImage(m *instance) {
	id := m.record().ID
	if err := e.runtime.SumUp(e.life, e.imageDir(id)); err != nil && e.life.Err() == nil && m.state() == Stored {
		e.log.Warn("the memory image of a sleeping machine has no checksum", "machine", id, "error", err)
	}
}

// goOn lets the guest of a machine that runs go on after it was stopped. One
// that does not is given up. It is done whether there is time left or not.
func (e *Engine) goOn(ctx context.Context, m *instance) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if err := e.runtime.Resume(ctx, m.live().id); err != nil {
		return e.giveUp(ctx, m, err)
	}
	m.connect()
	return nil
}

// giveUp ends a guest that does not go on: it would stand still for ever, and
// look as if it were busy. A lasting machine is booted by the next use, any other
// ends. It returns what its owner is told.
func (e *Engine) giveUp(ctx context.Context, m *instance, why error) error {
	record := m.record()
	e.log.Error("a guest did not go on and is ended", "machine", record.ID, "error", why)
	var err error
	if record.Lifecycle.Lasting {
		err = e.lieDown(ctx, m, ReasonStuck, ReasonStuck)
	} else {
		err = e.end(ctx, m, ReasonStuck)
	}
	return errors.Join(fmt.Errorf("let the guest go on: %w", why), err)
}

// writeDown brings what a machine's guest, which stands still, has in its files
// and, with memory, in its memory to the disk, so that a failure of power does
// not take it.
func (e *Engine) writeDown(ctx context.Context, record Machine, memory bool) (image *Image, err error) {
	synced := make(chan error, 1)
	go func() { synced <- e.disks.Sync(ctx, machineTrees+record.ID) }()
	if memory {
		if image, err = e.writeImage(ctx, record); err == nil {
			err = e.runtime.Seal(ctx, e.imageDir(record.ID))
		}
	}
	if err = errors.Join(err, <-synced); err != nil {
		return nil, err
	}
	return image, nil
}

// writeImage writes the memory of a machine whose guest stands still.
func (e *Engine) writeImage(ctx context.Context, record Machine) (*Image, error) {
	if err := e.removeImage(record.ID); err != nil { // of a sleep that was cut short
		return nil, err
	}
	written, err := e.runtime.Checkpoint(ctx, record.ID, e.imageDir(record.ID))
	if err != nil {
		return nil, fmt.Errorf("write the memory image: %w", err)
	}
	return &Image{Key: written.Key, Bundle: record.Bundle, Bytes: written.Bytes, Unsummed: written.Unsummed}, nil
}

// letGo ends the guest of a machine that is on the disk. The caller holds m.op.
func (e *Engine) letGo(ctx context.Context, m *instance) error {
	if m.linger != nil {
		m.linger.Stop()
	}
	g := m.live()
	if g == nil {
		return nil
	}
	m.setLive(nil)
	if err := e.endGuest(ctx, g); err != nil {
		m.setLive(g)
		return fmt.Errorf("give back the memory of machine %s: %w", g.id, err)
	}
	if m.state() == Stored && e.life.Err() == nil {
		e.background.Go(func() { e.shareImage(m) })
	}
	return nil
}

// shareImage has a sleeper's image use the storage of its template's where the
// two hold the same: what is stored is what differs. It may be cut short.
func (e *Engine) shareImage(m *instance) {
	record := m.record()
	if record.State != Stored || record.Image == nil {
		return
	}
	if e.sharePages(e.life, record, disk.File{Tree: memoryTree, Path: record.ID + "/" + pagesFile}) {
		e.measureImage(m)
	}
}

// sharePages has a file with pages of a machine's memory use the storage of its
// template's, and reports whether it does.
func (e *Engine) sharePages(ctx context.Context, record Machine, file disk.File) bool {
	base := Template{ID: record.TemplateID, BuildID: record.BuildID}.tree()
	if !e.hasTree(base) {
		return false
	}
	_, err := e.disks.Share(ctx, file, disk.File{Tree: base, Path: memoryFolder + "/" + pagesFile})
	switch {
	case err == nil:
		return true
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrNotExist), ctx.Err() != nil:
		// The file system cannot share, or the machine woke or ended meanwhile.
	default:
		e.log.Warn("a memory image takes more room than it needs", "machine", record.ID, "error", err)
	}
	return false
}

// measureImage notes how much of the disk a sleeper's image takes for itself.
func (e *Engine) measureImage(m *instance) {
	m.op.Lock()
	defer m.op.Unlock()
	record := m.record()
	if record.State != Stored || record.Image == nil {
		return
	}
	stored, err := e.disks.Stored(e.life, disk.File{Tree: memoryTree, Path: record.ID})
	if err != nil {
		e.log.Warn("the image of a sleeping machine cannot be measured", "machine", record.ID, "error", err)
		return
	}
	image := *record.Image
	image.Bytes = stored.Own
	record.Image = &image
	if err := e.save(e.life, record); err != nil {
		e.log.Warn("the size of an image was not recorded", "machine", record.ID, "error", err)
		return
	}
	m.setRecord(record)
}

// stopLingering lets go of a machine that was paused some while ago.
func (e *Engine) stopLingering(m *instance) {
	if e.begin() != nil {
		return
	}
	defer e.creating.Done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.life), endTimeout)
	defer cancel()
	m.op.Lock()
	defer m.op.Unlock()
	if m.state() != Stored {
		return
	}
	if err := e.letGo(ctx, m); err != nil {
		e.log.Error("a paused machine still holds memory; it is tried again at the next start", "error", err)
	}
}

// freeze stops a machine and leaves it in memory. The caller holds m.op.
func (e *Engine) freeze(ctx context.Context, m *instance) error {
	g := m.live()
	if err := e.runtime.Pause(ctx, g.id); err != nil {
		return fmt.Errorf("stop the guest: %w", err)
	}
	if err := e.move(ctx, m, Frozen, ReasonIdle, nil); err != nil {
		return errors.Join(err, e.goOn(ctx, m))
	}
	return nil
}
