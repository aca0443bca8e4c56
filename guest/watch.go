package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	fspb "github.com/atoll-cloud/atoll/wire/filesystem"
)

const (
	// maxWatchedDirs bounds the directories of one recursive watch.
	maxWatchedDirs = 64 << 10
	watchMask      = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_MODIFY |
		unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
)

// errEventsLost is reported when more happened than could be kept.
var errEventsLost = errors.New("more happened in the watched directory than was fetched: some events are lost")

// watchEvent is something that happened to a name below the watched directory.
type watchEvent struct {
	name string
	kind fspb.EventType
}

// watch follows one directory, and all below it when recursive. Events come
// from next, which one goroutine calls; Close may be called by another.
type watch struct {
	root      string
	recursive bool
	file      *os.File
	dirs      map[int]string // watch descriptor → path below root, "" for root
	pending   []watchEvent
	// leaving is a directory that was moved, to nobody knows where yet.
	leaving departure
}

// departure is a directory that is moved; its arrival has the same cookie.
type departure struct {
	path   string
	cookie uint32
}

// newWatch begins to watch a directory.
func newWatch(root string, recursive, networkMounts bool) (*watch, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("path not found: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%w: '%s' is not a directory", errBadPath, root)
	}
	if !networkMounts && onNetworkMount(root) {
		return nil, fmt.Errorf("%w: '%s' is on a network file system, where events may be lost: allow network mounts to watch it all the same", errBadPath, root)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open a watch: %w", err)
	}
	w := &watch{root: root, recursive: recursive, file: os.NewFile(uintptr(fd), "inotify"), dirs: map[int]string{}}
	if err := w.add("", false); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Close ends the watch and wakes next.
func (w *watch) Close() { w.file.Close() }

// add watches a directory, and those below it when recursive. With report,
// what is found inside is reported as created: it came before the watch did.
func (w *watch) add(name string, report bool) error {
	path := filepath.Join(w.root, name)
	if len(w.dirs) >= maxWatchedDirs {
		return fmt.Errorf("watch '%s': more than %d directories: %w", path, maxWatchedDirs, unix.ENOSPC)
	}
	descriptor, err := w.control(func(fd int) (int, error) { return unix.InotifyAddWatch(fd, path, watchMask) })
	if err != nil {
		return fmt.Errorf("watch '%s': %w", path, err)
	}
	w.dirs[descriptor] = name
	if !w.recursive {
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("watch '%s': %w", path, err)
	}
	for _, entry := range entries {
		child := filepath.Join(name, entry.Name())
		if report {
			w.pending = append(w.pending, watchEvent{child, fspb.EventType_EVENT_TYPE_CREATE})
		}
		if entry.IsDir() {
			if err := w.add(child, report); err != nil && !isGone(err) {
				return err
			}
		}
	}
	return nil
}

func (w *watch) control(call func(fd int) (int, error)) (result int, err error) {
	conn, err := w.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	if controlErr := conn.Control(func(fd uintptr) { result, err = call(int(fd)) }); controlErr != nil {
		return 0, controlErr
	}
	return result, err
}

// next waits for events. After an error other than errEventsLost the watch is
// of no more use.
func (w *watch) next() ([]watchEvent, error) {
	var buffer [16 << 10]byte
	for {
		n, err := w.file.Read(buffer[:])
		if err != nil {
			return nil, err
		}
		for rest := buffer[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(rest[12:]))
			if size > len(rest) {
				return nil, errors.New("the kernel reported half an event")
			}
			name := strings.TrimRight(string(rest[unix.SizeofInotifyEvent:size]), "\x00")
			if err := w.translate(kernelEvent{
				descriptor: int(int32(binary.NativeEndian.Uint32(rest))),
				mask:       binary.NativeEndian.Uint32(rest[4:]),
				cookie:     binary.NativeEndian.Uint32(rest[8:]),
				name:       name,
			}); err != nil {
				return nil, err
			}
			rest = rest[size:]
		}
		if len(w.pending) > 0 {
			events := w.pending
			w.pending = nil
			return events, nil
		}
	}
}

// kernelEvent is one event as inotify reports it.
type kernelEvent struct {
	descriptor   int
	mask, cookie uint32
	name         string
}

// translate turns a kernel event into ours and follows directories that come
// and go.
func (w *watch) translate(e kernelEvent) error {
	if e.mask&unix.IN_Q_OVERFLOW != 0 {
		return errEventsLost
	}
	arrived := w.settle(e)
	dir, known := w.dirs[e.descriptor]
	if !known {
		return nil
	}
	if e.mask&unix.IN_IGNORED != 0 {
		delete(w.dirs, e.descriptor)
		return nil
	}
	if e.name == "" {
		w.translateSelf(dir, e.mask)
		return nil
	}
	path := filepath.Join(dir, e.name)
	for _, k := range kinds {
		if e.mask&k.mask != 0 {
			w.pending = append(w.pending, watchEvent{path, k.kind})
		}
	}
	if !w.recursive || e.mask&unix.IN_ISDIR == 0 {
		return nil
	}
	if e.mask&unix.IN_MOVED_FROM != 0 {
		w.leaving = departure{path, e.cookie}
	}
	if e.mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0 {
		if err := w.add(path, !arrived); err != nil && !isGone(err) {
			return err
		}
	}
	return nil
}

// settle decides about the directory that is leaving: it arrives with this
// event and keeps its watches, or it is gone from what we watch.
func (w *watch) settle(e kernelEvent) (arrived bool) {
	if w.leaving.path == "" {
		return false
	}
	from := w.leaving
	w.leaving = departure{}
	dir, known := w.dirs[e.descriptor]
	if e.mask&unix.IN_MOVED_TO == 0 || e.cookie != from.cookie || !known {
		w.forget(from.path)
		return false
	}
	to := filepath.Join(dir, e.name)
	for descriptor, at := range w.dirs {
		if at == from.path {
			w.dirs[descriptor] = to
		} else if rest, below := strings.CutPrefix(at, from.path+"/"); below {
			w.dirs[descriptor] = to + "/" + rest
		}
	}
	return true
}

// translateSelf reports the end of the watched directory itself; its parent's
// watch reports that of others.
func (w *watch) translateSelf(dir string, mask uint32) {
	if dir != "" {
		return
	}
	if mask&unix.IN_DELETE_SELF != 0 {
		w.pending = append(w.pending, watchEvent{".", fspb.EventType_EVENT_TYPE_REMOVE})
	}
	if mask&unix.IN_MOVE_SELF != 0 {
		w.pending = append(w.pending, watchEvent{".", fspb.EventType_EVENT_TYPE_RENAME})
	}
}

// forget stops watching a directory that was moved away, and all below it.
func (w *watch) forget(path string) {
	for descriptor, dir := range w.dirs {
		if dir == path || strings.HasPrefix(dir, path+"/") {
			delete(w.dirs, descriptor)
			w.control(func(fd int) (int, error) { return unix.InotifyRmWatch(fd, uint32(descriptor)) })
		}
	}
}

var kinds = []struct {
	mask uint32
	kind fspb.EventType
}{
	{unix.IN_CREATE | unix.IN_MOVED_TO, fspb.EventType_EVENT_TYPE_CREATE},
	{unix.IN_MODIFY, fspb.EventType_EVENT_TYPE_WRITE},
	{unix.IN_DELETE, fspb.EventType_EVENT_TYPE_REMOVE},
	{unix.IN_MOVED_FROM, fspb.EventType_EVENT_TYPE_RENAME},
	{unix.IN_ATTRIB, fspb.EventType_EVENT_TYPE_CHMOD},
}

// isGone reports that a directory vanished or was replaced while we looked.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

// onNetworkMount reports file systems whose changes the kernel may not see.
func onNetworkMount(path string) bool {
	var disk unix.Statfs_t
	if err := unix.Statfs(path, &disk); err != nil {
		return false
	}
	switch uint32(disk.Type) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.FUSE_SUPER_MAGIC:
		return true
	}
	return false
}
