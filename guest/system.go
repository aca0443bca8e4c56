package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// PrepareSystem mounts what a first process's children need and the machine's
// image or kernel has not mounted yet, and takes the kernel's file system off
// /tmp.
func PrepareSystem() error {
	if err := uncoverTmp("/tmp"); err != nil {
		return err
	}
	mounts := []struct {
		probe, source, target, kind, data string
		flags                             uintptr
	}{
		{"/proc/self", "proc", "/proc", "proc", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"/dev/ptmx", "devpts", "/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5", unix.MS_NOSUID | unix.MS_NOEXEC},
	}
	for _, m := range mounts {
		if _, err := os.Stat(m.probe); err == nil {
			continue
		}
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("make the mount point %s: %w", m.target, err)
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if _, err := os.Lstat("/dev/ptmx"); err != nil {
		if err := os.Symlink("pts/ptmx", "/dev/ptmx"); err != nil {
			return fmt.Errorf("link /dev/ptmx: %w", err)
		}
	}
	return nil
}

// uncoverTmp brings the disk's own dir to light. gVisor mounts memory over an
// empty /tmp, so that a build or an upload of some size there would end the
// machine, and a sleep that keeps the disk alone would lose what is in it.
func uncoverTmp(dir string) error {
	var fs unix.Statfs_t
	switch err := unix.Statfs(dir, &fs); {
	case errors.Is(err, unix.ENOENT):
	case err != nil:
		return fmt.Errorf("look at %s: %w", dir, err)
	case fs.Type == unix.TMPFS_MAGIC:
		// EINVAL: nothing is mounted there; the machine's disk itself is memory.
		if err := unix.Unmount(dir, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("take the memory off %s: %w", dir, err)
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	if err := os.Chmod(dir, os.ModeSticky|0o777); err != nil {
		return fmt.Errorf("open %s to all users: %w", dir, err)
	}
	return nil
}

// LimitProcesses makes a control group that holds at most limit processes and
// threads, and returns the file through which a thread enters it.
func LimitProcesses(limit int) (tasksFile string, err error) {
	const root = "/sys/fs/cgroup"
	controller := filepath.Join(root, "pids")
	if _, err := os.Stat(filepath.Join(controller, "tasks")); err != nil {
		if err := mountPids(root, controller); err != nil {
			return "", err
		}
	}
	group := filepath.Join(controller, "user")
	if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make the control group of processes: %w", err)
	}
	if err := os.WriteFile(filepath.Join(group, "pids.max"), []byte(strconv.Itoa(limit)), 0); err != nil {
		return "", fmt.Errorf("limit processes: %w", err)
	}
	return filepath.Join(group, "tasks"), nil
}

// mountPids mounts the pids controller; a kernel that has no directory for it
// gets a small file system there first.
func mountPids(root, controller string) error {
	if err := os.MkdirAll(controller, 0o755); err != nil {
		if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755,size=64k"); err != nil {
			return fmt.Errorf("make room for control groups at %s: %w", root, err)
		}
		if err := os.MkdirAll(controller, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", controller, err)
		}
	}
	if err := unix.Mount("cgroup", controller, "cgroup", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "pids"); err != nil {
		return fmt.Errorf("mount the pids controller: %w", err)
	}
	return nil
}

// ProcessLimit reads a limit of processes from its text; "" is the fallback
// and "0" none.
func ProcessLimit(text string, fallback int) (int, error) {
	if text == "" {
		return fallback, nil
	}
	limit, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || limit < 0 {
		return 0, fmt.Errorf("limit of processes %q: want a number from 0 (no limit)", text)
	}
	return limit, nil
}
