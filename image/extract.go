package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"

	// archiveOverhead is allowed per entry on top of its content: headers,
	// long names, padding.
	archiveOverhead = 16 << 10
	maxRemoveDepth  = 4096
)

// extractor unpacks layers, one over the other, into a directory. Names are
// resolved by the kernel with the directory as the root, so that no ".." and
// no symbolic link, in this layer or in one before, leads out of it.
type extractor struct {
	root    *os.File
	limits  Limits
	bytes   int64 // unpacked so far
	entries int64
	read    int64 // of layers, uncompressed

	// made has the hashes of the paths that the present layer has made:
	// whiteouts apply to the layers below it only.
	made map[uint64]struct{}
	seed maphash.Seed
}

func newExtractor(dir string, limits Limits) (*extractor, error) {
	root, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return &extractor{root: root, limits: limits.withDefaults(), seed: maphash.MakeSeed()}, nil
}

func (x *extractor) close() { x.root.Close() }

// bounded stops a layer that expands without end.
func (x *extractor) bounded(r io.Reader) io.Reader { return &boundedReader{x, r} }

type boundedReader struct {
	x *extractor
	r io.Reader
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.x.read += int64(n)
	if b.x.read > b.x.limits.Bytes+(b.x.entries+64)*archiveOverhead {
		return n, fmt.Errorf("%w: its layers expand to more than the %d bytes allowed", ErrTooLarge, b.x.limits.Bytes)
	}
	return n, err
}

// layer unpacks one layer's archive.
func (x *extractor) layer(r io.Reader) error {
	x.made = make(map[uint64]struct{})
	archive := tar.NewReader(x.bounded(r))
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if x.entries++; x.entries > x.limits.Entries {
			return fmt.Errorf("%w: more than %d entries", ErrTooLarge, x.limits.Entries)
		}
		if err := x.entry(header, archive); err != nil {
			return fmt.Errorf("entry %.200q: %w", header.Name, err)
		}
	}
}

// cleanName returns a name relative to the root. An absolute one counts from
// the root; one with ".." is refused, for no honest tool writes it.
func cleanName(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 || len(name) >= unix.PathMax {
		return "", fmt.Errorf("%w: impossible name", ErrHostile)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("%w: name leads upwards", ErrHostile)
		}
	}
	return path.Clean(strings.TrimLeft(name, "/")), nil // "." for the root itself
}

func (x *extractor) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) >= math.MaxUint32 || int64(h.Gid) >= math.MaxUint32 {
		return fmt.Errorf("%w: impossible owner %d:%d", ErrHostile, h.Uid, h.Gid)
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("%w: the root is not a directory", ErrHostile)
		}
		return applyHeader(x.root, h)
	}
	dirName, base := path.Split(name)
	dir, err := x.openDir(path.Clean(dirName))
	if err != nil {
		return err
	}
	defer dir.Close()
	switch {
	case base == whiteoutOpaque:
		return x.removeLower(dir, path.Clean(dirName), 0)
	case strings.HasPrefix(base, whiteoutPrefix):
		return x.whiteout(dir, path.Join(dirName, strings.TrimPrefix(base, whiteoutPrefix)))
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		return nil // a sandbox has its own devices
	}
	if err := x.put(dir, base, h, content); err != nil {
		return err
	}
	x.mark(name)
	return nil
}

func (x *extractor) hash(name string) uint64 { return maphash.String(x.seed, name) }

// mark remembers that this layer made a path, and with it the directories above.
func (x *extractor) mark(name string) {
	for ; name != "."; name = path.Dir(name) {
		key := x.hash(name)
		if _, ok := x.made[key]; ok {
			return
		}
		x.made[key] = struct{}{}
	}
}

// whiteout removes what a layer below has at a path.
func (x *extractor) whiteout(dir *os.File, name string) error {
	base := path.Base(name)
	if base == "." || base == ".." || base == "/" || strings.HasSuffix(name, "/") {
		return fmt.Errorf("%w: whiteout of nothing", ErrHostile)
	}
	if _, ok := x.made[x.hash(name)]; ok {
		return x.removeInside(dir, base, name, 0)
	}
	return removeAll(dir, base, 0)
}

// removeInside removes what layers below have in a directory of this layer.
func (x *extractor) removeInside(dir *os.File, base, name string, depth int) error {
	sub, err := openDirAt(dir, base)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return err
	}
	defer sub.Close()
	return x.removeLower(sub, name, depth)
}

// removeLower removes all in a directory that this layer has not made.
func (x *extractor) removeLower(dir *os.File, name string, depth int) error {
	if depth > maxRemoveDepth {
		return fmt.Errorf("%w: directories are nested too deeply", ErrHostile)
	}
	children, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, child := range children {
		childName := path.Join(name, child)
		if _, ok := x.made[x.hash(childName)]; ok {
			err = x.removeInside(dir, child, childName, depth+1)
		} else {
			err = removeAll(dir, child, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// removeAll removes an entry with all in it, and follows no link.
func removeAll(dir *os.File, base string, depth int) error {
	err := unix.Unlinkat(int(dir.Fd()), base, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) {
		return os.NewSyscallError("unlink", err)
	}
	if depth > maxRemoveDepth {
		return fmt.Errorf("%w: directories are nested too deeply", ErrHostile)
	}
	sub, err := openDirAt(dir, base)
	if err != nil {
		return err
	}
	defer sub.Close()
	children, err := sub.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := removeAll(sub, child, depth+1); err != nil {
			return err
		}
	}
	return os.NewSyscallError("rmdir", unix.Unlinkat(int(dir.Fd()), base, unix.AT_REMOVEDIR))
}

// put makes one file, directory, link or pipe.
func (x *extractor) put(dir *os.File, base string, h *tar.Header, content io.Reader) error {
	fd := int(dir.Fd())
	var st unix.Stat_t
	err := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	exists := err == nil
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return os.NewSyscallError("stat", err)
	}
	if h.Typeflag == tar.TypeDir {
		return putDir(dir, base, h, exists && st.Mode&unix.S_IFMT == unix.S_IFDIR, exists)
	}
	if h.Typeflag == tar.TypeLink {
		return x.putHardLink(dir, base, h, exists, &st)
	}
	if exists {
		if err := removeAll(dir, base, 0); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return x.putFile(dir, base, h, content)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, fd, base); err != nil {
			return os.NewSyscallError("symlink", err)
		}
		return applyLinkHeader(dir, base, h)
	case tar.TypeFifo:
		if err := unix.Mknodat(fd, base, unix.S_IFIFO|uint32(h.Mode&0o777), 0); err != nil {
			return os.NewSyscallError("mkfifo", err)
		}
		return applyLinkHeader(dir, base, h)
	}
	return fmt.Errorf("%w: entry of unknown kind %q", ErrInvalid, h.Typeflag)
}

func putDir(dir *os.File, base string, h *tar.Header, isDir, exists bool) error {
	if exists && !isDir {
		if err := removeAll(dir, base, 0); err != nil {
			return err
		}
	}
	if !isDir {
		if err := unix.Mkdirat(int(dir.Fd()), base, 0o700); err != nil {
			return os.NewSyscallError("mkdir", err)
		}
	}
	sub, err := openDirAt(dir, base)
	if err != nil {
		return err
	}
	defer sub.Close()
	return applyHeader(sub, h)
}

func (x *extractor) putFile(dir *os.File, base string, h *tar.Header, content io.Reader) error {
	if h.Size > x.limits.Bytes-x.bytes {
		return fmt.Errorf("%w: its files take more than the %d bytes allowed", ErrTooLarge, x.limits.Bytes)
	}
	x.bytes += h.Size
	flags := unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(int(dir.Fd()), base, flags, 0o600)
	if err != nil {
		return os.NewSyscallError("create", err)
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if _, err := io.Copy(f, content); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return applyHeader(f, h)
}

// putHardLink links to a file that is there already, whose name counts from
// the root like every other.
func (x *extractor) putHardLink(dir *os.File, base string, h *tar.Header, exists bool, old *unix.Stat_t) error {
	target, err := cleanName(h.Linkname)
	if err != nil {
		return err
	}
	targetDir, targetBase := path.Split(target)
	from, err := x.openRoot(path.Clean(targetDir))
	if err != nil {
		return err
	}
	defer from.Close()
	var st unix.Stat_t
	if err := unix.Fstatat(int(from.Fd()), targetBase, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("find the link's target", err)
	}
	if exists {
		if st.Ino == old.Ino && st.Dev == old.Dev {
			return nil // the same file already, which must not be removed
		}
		if err := removeAll(dir, base, 0); err != nil {
			return err
		}
	}
	return os.NewSyscallError("link", unix.Linkat(int(from.Fd()), targetBase, int(dir.Fd()), base, 0))
}

// openRoot opens a directory below the root, with links resolved as if the
// root were that of the system.
func (x *extractor) openRoot(name string) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(int(x.root.Fd()), name, &how)
		// EAGAIN: something was renamed elsewhere on the host meanwhile.
		if (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)) && try < 100 {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// openDir is openRoot, making the directories that are missing.
func (x *extractor) openDir(name string) (*os.File, error) {
	dir, err := x.openRoot(name)
	if !errors.Is(err, fs.ErrNotExist) || name == "." {
		return dir, err
	}
	parent, err := x.openDir(path.Dir(name))
	if err != nil {
		return nil, err
	}
	err = unix.Mkdirat(int(parent.Fd()), path.Base(name), 0o755)
	parent.Close()
	if err != nil {
		// It exists but leads nowhere: a dangling link.
		return nil, &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return x.openRoot(name)
}

func openDirAt(dir *os.File, base string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: base, Err: err}
	}
	return os.NewFile(uintptr(fd), base), nil
}

func headerTimes(h *tar.Header) []unix.Timespec {
	ts := unix.NsecToTimespec(clampTime(h.ModTime).UnixNano())
	return []unix.Timespec{ts, ts}
}

// clampTime keeps a time within what nanoseconds in 64 bits can say.
func clampTime(t time.Time) time.Time {
	if t.Before(time.Unix(0, 0)) {
		return time.Unix(0, 0)
	}
	if latest := time.Unix(0, math.MaxInt64); t.After(latest) {
		return latest
	}
	return t
}
