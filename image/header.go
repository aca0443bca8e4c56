package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// applyHeader gives an open file or directory its owner, attributes, mode and
// time, in this order: a change of owner takes away capabilities and the
// set-user-id bit.
func applyHeader(f *os.File, h *tar.Header) error {
	fd := int(f.Fd())
	if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
		return os.NewSyscallError("chown", err)
	}
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		// Capabilities and users' own; the rest means something to this host only.
		if !ok || name != "security.capability" && !strings.HasPrefix(name, "user.") {
			continue
		}
		err := unix.Fsetxattr(fd, name, []byte(value), 0)
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("set attribute %.100q: %w", name, err)
		}
	}
	if err := unix.Fchmod(fd, uint32(h.Mode&0o7777)); err != nil {
		return os.NewSyscallError("chmod", err)
	}
	return os.NewSyscallError("set times", unix.UtimesNanoAt(fd, "", headerTimes(h), unix.AT_EMPTY_PATH))
}

// applyLinkHeader gives a symbolic link or a pipe its owner and time.
func applyLinkHeader(dir *os.File, base string, h *tar.Header) error {
	if err := unix.Fchownat(int(dir.Fd()), base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("chown", err)
	}
	return os.NewSyscallError("set times", unix.UtimesNanoAt(int(dir.Fd()), base, headerTimes(h), unix.AT_SYMLINK_NOFOLLOW))
}
