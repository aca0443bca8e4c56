package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"golang.org/x/sys/unix"
)

// keepEntry keeps a folder while no tree is in it. No tree can be called so.
const keepEntry = ".folder"

// Folder makes a directory that stays, whether trees are in it or not, and
// returns its path: the tree NAME/x appears in it as x/@. It is meant to be
// shown read-only in a machine: any user there may list it, and pass through the
// folders in it, which only root may list. The caller may put symbolic links in
// it. RemoveFolder ends it. One that is there is no error.
func (d *Disk) Folder(name string) (path string, err error) {
	if err := d.enter(name); err != nil {
		return "", err
	}
	defer d.leave()
	err = withNewHolder(d.root, name, func(h *os.File) error {
		path = h.Name()
		if err := h.Chmod(0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(path, keepEntry), nil, 0o644)
	})
	if err != nil {
		return "", fmt.Errorf("make folder %s: %w", name, err)
	}
	return path, nil
}

// RemoveFolder removes a folder with the links in it, and the trees that are
// directly in it or in one of its own directories. One that is gone is no error.
func (d *Disk) RemoveFolder(ctx context.Context, name string) error {
	trees, err := d.List(ctx, name)
	if err != nil {
		return err
	}
	for _, tree := range trees {
		if err := d.Remove(ctx, tree.Name); err != nil {
			return err
		}
	}
	if err := d.enter(name); err != nil {
		return err
	}
	defer d.leave()
	if err := d.clearFolder(name); err != nil {
		return fmt.Errorf("remove folder %s: %w", name, err)
	}
	return nil
}

// clearFolder removes what is left in a folder that has no trees, and itself.
func (d *Disk) clearFolder(name string) error {
	path := filepath.Join(d.root, "trees", name)
	entries, err := os.ReadDir(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(path, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	tidyHolder(d.root, name)
	return nil
}

// Folders returns the names of the folders directly below a prefix, sorted.
func (d *Disk) Folders(prefix string) ([]string, error) {
	if err := d.enter(prefix); err != nil {
		return nil, err
	}
	defer d.leave()
	found, err := filepath.Glob(filepath.Join(d.root, "trees", prefix, "*", keepEntry))
	if err != nil {
		return nil, fmt.Errorf("list folders: %w", err)
	}
	names := make([]string, 0, len(found))
	for _, path := range found {
		names = append(names, filepath.Join(prefix, filepath.Base(filepath.Dir(path))))
	}
	sort.Strings(names)
	return names, nil
}

// Swap lets two trees change places: each has the name, and is where the name
// says, of the other. Both have changed or neither, but until Sync a power cut
// can take it back. Files that are open stay those of the tree they were opened in.
func (d *Disk) Swap(ctx context.Context, a, b string) error {
	if err := d.enter(a, b); err != nil {
		return err
	}
	defer d.leave()
	if err := d.driver.swap(a, b); err != nil {
		return fmt.Errorf("swap trees %s and %s: %w", a, b, err)
	}
	return nil
}

func (b *btrfsDriver) swap(one, other string) error {
	return swapEntries(b.root, one, other, treeEntry)
}

func (c *copyDriver) swap(one, other string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := swapEntries(c.root, one, other, treeEntry); err != nil {
		return err
	}
	return swapEntries(c.root, one, other, infoEntry)
}

// swapEntries swaps the entries of that name in two trees' holders.
func swapEntries(root, one, other, entry string) error {
	a, err := openHolder(root, one, false)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := openHolder(root, other, false)
	if err != nil {
		return err
	}
	defer b.Close()
	return os.NewSyscallError("exchange", unix.Renameat2(int(a.Fd()), entry, int(b.Fd()), entry, unix.RENAME_EXCHANGE))
}
