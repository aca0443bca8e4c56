package disk

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// trashBin deletes, one after the other in the background, the directories
// that are moved into it.
type trashBin struct {
	dir  string
	log  *slog.Logger
	poke chan struct{}
	ctx  context.Context
	end  context.CancelFunc
	done sync.WaitGroup

	mu   sync.Mutex
	held map[string]bool // being written, not trash yet
	next int
}

func startTrashBin(dir string, log *slog.Logger) *trashBin {
	t := &trashBin{dir: dir, log: log, poke: make(chan struct{}, 1), held: make(map[string]bool)}
	t.ctx, t.end = context.WithCancel(context.Background())
	t.done.Go(func() {
		t.wake() // what an earlier process left
		for {
			select {
			case <-t.ctx.Done():
				return
			case <-t.poke:
			}
			if err := t.empty(); err != nil && t.ctx.Err() == nil {
				t.log.Warn("disk: delete removed trees", "err", err)
			}
		}
	})
	return t
}

func (t *trashBin) wake() {
	select {
	case t.poke <- struct{}{}:
	default:
	}
}

func (t *trashBin) stop() {
	t.end()
	t.done.Wait()
}

// hold keeps an entry from being deleted until release, which makes the bin
// delete it if it is still there.
func (t *trashBin) hold(name string) (release func()) {
	t.mu.Lock()
	t.held[name] = true
	t.mu.Unlock()
	return func() {
		t.mu.Lock()
		delete(t.held, name)
		t.mu.Unlock()
		t.wake()
	}
}

// empty deletes all entries. A directory inside one is moved up into the bin
// and deleted in its turn, so that no depth a guest makes needs a deep
// recursion, many descriptors or a long path.
func (t *trashBin) empty() error {
	bin, err := os.Open(t.dir)
	if err != nil {
		return err
	}
	defer bin.Close()
	for {
		if _, err := bin.Seek(0, io.SeekStart); err != nil {
			return err
		}
		names, err := bin.Readdirnames(-1)
		if err != nil {
			return err
		}
		progress := false
		for _, name := range names {
			t.mu.Lock()
			held := t.held[name]
			t.mu.Unlock()
			if held {
				continue
			}
			if err := t.ctx.Err(); err != nil {
				return err
			}
			if err := t.clear(bin, name); err != nil {
				return err
			}
			progress = true
		}
		if !progress {
			return nil
		}
	}
}

// clear deletes one entry of the bin and moves its directories into the bin.
func (t *trashBin) clear(bin *os.File, name string) error {
	dir, err := openDirAt(bin, name)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return unlinkForced(bin, name, 0)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
		entries, err := dir.ReadDir(1024)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := t.discard(bin, dir, e); err != nil {
				return err
			}
		}
	}
	return unlinkForced(bin, name, unix.AT_REMOVEDIR)
}

func (t *trashBin) discard(bin, dir *os.File, e os.DirEntry) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	if !e.IsDir() {
		return unlinkForced(dir, e.Name(), 0)
	}
	err := unlinkForced(dir, e.Name(), unix.AT_REMOVEDIR)
	for errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		t.next++
		to := "d" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(t.next)
		err = unix.Renameat(int(dir.Fd()), e.Name(), int(bin.Fd()), to)
		if errors.Is(err, unix.EPERM) {
			if err = clearAttributes(dir, e.Name()); err == nil {
				err = unix.Renameat(int(dir.Fd()), e.Name(), int(bin.Fd()), to)
			}
		}
		if err == nil {
			return nil
		}
	}
	return err
}

// unlinkForced deletes an entry, taking away file attributes that forbid it.
func unlinkForced(dir *os.File, name string, flags int) error {
	err := unix.Unlinkat(int(dir.Fd()), name, flags)
	if errors.Is(err, unix.EPERM) {
		// Either the directory is protected or the entry is.
		if e := clearFileAttributes(dir); e != nil {
			return e
		}
		if e := clearEntryAttributes(dir, name); e != nil {
			return e
		}
		err = unix.Unlinkat(int(dir.Fd()), name, flags)
	}
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return &os.PathError{Op: "unlink", Path: filepath.Join(dir.Name(), name), Err: err}
}

// clearEntryAttributes does so for a file or directory. Other kinds have none,
// and opening a device could do something.
func clearEntryAttributes(dir *os.File, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("stat", err)
	}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return nil
	}
	f, err := openAt(dir, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return clearFileAttributes(f)
}

// treeSize adds up the blocks of a tree's files, each hard link once.
func treeSize(ctx context.Context, root *os.File) (int64, error) {
	var total int64
	seen := make(map[uint64]bool)
	var walk func(dir *os.File, depth int) error
	walk = func(dir *os.File, depth int) error {
		names, err := dir.Readdirnames(-1)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			var st unix.Stat_t
			if unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
				continue // deleted meanwhile
			}
			if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
				if seen[st.Ino] {
					continue
				}
				seen[st.Ino] = true
			}
			total += st.Blocks * 512
			if st.Mode&unix.S_IFMT != unix.S_IFDIR || depth == maxDepth {
				continue
			}
			sub, err := openDirAt(dir, name)
			if err != nil {
				continue
			}
			err = walk(sub, depth+1)
			sub.Close()
			if err != nil {
				return err
			}
		}
		return nil
	}
	return total, walk(root, 0)
}
