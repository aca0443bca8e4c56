package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	treeEntry = "@" // the tree's own directory inside its holder

	maxComponents   = 8
	maxComponentLen = 64

	// holderMode lets a guest's users pass through those that it is shown; the
	// host's are stopped further up.
	holderMode = 0o711
)

// checkName refuses everything but the names that Tree.Name allows.
func checkName(name string) error {
	parts := strings.Split(name, "/")
	if len(parts) > maxComponents {
		return fmt.Errorf("%w: more than %d components", ErrName, maxComponents)
	}
	for _, p := range parts {
		if !validComponent(p) {
			return fmt.Errorf("%w: %.80q", ErrName, name)
		}
	}
	return nil
}

func validComponent(p string) bool {
	if p == "" || len(p) > maxComponentLen {
		return false
	}
	for i := range len(p) {
		c := p[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return true
}

// openHolder opens the directory that holds a tree, making it if asked.
func openHolder(root, name string, make bool) (*os.File, error) {
	trees := filepath.Join(root, "trees")
	f, err := os.OpenFile(trees, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	for _, part := range strings.Split(name, "/") {
		next, err := openDirAt(f, part)
		// Another goroutine may tidy the directory away in between, so try again.
		for try := 0; make && try < 100 && errors.Is(err, os.ErrNotExist); try++ {
			if err = unix.Mkdirat(int(f.Fd()), part, holderMode); err != nil && !errors.Is(err, unix.EEXIST) {
				break
			}
			if next, err = openDirAt(f, part); err == nil {
				err = next.Chmod(holderMode) // whatever the umask is
			}
		}
		f.Close()
		if err != nil {
			return nil, err
		}
		f = next
	}
	return f, nil
}

// openDirAt opens one entry of a directory, which must be a directory itself.
func openDirAt(parent *os.File, entry string) (*os.File, error) {
	flags := unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(int(parent.Fd()), entry, flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(parent.Name(), entry), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(parent.Name(), entry)), nil
}

// openTree opens the root directory of a tree.
func openTree(root, name string) (*os.File, error) {
	h, err := openHolder(root, name, false)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return openDirAt(h, treeEntry)
}

// withNewHolder runs f in the holder for a new tree. If the holder or one above
// it is tidied away meanwhile it is made again; if f fails it is tidied away.
func withNewHolder(root, name string, f func(holder *os.File) error) error {
	for try := 0; ; try++ {
		h, err := openHolder(root, name, true)
		if errors.Is(err, os.ErrNotExist) && try < 100 {
			continue
		}
		if err != nil {
			return err
		}
		err = f(h)
		var st unix.Stat_t
		gone := unix.Fstat(int(h.Fd()), &st) == nil && st.Nlink == 0
		h.Close()
		if err == nil {
			return nil
		}
		if !gone || try == 100 {
			tidyHolder(root, name)
			return err
		}
	}
}

// tidyHolder removes the holder of a tree that is gone, and the directories
// above it that have become empty.
func tidyHolder(root, name string) {
	for ; name != "."; name = filepath.Dir(name) {
		if unix.Rmdir(filepath.Join(root, "trees", name)) != nil {
			return
		}
	}
}

// tidyHolders removes the holders without a tree that a process left which was
// killed between the two steps of making a tree or of removing one.
func tidyHolders(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || e.Name() == treeEntry {
			continue
		}
		holder := filepath.Join(dir, e.Name())
		if err := tidyHolders(holder); err != nil {
			return err
		}
		if err := unix.Rmdir(holder); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
			return &os.PathError{Op: "rmdir", Path: holder, Err: err}
		}
	}
	return nil
}

// treeNames walks the holders and returns the names of all trees at or below
// prefix, sorted. It never enters a tree.
func treeNames(ctx context.Context, trees, prefix string) ([]string, error) {
	var names []string
	var walk func(name string) error
	walk = func(name string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		dir, err := os.Open(filepath.Join(trees, name))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer dir.Close()
		for {
			entries, err := dir.ReadDir(256)
			if errors.Is(err, io.EOF) || errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			for _, e := range entries {
				if err := visit(e, name, &names, walk); err != nil {
					return err
				}
			}
		}
	}
	if err := walk(prefix); err != nil {
		return nil, err
	}
	sort.Strings(names)
	return names, nil
}

func visit(e fs.DirEntry, name string, names *[]string, walk func(string) error) error {
	switch {
	case !e.IsDir():
		return nil
	case e.Name() == treeEntry:
		*names = append(*names, name)
		return nil
	case !validComponent(e.Name()):
		return nil
	}
	return walk(filepath.Join(name, e.Name()))
}
