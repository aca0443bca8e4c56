package disk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// infoEntry is beside a tree's directory and holds its copyInfo; it is written
// before the tree appears, so a tree without it does not exist.
const infoEntry = treeEntry + "info"

// copyInfo is what the copy driver remembers of a tree.
type copyInfo struct {
	ReadOnly bool   `json:"readOnly"`
	Parent   string `json:"parent,omitempty"`
	Limit    int64  `json:"limit,omitempty"`
}

// copyDriver keeps each tree as a plain directory. Trees are built and deleted
// in trash/, so that a crash leaves nothing but trash.
type copyDriver struct {
	root  string
	trash string
	next  atomic.Int64 // names in trash
	mu    sync.Mutex   // changes to info files, and trees coming and going
	bin   *trashBin
}

func (d *Disk) openCopy() error {
	c := &copyDriver{root: d.root, trash: filepath.Join(d.root, "trash")}
	for _, dir := range []string{filepath.Join(d.root, "trees"), c.trash} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("prepare the disk directory: %w", err)
		}
	}
	c.bin = startTrashBin(c.trash, d.log)
	d.driver = c
	d.features = Features{Driver: "copy", Quota: quotaNone}
	return nil
}

func (c *copyDriver) close() error {
	c.bin.stop()
	return nil
}

// stage returns a path in trash/ that nothing else uses.
func (c *copyDriver) stage() string {
	return filepath.Join(c.trash, "s"+strconv.Itoa(os.Getpid())+"-"+strconv.FormatInt(c.next.Add(1), 10))
}

func (c *copyDriver) create(name string) error {
	stage := c.stage()
	release := c.bin.hold(filepath.Base(stage))
	defer release()
	if err := os.Mkdir(stage, 0o755); err != nil {
		return err
	}
	return c.publish(stage, name, copyInfo{})
}

// publish gives a staged directory its place as a tree.
func (c *copyDriver) publish(stage, name string, info copyInfo) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return withNewHolder(c.root, name, func(h *os.File) error {
		var st unix.Stat_t
		if err := unix.Fstatat(int(h.Fd()), treeEntry, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
			return os.ErrExist
		}
		if err := writeInfo(h, info); err != nil {
			return err
		}
		if err := unix.Renameat(unix.AT_FDCWD, stage, int(h.Fd()), treeEntry); err != nil {
			err = os.NewSyscallError("rename", err)
			return errors.Join(err, unix.Unlinkat(int(h.Fd()), infoEntry, 0))
		}
		return nil
	})
}

func writeInfo(holder *os.File, info copyInfo) error {
	text, err := json.Marshal(info)
	if err != nil {
		return err
	}
	path := filepath.Join(holder.Name(), infoEntry)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (c *copyDriver) readInfo(name string) (copyInfo, error) {
	var info copyInfo
	holder := filepath.Join(c.root, "trees", name)
	if _, err := os.Lstat(filepath.Join(holder, treeEntry)); err != nil {
		return info, err
	}
	text, err := os.ReadFile(filepath.Join(holder, infoEntry))
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(text, &info); err != nil {
		return info, fmt.Errorf("read what is known of tree %s: %w", name, err)
	}
	return info, nil
}

func (c *copyDriver) updateInfo(name string, change func(*copyInfo)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := c.readInfo(name)
	if err != nil {
		return err
	}
	change(&info)
	h, err := openHolder(c.root, name, false)
	if err != nil {
		return err
	}
	defer h.Close()
	return writeInfo(h, info)
}

func (c *copyDriver) clone(ctx context.Context, from, to string, o CloneOptions) error {
	src, err := openTree(c.root, from)
	if err != nil {
		return err
	}
	defer src.Close()
	if _, err := c.readInfo(to); err == nil {
		return os.ErrExist
	}
	stage := c.stage()
	release := c.bin.hold(filepath.Base(stage))
	defer release()
	if err := copyTree(ctx, src, stage); err != nil {
		return err
	}
	return c.publish(stage, to, copyInfo{ReadOnly: o.ReadOnly, Parent: from, Limit: o.LimitBytes})
}

func (c *copyDriver) seal(name string) error {
	return c.updateInfo(name, func(i *copyInfo) { i.ReadOnly = true })
}

func (c *copyDriver) setLimit(name string, limit int64) error {
	if limit < 0 {
		return errors.New("limit is negative")
	}
	return c.updateInfo(name, func(i *copyInfo) { i.Limit = limit })
}

func (c *copyDriver) remove(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, err := openHolder(c.root, name, false)
	if err != nil {
		return err
	}
	defer h.Close()
	stage := c.stage()
	err = unix.Renameat(int(h.Fd()), treeEntry, unix.AT_FDCWD, stage)
	if errors.Is(err, unix.EPERM) {
		if err = clearAttributes(h, treeEntry); err == nil {
			err = unix.Renameat(int(h.Fd()), treeEntry, unix.AT_FDCWD, stage)
		}
	}
	if err != nil {
		return os.NewSyscallError("rename", err)
	}
	if err := unix.Unlinkat(int(h.Fd()), infoEntry, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return os.NewSyscallError("unlink", err)
	}
	tidyHolder(c.root, name)
	c.bin.wake()
	return nil
}

func (c *copyDriver) describe(names []string) ([]Tree, error) {
	known := make(map[string]bool, len(names))
	for _, n := range names {
		known[n] = true
	}
	trees := make([]Tree, 0, len(names))
	for _, name := range names {
		info, err := c.readInfo(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		t := Tree{Name: name, ReadOnly: info.ReadOnly}
		if known[info.Parent] {
			t.Parent = info.Parent
		}
		trees = append(trees, t)
	}
	return trees, nil
}

func (c *copyDriver) usage(ctx context.Context, name string) (used, limit int64, err error) {
	info, err := c.readInfo(name)
	if err != nil {
		return 0, 0, err
	}
	t, err := openTree(c.root, name)
	if err != nil {
		return 0, 0, err
	}
	defer t.Close()
	used, err = treeSize(ctx, t)
	return used, info.Limit, err
}

// flush writes all of the file system: it offers nothing less.
func (c *copyDriver) flush(name string) error {
	t, err := openTree(c.root, name)
	if err != nil {
		return err
	}
	defer t.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(t.Fd())))
}

func (c *copyDriver) flushFile(f *os.File) error { return f.Sync() }

func (c *copyDriver) commit() error { return nil } // flush has done it
