package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/sentry/control"
	"gvisor.dev/gvisor/pkg/sentry/state/checkpointfiles"
	"gvisor.dev/gvisor/pkg/state/statefile"
	"gvisor.dev/gvisor/runsc/boot"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// imageFiles are gVisor's files of a checkpoint, in the order it wants them.
var imageFiles = []string{
	checkpointfiles.StateFileName,
	checkpointfiles.PagesMetadataFileName,
	checkpointfiles.PagesFileName,
}

// pagesFile is the index of the one that holds the guest's memory.
const pagesFile = 2

// checkpoint writes the guest's memory to a directory, which appears only when
// it is complete. The guest must be paused, and stays so. What is written is on
// its way to the disk, but need not be there yet.
func checkpoint(req *protocol.Request) (_ *protocol.Image, err error) {
	if paused, err := protocol.Paused(req.StateDir); err != nil || !paused {
		return nil, errors.Join(errors.New("checkpoint a guest that is not paused"), err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(req.ImageDir), ".checkpoint-")
	if err != nil {
		return nil, fmt.Errorf("make checkpoint directory: %w", err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(tmp)
		}
	}()
	image := protocol.Image{Key: req.Key}
	if image.Files, err = save(req.Socket, tmp, req.Large); err != nil {
		return nil, err
	}
	if err := protocol.WriteImage(tmp, image); err != nil {
		return nil, err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, req.ImageDir, unix.RENAME_NOREPLACE); err != nil {
		return nil, fmt.Errorf("put checkpoint in place: %w", err)
	}
	return &image, nil
}

// save lets the sandbox write its checkpoint into dir.
func save(socket, dir string, large bool) ([]protocol.File, error) {
	opts := control.SaveOpts{
		// Deflating costs ten times the time; storage can do it later.
		Metadata:      statefile.CompressionLevelNone.ToMetadata(),
		HavePagesFile: true,
		Resume:        true, // go on existing, not running
		// Memory that was used once and is zero now takes no space.
		AppMFExcludeCommittedZeroPages: true,
	}
	defer func() {
		for _, f := range opts.Files {
			f.Close()
		}
	}()
	for _, name := range imageFiles {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("make checkpoint file: %w", err)
		}
		opts.Files = append(opts.Files, f)
	}
	direct := large && writeDirectly(opts.Files[pagesFile])
	saved := make(chan error, 1)
	go func() { saved <- call(socket, boot.ContMgrCheckpoint, &opts, nil) }()
	sums := make([]protocol.Sum, len(opts.Files))
	var err error
	if direct {
		err = <-saved
	} else {
		err = follow(&sums[pagesFile], opts.Files[pagesFile], saved)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint guest: %w", err)
	}
	files := make([]protocol.File, len(opts.Files))
	for i, f := range opts.Files {
		if direct && i == pagesFile {
			info, err := f.Stat()
			if err != nil {
				return nil, fmt.Errorf("read checkpoint: %w", err)
			}
			files[i] = protocol.File{Name: imageFiles[i], Size: info.Size(), Unsummed: true}
			continue
		}
		if err := sums[i].Follow(f); err != nil {
			return nil, fmt.Errorf("read checkpoint: %w", err)
		}
		files[i] = protocol.File{Name: imageFiles[i], Size: sums[i].Size, CRC: sums[i].CRC}
	}
	return files, nil
}

// writeDirectly has what is written to an empty file go to the disk past the
// cache, which for much memory takes half the time or less, and reports whether
// the file system lets it. btrfs does so only for files without checksums of its
// own, and overwrites those in place; ours are of the same kind.
func writeDirectly(f *os.File) bool {
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return false
	}
	// Other file systems have no such flag, and need none.
	_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|noCopyOnWrite)
	status, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return false
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, status|unix.O_DIRECT); err != nil {
		return false
	}
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err == nil {
		_, err = f.WriteAt(page, 0)
		err = errors.Join(err, unix.Munmap(page), f.Truncate(0))
	}
	if err != nil { // a disk with larger sectors than pages, for one
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETFL, status) // as it was before, which went well
		return false
	}
	return true
}

// noCopyOnWrite is FS_NOCOW_FL of the kernel's linux/fs.h.
const noCopyOnWrite = 0x00800000

// followEvery is how often a file that grows is looked at.
const followEvery = 2 * time.Millisecond

// follow sums up a file that is written from start to end, and sends it on to
// the disk, until its writer is done; it returns the writer's error.
func follow(sum *protocol.Sum, f *os.File, done <-chan error) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
		}
		from := sum.Size
		if err := sum.Follow(f); err != nil {
			return errors.Join(err, <-done)
		}
		// It only starts the writing. Where it cannot, Seal does it all.
		_ = unix.SyncFileRange(int(f.Fd()), from, sum.Size-from, unix.SYNC_FILE_RANGE_WRITE)
	}
}
