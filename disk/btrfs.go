package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// btrfsDriver keeps each tree as a subvolume.
type btrfsDriver struct {
	root  string
	dir   *os.File // root, for requests to the file system as a whole
	fsid  string
	quota string // "simple", "full" or "none"
	// devices is the highest number of a device of the file system.
	devices uint64
	pool    bool // in a pool file, which is in the directory above root
	// flushes is true where one tree alone can be flushed.
	flushes bool
	sharing chan struct{} // held by who shares blocks
	bases   baseCache
	sweep   *sweeper
	log     *slog.Logger
}

func isBtrfs(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.BTRFS_SUPER_MAGIC
}

// openBtrfs uses the directory's own file system or a mounted pool file.
func (d *Disk) openBtrfs(ctx context.Context, cfg Config) (err error) {
	_, statErr := os.Stat(filepath.Join(cfg.Dir, poolFileName))
	if statErr == nil || !isBtrfs(cfg.Dir) {
		if d.pool, err = openPool(ctx, cfg, d.root, d.log); err != nil {
			return err
		}
	}
	b := &btrfsDriver{root: d.root, pool: d.pool != nil, sharing: make(chan struct{}, 1), log: d.log}
	if err := b.start(); err != nil {
		if d.pool != nil && !d.pool.taken {
			err = errors.Join(err, d.pool.unmount())
		}
		return err
	}
	d.driver = b
	d.features = Features{Driver: "btrfs", Quota: b.quota, Pool: d.pool != nil}
	return nil
}

func (b *btrfsDriver) start() (err error) {
	if err := os.MkdirAll(filepath.Join(b.root, "trees"), 0o700); err != nil {
		return fmt.Errorf("prepare the disk pool: %w", err)
	}
	if b.dir, err = os.Open(b.root); err != nil {
		return fmt.Errorf("open the disk pool: %w", err)
	}
	if b.fsid, b.devices, err = fsInfo(b.dir); err == nil {
		err = b.startQuota()
	}
	if err != nil {
		b.dir.Close()
		return fmt.Errorf("prepare the disk pool: %w", err)
	}
	if b.flushes, err = b.probeFlush(); !b.flushes {
		b.log.Warn("disk: one tree alone cannot be flushed, so a sync waits for what all machines write", "err", err)
	}
	b.sweep = startSweeper(b)
	return nil
}

func (b *btrfsDriver) close() error {
	b.sweep.stop()
	return b.dir.Close()
}

func (b *btrfsDriver) create(name string) error {
	return withNewHolder(b.root, name, func(h *os.File) error {
		if err := subvolMake(h, treeEntry, nil, false, 0); err != nil {
			return os.NewSyscallError("create subvolume", err)
		}
		return nil
	})
}

func (b *btrfsDriver) clone(_ context.Context, from, to string, o CloneOptions) error {
	src, err := openTree(b.root, from)
	if err != nil {
		return err
	}
	defer src.Close()
	limit := o.LimitBytes
	if b.quota == quotaNone {
		limit = 0
	}
	return withNewHolder(b.root, to, func(h *os.File) error {
		if err := subvolMake(h, treeEntry, src, o.ReadOnly, limit); err != nil {
			return os.NewSyscallError("snapshot", err)
		}
		return nil
	})
}

func (b *btrfsDriver) seal(name string) error {
	t, err := openTree(b.root, name)
	if err != nil {
		return err
	}
	defer t.Close()
	return setReadOnly(t, true)
}

func (b *btrfsDriver) remove(name string) error {
	h, err := openHolder(b.root, name, false)
	if err != nil {
		return err
	}
	defer h.Close()
	err = subvolDestroy(h, treeEntry)
	switch {
	case errors.Is(err, unix.ENOTEMPTY):
		if err = b.removeNested(h); err == nil {
			err = subvolDestroy(h, treeEntry)
		}
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EROFS):
		if err = clearAttributes(h, treeEntry); err == nil {
			err = subvolDestroy(h, treeEntry)
		}
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return os.NewSyscallError("delete subvolume", err)
	}
	tidyHolder(b.root, name)
	b.sweep.wake()
	return nil
}

// removeNested deletes the subvolumes inside a tree, the deepest first.
func (b *btrfsDriver) removeNested(holder *os.File) error {
	t, err := openDirAt(holder, treeEntry)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := setReadOnly(t, false); err != nil {
		return err
	}
	info, err := getSubvolInfo(t)
	if err != nil {
		return err
	}
	todo := []uint64{info.treeID}
	var all []uint64
	for len(todo) > 0 {
		id := todo[0]
		todo = todo[1:]
		err := treeSearch(b.dir, treeOfRoots, keyRootRef, id, id, func(object, child uint64, _ []byte) {
			if object == id {
				todo = append(todo, child)
				all = append(all, child)
			}
		})
		if err != nil {
			return err
		}
	}
	for i := len(all) - 1; i >= 0; i-- {
		if err := subvolDestroyID(holder, all[i]); err != nil && !errors.Is(err, unix.ENOENT) {
			return os.NewSyscallError("delete nested subvolume", err)
		}
	}
	return nil
}

// clearAttributes takes the immutable and append-only flags off a directory,
// with which it could not be deleted.
func clearAttributes(dir *os.File, entry string) error {
	t, err := openDirAt(dir, entry)
	if err != nil {
		return err
	}
	defer t.Close()
	if fstatIno(t) == firstFreeID {
		if err := setReadOnly(t, false); err != nil && !errors.Is(err, unix.ENOTTY) {
			return err
		}
	}
	return clearFileAttributes(t)
}

func clearFileAttributes(f *os.File) error {
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return os.NewSyscallError("read file attributes", err)
	}
	flags &^= unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND // the same bits as FS_*_FL
	return os.NewSyscallError("clear file attributes", unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags))
}

func fstatIno(f *os.File) uint64 {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0
	}
	return st.Ino
}

func (b *btrfsDriver) describe(names []string) ([]Tree, error) {
	trees := make([]Tree, 0, len(names))
	infos := make([]*subvolInfo, 0, len(names))
	byUUID := make(map[[16]byte]string, len(names))
	for _, name := range names {
		info, err := b.info(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		byUUID[info.uuid] = name
		infos = append(infos, info)
		trees = append(trees, Tree{Name: name, ReadOnly: info.flags&rootReadOnly != 0})
	}
	for i, info := range infos {
		trees[i].Parent = byUUID[info.parentUUID]
	}
	return trees, nil
}

func (b *btrfsDriver) info(name string) (*subvolInfo, error) {
	t, err := openTree(b.root, name)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	return getSubvolInfo(t)
}

// treeID returns the id of a tree's subvolume, which is that of its quota too.
func (b *btrfsDriver) treeID(name string) (uint64, error) {
	info, err := b.info(name)
	if err != nil {
		return 0, err
	}
	return info.treeID, nil
}
