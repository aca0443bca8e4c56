package disk

import (
	"context"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Stored is how much storage files take, in bytes.
type Stored struct {
	// All is what they refer to. Holes are not in it.
	All int64
	// Own is what each of them alone refers to, and only once: at least this
	// much is free when they are removed.
	Own int64
}

// Stored measures a file, or all files of a directory, of a tree. The copy
// driver shares nothing, so there both figures are the same.
func (d *Disk) Stored(ctx context.Context, at File) (Stored, error) {
	if err := d.enter(at.Tree); err != nil {
		return Stored{}, err
	}
	defer d.leave()
	var sum Stored
	err := eachFile(ctx, d.root, at, func(f *os.File) error {
		s, err := d.driver.stored(f)
		sum.All += s.All
		sum.Own += s.Own
		return err
	})
	if err != nil {
		return Stored{}, fmt.Errorf("measure %s in tree %s: %w", at.Path, at.Tree, err)
	}
	return sum, nil
}

// eachFile calls f for the regular files at or below a path, which lead
// nowhere out of the tree.
func eachFile(ctx context.Context, pool string, at File, f func(*os.File) error) error {
	root, err := openTreeRoot(pool, at.Tree)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), at.Path, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		file, err := openRegular(root, path, os.O_RDONLY)
		if err != nil {
			return err
		}
		defer file.Close()
		return f(file)
	})
}

func openTreeRoot(pool, name string) (*os.Root, error) {
	t, err := openTree(pool, name)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	return os.OpenRoot(t.Name())
}

// openRegular opens a file that must be a regular one.
func openRegular(root *os.Root, path string, flags int) (*os.File, error) {
	f, err := root.OpenFile(path, flags|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: unix.EINVAL}
	}
	return f, nil
}

func (c *copyDriver) stored(f *os.File) (Stored, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Stored{}, os.NewSyscallError("stat", err)
	}
	return Stored{All: st.Blocks * 512, Own: st.Blocks * 512}, nil
}

func (b *btrfsDriver) stored(f *os.File) (s Stored, err error) {
	var pieces []fileExtent
	err = fileExtents(f, fiemapSync, func(e fileExtent) {
		pieces = append(pieces, e)
		s.All += int64(e.length)
		if e.flags&extentInline != 0 {
			s.Own += int64(e.length)
		}
	})
	if err != nil {
		return s, err
	}
	extents, err := diskExtents(f)
	if err != nil {
		return s, err
	}
	// An extent is kept whole for as long as a part of it is used. Both lists
	// are in order; a piece may span several extents that lie side by side.
	counted := make(map[uint64]bool)
	for _, e := range extents {
		for len(pieces) > 0 && pieces[0].offset+pieces[0].length <= e.offset {
			pieces = pieces[1:]
		}
		if len(pieces) == 0 || e.disk == 0 || counted[e.disk] || pieces[0].flags&extentShared != 0 {
			continue
		}
		counted[e.disk] = true
		s.Own += int64(e.diskLength)
	}
	return s, nil
}
