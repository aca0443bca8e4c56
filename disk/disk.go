// Package disk keeps the copy-on-write directory trees that machines and
// templates have as their root file systems.
//
// A tree is a directory with a name such as "machines/i3k" or
// "templates/base/b1". With the btrfs driver it is a subvolume: cloning one is
// a snapshot, its limit is a quota of the file system, and removing it frees
// its space in the background. The copy driver gives the same contract on any
// file system, without limits and in time that grows with a tree's size.
//
// Layout below Config.Dir:
//
//	lock               held (flock) by the process that has the directory open
//	pool.btrfs         sparse pool file; only where Dir is not itself on btrfs
//	pool/              where the pool file is mounted, or a plain directory
//	pool/trees/N/@     the tree named N
//	pool/trees/N/@info what the copy driver remembers of N
//	pool/trees/N/.folder  keeps the directory N where no tree is in it
//	pool/probe/        what Open tries the file system's abilities on
//	pool/trash/        copy driver: trees whose files are being deleted
//
// "@" cannot be part of a name, so names may be prefixes of one another, and
// every tree has a directory of its own to be created in: the kernel holds the
// parent directory's lock for the whole of a snapshot, so trees that shared
// one would be cloned one after the other.
package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Errors to test for with errors.Is. os.ErrNotExist and os.ErrExist are used
// for trees that are missing or in the way.
var (
	// ErrName is returned for a name that breaks the rules of Tree.Name.
	ErrName = errors.New("invalid tree name")
	// ErrInUse is returned by Open when another process has the directory open.
	ErrInUse = errors.New("disk directory is in use by another process")
	// ErrBusy is returned by Close when something still uses the mounted pool.
	ErrBusy = errors.New("disk pool is in use")
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("disk is closed")
)

// Config says where trees are kept and how.
type Config struct {
	// Dir is the directory that holds everything; it is created with mode 0700.
	Dir string
	// PoolSizeBytes is the size of the pool file. It is sparse and takes only
	// what is used. 0 means 80 % of the free space at first start, at least
	// 4 GiB, and the present size afterwards. A larger value grows an existing
	// pool; a smaller one leaves it as it is.
	PoolSizeBytes int64
	// Driver is "btrfs", "copy" or "auto" (also when empty): btrfs where it can
	// be had, else copy.
	Driver string
	// Logger receives warnings about what this host cannot do; nil discards them.
	Logger *slog.Logger
}

// Tree describes one tree.
type Tree struct {
	// Name is 1 to 8 components separated by "/". A component starts with a
	// letter or digit, goes on with those, ".", "_" or "-", and has at most 64.
	Name string
	// Path is the tree's directory. It stays the same for the tree's life.
	Path string
	// ReadOnly trees cannot be written; the copy driver only remembers it.
	ReadOnly bool
	// Parent is the name of the tree this one was cloned from, if that exists.
	Parent string
}

// CloneOptions are choices for Clone.
type CloneOptions struct {
	ReadOnly bool
	// LimitBytes is how much the clone may write beyond what it shares with its
	// source; 0 is no limit. Writers beyond it get EDQUOT.
	LimitBytes int64
}

// Features tells what the driver in use can promise.
type Features struct {
	Driver string // "btrfs" or "copy"
	// Quota is "simple" or "full" (kinds of btrfs quota; both hold), or "none".
	Quota string
	// Pool is true where the trees live in a mounted pool file.
	Pool bool
}

// Disk holds trees. Its methods may be called by many goroutines.
type Disk struct {
	root     string // Dir/pool
	lock     *os.File
	driver   driver
	pool     *poolFile // nil without a pool file
	features Features
	log      *slog.Logger

	// closing is held for reading by every operation, and for writing by Close.
	closing sync.RWMutex
	closed  bool
}

// driver is what differs between btrfs and copy. Names are valid already.
type driver interface {
	create(name string) error
	clone(ctx context.Context, from, to string, o CloneOptions) error
	seal(name string) error
	remove(name string) error
	swap(one, other string) error
	describe(names []string) ([]Tree, error)
	usage(ctx context.Context, name string) (used, limit int64, err error)
	setLimit(name string, limit int64) error
	// flush writes a tree's content, commit the names of all trees.
	flush(name string) error
	flushFile(f *os.File) error
	commit() error
	share(ctx context.Context, file, base File) (Shared, error)
	stored(f *os.File) (Stored, error)
	// close ends background work; it does not unmount.
	close() error
}

// Open makes the disk ready, creating and mounting the pool where needed, or
// taking over what an earlier process left mounted. Close must be called.
func Open(ctx context.Context, cfg Config) (*Disk, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dir == "" {
		return nil, errors.New("open disk: no directory given")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the disk directory: %w", err)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("find the disk directory: %w", err)
	}
	cfg.Dir = dir
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	d := &Disk{root: filepath.Join(dir, "pool"), lock: lock, log: log}
	if err := d.openDriver(ctx, cfg); err != nil {
		lock.Close()
		return nil, err
	}
	if err := tidyHolders(filepath.Join(d.root, "trees")); err != nil {
		return nil, errors.Join(fmt.Errorf("tidy the disk directory: %w", err), d.Close(false))
	}
	return d, nil
}

func (d *Disk) openDriver(ctx context.Context, cfg Config) error {
	switch cfg.Driver {
	case "copy":
		return d.openCopy()
	case "btrfs":
		return d.openBtrfs(ctx, cfg)
	case "", "auto":
	default:
		return fmt.Errorf("open disk: unknown driver %q; use auto, btrfs or copy", cfg.Driver)
	}
	_, err := os.Stat(filepath.Join(cfg.Dir, poolFileName))
	havePool := err == nil
	// Trees made by the copy driver must not vanish under a mount.
	if _, err := os.Stat(filepath.Join(d.root, "trash")); err == nil && !havePool {
		d.log.Warn("disk: trees of the copy driver are kept: clones are full copies and limits do not hold",
			"mend", "empty the disk directory to start afresh on btrfs")
		return d.openCopy()
	}
	if !havePool && !isBtrfs(cfg.Dir) {
		if p := Check(); len(p) > 0 {
			d.log.Warn("disk: btrfs cannot be had, so clones are full copies and limits do not hold",
				"missing", p[0].What, "mend", p[0].Mend)
			return d.openCopy()
		}
	}
	err = d.openBtrfs(ctx, cfg)
	if err == nil || havePool || isBtrfs(cfg.Dir) || ctx.Err() != nil {
		return err
	}
	// A container may show all the parts and yet not let them be used.
	d.log.Warn("disk: btrfs cannot be had, so clones are full copies and limits do not hold", "err", err)
	d.pool = nil
	if err := os.Remove(filepath.Join(cfg.Dir, poolFileName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the unused disk pool: %w", err)
	}
	return d.openCopy()
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the disk directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("open %s: %w", dir, ErrInUse)
		}
		return nil, fmt.Errorf("lock the disk directory: %w", err)
	}
	return f, nil
}

// Close ends background work. With unmount it also unmounts a pool file, which
// frees its loop device; that fails with ErrBusy while machines use it. Without,
// the pool stays mounted for the next Open.
func (d *Disk) Close(unmount bool) error {
	d.closing.Lock()
	defer d.closing.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	errs := []error{d.driver.close()}
	if unmount && d.pool != nil {
		errs = append(errs, d.pool.unmount())
	}
	errs = append(errs, d.lock.Close())
	return errors.Join(errs...)
}

// enter lets an operation begin; leave must follow when it returns nil.
func (d *Disk) enter(names ...string) error {
	for _, n := range names {
		if err := checkName(n); err != nil {
			return err
		}
	}
	d.closing.RLock()
	if d.closed {
		d.closing.RUnlock()
		return ErrClosed
	}
	return nil
}

func (d *Disk) leave() { d.closing.RUnlock() }

// Features tells what the driver in use can promise.
func (d *Disk) Features() Features { return d.features }

// Path returns where a tree with this name is or would be.
func (d *Disk) Path(name string) string {
	return filepath.Join(d.root, "trees", filepath.FromSlash(name), treeEntry)
}

// Create makes an empty writable tree, owned by root with mode 0755.
func (d *Disk) Create(ctx context.Context, name string) (Tree, error) {
	if err := d.enter(name); err != nil {
		return Tree{}, err
	}
	defer d.leave()
	if err := d.driver.create(name); err != nil {
		return Tree{}, fmt.Errorf("create tree %s: %w", name, err)
	}
	return Tree{Name: name, Path: d.Path(name)}, nil
}

// Clone makes a tree with the content that another has at this instant. It
// exists whole, with its limit, or not at all.
func (d *Disk) Clone(ctx context.Context, from, to string, o CloneOptions) (Tree, error) {
	if err := d.enter(from, to); err != nil {
		return Tree{}, err
	}
	defer d.leave()
	if err := d.driver.clone(ctx, from, to, o); err != nil {
		return Tree{}, fmt.Errorf("clone tree %s to %s: %w", from, to, err)
	}
	return Tree{Name: to, Path: d.Path(to), ReadOnly: o.ReadOnly, Parent: from}, nil
}

// Seal makes a tree read-only for good.
func (d *Disk) Seal(ctx context.Context, name string) error {
	if err := d.enter(name); err != nil {
		return err
	}
	defer d.leave()
	if err := d.driver.seal(name); err != nil {
		return fmt.Errorf("seal tree %s: %w", name, err)
	}
	return nil
}

// Remove deletes a tree with all in it. The name is free when it returns; the
// space comes back in the background. A tree that is gone is no error.
func (d *Disk) Remove(ctx context.Context, name string) error {
	if err := d.enter(name); err != nil {
		return err
	}
	defer d.leave()
	if err := d.driver.remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove tree %s: %w", name, err)
	}
	return nil
}

// List returns the trees whose name is prefix or lies below it ("machines"
// covers "machines/i3k"), sorted by name. An empty prefix is all.
func (d *Disk) List(ctx context.Context, prefix string) ([]Tree, error) {
	prefix = strings.Trim(prefix, "/")
	check := []string{prefix}
	if prefix == "" {
		check = nil
	}
	if err := d.enter(check...); err != nil {
		return nil, err
	}
	defer d.leave()
	names, err := treeNames(ctx, filepath.Join(d.root, "trees"), prefix)
	if err != nil {
		return nil, fmt.Errorf("list trees: %w", err)
	}
	trees, err := d.driver.describe(names)
	if err != nil {
		return nil, fmt.Errorf("list trees: %w", err)
	}
	for i := range trees {
		trees[i].Path = d.Path(trees[i].Name)
	}
	return trees, nil
}

// Usage returns how many bytes a tree has written beyond what it was cloned
// with, and its limit (0 is none). The copy driver counts the whole tree.
func (d *Disk) Usage(ctx context.Context, name string) (used, limit int64, err error) {
	if err := d.enter(name); err != nil {
		return 0, 0, err
	}
	defer d.leave()
	used, limit, err = d.driver.usage(ctx, name)
	if err != nil {
		return 0, 0, fmt.Errorf("read usage of tree %s: %w", name, err)
	}
	return used, limit, nil
}

// SetLimit replaces the limit of a tree, in bytes; 0 is none. The copy driver
// only remembers it.
func (d *Disk) SetLimit(ctx context.Context, name string, limit int64) error {
	if err := d.enter(name); err != nil {
		return err
	}
	defer d.leave()
	if err := d.driver.setLimit(name, limit); err != nil {
		return fmt.Errorf("limit tree %s: %w", name, err)
	}
	return nil
}

// Root opens a tree for reading and writing its files from the host. What a
// guest put there cannot lead out of it: symbolic links that would are errors.
func (d *Disk) Root(name string) (*os.Root, error) {
	if err := d.enter(name); err != nil {
		return nil, err
	}
	defer d.leave()
	r, err := os.OpenRoot(d.Path(name))
	if err != nil {
		return nil, fmt.Errorf("open tree %s: %w", name, err)
	}
	return r, nil
}

// Stat returns the capacity and the free space in bytes: of the pool, but no
// more than the file system below it can still give.
func (d *Disk) Stat() (total, free int64, err error) {
	if err := d.enter(); err != nil {
		return 0, 0, err
	}
	defer d.leave()
	var st unix.Statfs_t
	if err := unix.Statfs(d.root, &st); err != nil {
		return 0, 0, fmt.Errorf("stat the disk pool: %w", err)
	}
	total, free = int64(st.Blocks)*st.Bsize, int64(st.Bavail)*st.Bsize
	if d.pool != nil {
		if err := unix.Statfs(filepath.Dir(d.root), &st); err != nil {
			return 0, 0, fmt.Errorf("stat the disk directory: %w", err)
		}
		free = min(free, int64(st.Bavail)*st.Bsize)
	}
	return total, free, nil
}
