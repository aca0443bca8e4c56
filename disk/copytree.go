package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxDepth bounds how deep a copied tree may be: one directory of source and
// copy is open for each level.
const maxDepth = 1000

// copier copies one tree. It goes from directory to directory by descriptor
// and never follows a symbolic link.
type copier struct {
	ctx     context.Context
	reflink bool
	links   map[[2]uint64]string // files with several names: where the copy is
	dest    string
}

// copyTree copies a directory with owners, modes, times, extended attributes,
// hard links and special files to a path that does not exist.
func copyTree(ctx context.Context, src *os.File, dest string) error {
	c := &copier{ctx: ctx, reflink: true, links: make(map[[2]uint64]string), dest: dest}
	if err := os.Mkdir(dest, 0o700); err != nil {
		return err
	}
	dst, err := os.Open(dest)
	if err != nil {
		return err
	}
	defer dst.Close()
	return c.dir(src, dst, 0)
}

func (c *copier) dir(src, dst *os.File, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("copy tree: directories are nested more than %d deep", maxDepth)
	}
	for {
		names, err := src.Readdirnames(256)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			if err := c.entry(src, dst, name, depth); err != nil {
				return err
			}
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if err := copyXattrs(src, dst); err != nil {
		return err
	}
	return applyStat(dst, &st)
}

func (c *copier) entry(src, dst *os.File, name string, depth int) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(src.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil // deleted while the source is in use
	}
	if err != nil {
		return &os.PathError{Op: "stat", Path: filepath.Join(src.Name(), name), Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return c.subdir(src, dst, name, depth)
	}
	key := [2]uint64{uint64(st.Dev), st.Ino}
	if first, ok := c.links[key]; ok {
		err := unix.Linkat(unix.AT_FDCWD, first, int(dst.Fd()), name, 0)
		return os.NewSyscallError("link", err)
	}
	switch kind {
	case unix.S_IFREG:
		err = c.file(src, dst, name, &st)
	case unix.S_IFLNK:
		err = copyLink(src, dst, name, &st)
	default: // devices, pipes, sockets
		if err = unix.Mknodat(int(dst.Fd()), name, st.Mode, int(st.Rdev)); err == nil {
			err = applyStatAt(dst, name, &st)
		}
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", filepath.Join(src.Name(), name), err)
	}
	// Long paths cannot be linked by name; such files lose only the link.
	if path := filepath.Join(dst.Name(), name); st.Nlink > 1 && len(path) < unix.PathMax {
		c.links[key] = path
	}
	return nil
}

func (c *copier) subdir(src, dst *os.File, name string, depth int) error {
	from, err := openDirAt(src, name)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := unix.Mkdirat(int(dst.Fd()), name, 0o700); err != nil {
		return os.NewSyscallError("mkdir", err)
	}
	to, err := openDirAt(dst, name)
	if err != nil {
		return err
	}
	defer to.Close()
	return c.dir(from, to, depth+1)
}

func (c *copier) file(src, dst *os.File, name string, st *unix.Stat_t) error {
	in, err := openAt(src, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := openAt(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if c.reflink {
		err = unix.IoctlFileClone(int(out.Fd()), int(in.Fd()))
		c.reflink = err == nil || errors.Is(err, unix.EINVAL)
	}
	if !c.reflink || err != nil {
		if err := copySparse(out, in, st.Size); err != nil {
			return err
		}
	}
	if err := copyXattrs(in, out); err != nil {
		return err
	}
	return applyStat(out, st)
}

// copySparse copies the data of a file and keeps its holes.
func copySparse(out, in *os.File, size int64) error {
	for pos := int64(0); pos < size; {
		start, err := unix.Seek(int(in.Fd()), pos, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return os.NewSyscallError("seek", err)
		}
		end, err := unix.Seek(int(in.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return os.NewSyscallError("seek", err)
		}
		end = min(end, size)
		if start >= end {
			break
		}
		if _, err := io.Copy(io.NewOffsetWriter(out, start), io.NewSectionReader(in, start, end-start)); err != nil {
			return err
		}
		pos = end
	}
	return out.Truncate(size)
}

func openAt(dir *os.File, name string, flags int, mode uint32) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name)), nil
}

func copyLink(src, dst *os.File, name string, st *unix.Stat_t) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(src.Fd()), name, buf)
	if err != nil {
		return os.NewSyscallError("readlink", err)
	}
	if err := unix.Symlinkat(string(buf[:n]), int(dst.Fd()), name); err != nil {
		return os.NewSyscallError("symlink", err)
	}
	return applyStatAt(dst, name, st)
}

// applyStat gives an open file or directory its owner, mode and times; the
// mode last, because a change of owner clears the set-user-id bit.
func applyStat(f *os.File, st *unix.Stat_t) error {
	if err := unix.Fchown(int(f.Fd()), int(st.Uid), int(st.Gid)); err != nil {
		return os.NewSyscallError("chown", err)
	}
	if err := unix.Fchmod(int(f.Fd()), st.Mode&0o7777); err != nil {
		return os.NewSyscallError("chmod", err)
	}
	tv := []unix.Timeval{
		unix.NsecToTimeval(unix.TimespecToNsec(st.Atim)),
		unix.NsecToTimeval(unix.TimespecToNsec(st.Mtim)),
	}
	return os.NewSyscallError("set times", unix.Futimes(int(f.Fd()), tv))
}

func applyStatAt(dir *os.File, name string, st *unix.Stat_t) error {
	fd := int(dir.Fd())
	if err := unix.Fchownat(fd, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("chown", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(fd, name, st.Mode&0o7777, 0); err != nil {
			return os.NewSyscallError("chmod", err)
		}
	}
	return os.NewSyscallError("set times",
		unix.UtimesNanoAt(fd, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW))
}

func copyXattrs(src, dst *os.File) error {
	size, err := unix.Flistxattr(int(src.Fd()), nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
		return nil
	}
	list := make([]byte, size)
	if err == nil {
		size, err = unix.Flistxattr(int(src.Fd()), list)
	}
	if err != nil {
		return os.NewSyscallError("list attributes", err)
	}
	for _, name := range splitNul(list[:size]) {
		value := make([]byte, 64<<10) // the kernel's own limit
		n, err := unix.Fgetxattr(int(src.Fd()), name, value)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err == nil {
			err = unix.Fsetxattr(int(dst.Fd()), name, value[:n], 0)
		}
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("copy attribute %q: %w", name, err)
		}
	}
	return nil
}

func splitNul(list []byte) []string {
	var names []string
	for start, i := 0, 0; i < len(list); i++ {
		if list[i] == 0 {
			names = append(names, string(list[start:i]))
			start = i + 1
		}
	}
	return names
}
