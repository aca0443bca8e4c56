package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/atoll-cloud/atoll/disk"
)

// Copying a disk waits for the file system to write down what others have
// changed, some ten milliseconds. Copies take no memory and hardly any disk,
// so a few of each template wait for machines to be made on them. Those left
// by a killed server are swept like everything that no record names.

// takeDisk gives the id of a new machine and the path of its disk.
func (e *Engine) takeDisk(ctx context.Context, t *template) (id, tree string, err error) {
	select {
	case id = <-t.disks:
	default:
		if id, err = e.copyDisk(ctx, t); err != nil {
			return "", "", err
		}
	}
	return id, e.disks.Path(machineTrees + id), nil
}

func (e *Engine) copyDisk(ctx context.Context, t *template) (id string, err error) {
	id = newID()
	limit := diskLimit(t.snapshot().DiskMB, t.diskBase)
	if _, err = e.disks.Clone(ctx, t.tree, machineTrees+id, disk.CloneOptions{LimitBytes: limit}); err != nil {
		if errors.Is(err, fs.ErrNotExist) && t.once {
			err = fmt.Errorf("%w: what the machine was to be made of has just been deleted: %w", ErrNotFound, err)
		}
		return "", fmt.Errorf("copy the template's disk: %w", diskFull(err))
	}
	return id, nil
}

// diskLimit is how many bytes a copy may write whose source has some that count
// against its size. A little is always left, or nobody could even tidy up.
func diskLimit(megabytes int, base int64) int64 {
	return max(int64(megabytes)*mib-base, diskLeast)
}

// diskLeast is what a copy may write though its source has used up its size.
const diskLeast = 64 * mib

// keepDisks copies disks ahead until the engine closes, and then removes those
// that no machine was made on.
func (e *Engine) keepDisks(t *template) {
	for e.life.Err() == nil {
		id, err := e.copyDisk(e.life, t)
		if err != nil {
			if e.life.Err() == nil {
				e.log.Error("no disk can be copied ahead", "template", t.snapshot().ID, "error", err)
			}
			e.await(poolTick)
			continue
		}
		select {
		case t.disks <- id:
		case <-e.life.Done():
			e.discard(&guest{id: id})
		}
	}
	for {
		select {
		case id := <-t.disks:
			e.discard(&guest{id: id})
		default:
			return
		}
	}
}
