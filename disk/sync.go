package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Flush returns when the content of what was written to the files of trees
// before is on the disk. Names may still be missing there: until Sync, a power
// cut can take files and renames away, but it cannot leave one with half of
// its content. So what must be whole or not there is written under another
// name, flushed, renamed and synced.
//
// Only these trees are waited for, so it is cheap to flush one while its last
// files are still being made, and let Sync find little left to do.
func (d *Disk) Flush(ctx context.Context, names ...string) error {
	if err := d.enter(names...); err != nil {
		return err
	}
	defer d.leave()
	return d.flush(ctx, names)
}

func (d *Disk) flush(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("flush tree %s: %w", name, err)
		}
		if err := d.driver.flush(name); err != nil {
			return fmt.Errorf("flush tree %s: %w", name, err)
		}
	}
	return nil
}

// FlushFiles is Flush for one file, or all files of a directory, of a tree in
// which others write too.
func (d *Disk) FlushFiles(ctx context.Context, at File) error {
	if err := d.enter(at.Tree); err != nil {
		return err
	}
	defer d.leave()
	if err := eachFile(ctx, d.root, at, d.driver.flushFile); err != nil {
		return fmt.Errorf("flush %s in tree %s: %w", at.Path, at.Tree, err)
	}
	return nil
}

// Sync returns when all that was written to trees before, names and content,
// is on stable storage, and all that was flushed. With the btrfs driver it does
// not wait for the content of other files, however much others write.
func (d *Disk) Sync(ctx context.Context, names ...string) error {
	if err := d.enter(names...); err != nil {
		return err
	}
	defer d.leave()
	if err := d.flush(ctx, names); err != nil {
		return err
	}
	if err := d.driver.commit(); err != nil {
		return fmt.Errorf("sync trees: %w", err)
	}
	return nil
}

// flush writes a tree's dirty pages and waits until the tree refers to them.
//
// The kernel has no call for that alone, but it does it first of all when
// asked for a snapshot: one whose place is taken ends there. (A snapshot that
// is made and deleted would do too, but holds the space of what it saw, on the
// tree's quota, until the kernel's cleaner has come by.)
func (b *btrfsDriver) flush(name string) error {
	h, err := openHolder(b.root, name, false)
	if err != nil {
		return err
	}
	defer h.Close()
	t, err := openDirAt(h, treeEntry)
	if err != nil {
		return err
	}
	defer t.Close()
	// Whether a pool file could grow for every write, syncfs alone can tell.
	if !b.flushes || b.nearlyFullBelow() {
		return os.NewSyscallError("syncfs", unix.Syncfs(int(t.Fd())))
	}
	before, err := b.writeErrors()
	if err != nil {
		return err
	}
	if err := flushSubvol(h, t); err != nil {
		return err
	}
	// The kernel reports a failed write to those who sync that file, of whom
	// we are none, and counts it for the device, unless that was just full.
	after, err := b.writeErrors()
	if err == nil && after != before {
		err = fmt.Errorf("%d writes to the disk below failed meanwhile: %w", after-before, unix.EIO)
	}
	return err
}

func (b *btrfsDriver) flushFile(f *os.File) error { return flushFile(f) }

// flushFile waits until a file's tree refers to its content. Unlike fsync it
// writes nothing of the tree itself, which a commit will.
func flushFile(f *os.File) error {
	return fileExtents(f, fiemapSync, func(fileExtent) {})
}

// flushSubvol flushes the subvolume that is the entry "@" of a directory.
func flushSubvol(dir, subvol *os.File) error {
	err := subvolMake(dir, treeEntry, subvol, true, 0)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err == nil {
		err = errors.New("the tree was removed meanwhile")
		return errors.Join(err, subvolDestroy(dir, treeEntry))
	}
	return os.NewSyscallError("flush subvolume", err)
}

// commit makes the file system's present metadata durable. Many at once share
// one commit.
func (b *btrfsDriver) commit() error {
	var transaction uint64
	if err := ioctl(b.dir, iocStartSync, unsafe.Pointer(&transaction)); err != nil {
		return os.NewSyscallError("commit btrfs", err)
	}
	return os.NewSyscallError("wait for the btrfs commit", ioctl(b.dir, iocWaitSync, unsafe.Pointer(&transaction)))
}

// probeFlush finds out whether this kernel flushes before it looks whether a
// snapshot's place is taken (those before 5.7 do not), in a subvolume that is
// kept for that.
func (b *btrfsDriver) probeFlush() (works bool, err error) {
	path := filepath.Join(b.root, "probe")
	if err := os.MkdirAll(path, 0o700); err != nil {
		return false, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	if err := subvolMake(dir, treeEntry, nil, false, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return false, os.NewSyscallError("create subvolume", err)
	}
	subvol, err := openDirAt(dir, treeEntry)
	if err != nil {
		return false, err
	}
	defer subvol.Close()
	file := filepath.Join(subvol.Name(), "file")
	if err := os.RemoveAll(file); err != nil { // what a killed process left
		return false, err
	}
	f, err := os.Create(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	defer func() { err = errors.Join(err, os.Remove(file)) }()
	if _, err := f.Write(make([]byte, 64<<10)); err != nil { // more than would be kept inline
		return false, err
	}
	if err := flushSubvol(dir, subvol); err != nil {
		return false, err
	}
	works = true
	err = fileExtents(f, 0, func(e fileExtent) {
		works = works && e.flags&(extentUnknown|extentDelalloc) == 0
	})
	return works, err
}

// lowBelow is more than all machines' writes that wait in memory should be.
const lowBelow = 2 << 30 // bytes

// nearlyFullBelow tells whether the file system that the pool file is on may
// soon refuse what this one writes to it.
func (b *btrfsDriver) nearlyFullBelow() bool {
	if !b.pool {
		return false
	}
	var st unix.Statfs_t
	err := unix.Statfs(filepath.Dir(b.root), &st)
	return err != nil || int64(st.Bavail)*st.Bsize < lowBelow
}

// writeErrors counts what the devices below failed to write since ever.
func (b *btrfsDriver) writeErrors() (uint64, error) {
	var total uint64
	for id := uint64(1); id <= b.devices; id++ {
		var stats struct {
			device, items, flags uint64
			writes, reads, flush uint64
			unused               [123]uint64
		}
		stats.device, stats.items = id, 3
		err := ioctl(b.dir, iocDevStats, unsafe.Pointer(&stats))
		if errors.Is(err, unix.ENODEV) {
			continue // was taken out of the file system
		}
		if err != nil {
			return 0, os.NewSyscallError("read device statistics", err)
		}
		total += stats.writes + stats.flush
	}
	return total, nil
}

// fsInfo returns the file system's UUID as sysfs spells it, and the highest
// number of its devices.
func fsInfo(dir *os.File) (uuid string, devices uint64, err error) {
	var info [1024]byte
	if err := ioctl(dir, iocFSInfo, unsafe.Pointer(&info)); err != nil {
		return "", 0, os.NewSyscallError("read btrfs info", err)
	}
	return formatUUID(info[16:32]), binary.NativeEndian.Uint64(info[:8]), nil
}
