package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	poolFileName = "pool.btrfs"

	minPoolSize = 4 << 30
	// mountOptions: freed space goes back to the pool file in the background.
	// Every clone and sync waits for a commit of all names that were written
	// since the last, so a guest that makes files all the time is not left to
	// gather 30 s of them: beside one, a sync took 500 ms, and takes 150 with 2 s.
	mountOptions = "discard=async,commit=2"
	mountFlags   = unix.MS_NOATIME | unix.MS_NOSUID // machines' files are no business of the host's other users
)

// poolFile is a btrfs file system inside a file, mounted through a loop device.
type poolFile struct {
	file  string
	mount string
	// taken is true where the mount was there already.
	taken bool
	log   *slog.Logger
}

// openPool mounts the pool file, creating it first where there is none. Every
// step leaves either nothing or something that the next Open takes over.
func openPool(ctx context.Context, cfg Config, mount string, log *slog.Logger) (*poolFile, error) {
	p := &poolFile{file: filepath.Join(cfg.Dir, poolFileName), mount: mount, log: log}
	if err := p.create(ctx, cfg.PoolSizeBytes); err != nil {
		return nil, fmt.Errorf("create the disk pool: %w", err)
	}
	grow, err := p.growFile(cfg.PoolSizeBytes)
	if err != nil {
		return nil, fmt.Errorf("grow the disk pool: %w", err)
	}
	if err := os.MkdirAll(mount, 0o700); err != nil {
		return nil, fmt.Errorf("create the mount point of the disk pool: %w", err)
	}
	if p.taken, err = p.mounted(); err != nil {
		return nil, err
	}
	loop, err := attachLoop(p.file)
	if err != nil {
		return nil, fmt.Errorf("attach the disk pool to a loop device: %w", err)
	}
	defer loop.Close() // the mount keeps it; without one it detaches itself
	if !p.taken {
		if err := unix.Mount(loop.Name(), mount, "btrfs", mountFlags, mountOptions); err != nil {
			return nil, fmt.Errorf("mount the disk pool: %w", err)
		}
	} else {
		log.Info("disk: took over the mounted pool", "path", mount)
		// An earlier release may have mounted it in another way.
		if err := unix.Mount("", mount, "", unix.MS_REMOUNT|mountFlags, mountOptions); err != nil {
			return nil, fmt.Errorf("remount the disk pool: %w", err)
		}
	}
	// Shared, so that an unmount reaches the copies in the mount namespaces of
	// other servers' sandboxes, which would keep the device.
	err = unix.Mount("", mount, "", unix.MS_SHARED, "")
	if err == nil {
		err = os.Chmod(mount, 0o700)
	}
	if err == nil && grow {
		err = p.growMounted(loop)
	}
	if err != nil {
		if !p.taken {
			loop.Close()
			err = errors.Join(err, p.unmount())
		}
		return nil, fmt.Errorf("prepare the disk pool: %w", err)
	}
	return p, nil
}

// create makes the pool file with a fresh file system, unless there is one.
func (p *poolFile) create(ctx context.Context, size int64) error {
	if _, err := os.Stat(p.file); err == nil {
		return nil
	}
	mkfs, err := findMkfs()
	if err != nil {
		return err
	}
	if size == 0 {
		var st unix.Statfs_t
		if err := unix.Statfs(filepath.Dir(p.file), &st); err != nil {
			return os.NewSyscallError("statfs", err)
		}
		size = max(int64(st.Bavail)*st.Bsize/5*4, minPoolSize)
	}
	fresh := p.file + ".new" // renamed when whole
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size &^ (1<<20 - 1)); err != nil {
		return err
	}
	// Small nodes: a snapshot commits a path through each of the file system's
	// trees, and takes 1.7 ms with these where it takes 5 with the usual 16 KiB.
	// One copy of the metadata: the file below is on one device anyway.
	cmd := exec.CommandContext(ctx, mkfs, "--quiet", "--nodiscard", "--nodesize", "4096",
		"--label", "atoll", "--metadata", "single", "--data", "single", fresh)
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("run %s: %w: %s", mkfs, err, bytes.TrimSpace(out)), os.Remove(fresh))
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(fresh, p.file)
}

func (p *poolFile) growFile(size int64) (bool, error) {
	st, err := os.Stat(p.file)
	if err != nil {
		return false, err
	}
	if size &^= 1<<20 - 1; size <= st.Size() {
		return false, nil
	}
	return true, os.Truncate(p.file, size)
}

// growMounted makes the loop device and the file system as large as the file.
func (p *poolFile) growMounted(loop *os.File) error {
	if err := unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return os.NewSyscallError("grow loop device", err)
	}
	dir, err := os.Open(p.mount)
	if err != nil {
		return err
	}
	defer dir.Close()
	return resizeMax(dir)
}

// mounted tells whether the pool file is mounted at its place already. A mount
// of anything else there is an error.
func (p *poolFile) mounted() (bool, error) {
	source, err := mountSource(p.mount)
	if err != nil || source == "" {
		return false, err
	}
	if loop, err := os.Open(source); err == nil {
		defer loop.Close()
		if backs, err := loopBacks(loop, p.file); err == nil && backs {
			return true, nil
		}
	}
	return false, fmt.Errorf("%s has %s mounted on it, which is not its pool file; unmount it", p.mount, source)
}

// mountSource returns what is mounted on a directory, topmost, or "".
func mountSource(dir string) (string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("read mounts: %w", err)
	}
	source := ""
	for line := range strings.Lines(string(text)) {
		before, after, ok := strings.Cut(line, " - ")
		fields, rest := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(rest) < 2 {
			continue
		}
		if unescapeMount(fields[4]) == dir {
			source = unescapeMount(rest[1])
		}
	}
	return source, nil
}

var mountEscapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#")

func unescapeMount(s string) string { return mountEscapes.Replace(s) }

// unmount unmounts the pool and waits until its loop device is free.
func (p *poolFile) unmount() error {
	err := unix.Unmount(p.mount, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("unmount %s: %w", p.mount, ErrBusy)
	}
	if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: not mounted
		return fmt.Errorf("unmount the disk pool: %w", err)
	}
	// The kernel detaches the device on its own, but not within the call. It
	// does so later where a mount namespace that some process on this host made
	// meanwhile has a copy of the mount; Open can cope with that.
	for deadline := time.Now().Add(time.Second); ; time.Sleep(5 * time.Millisecond) {
		loop, err := findLoop(p.file)
		if err != nil {
			return fmt.Errorf("release the disk pool's loop device: %w", err)
		}
		if loop == nil {
			return nil
		}
		name := loop.Name()
		loop.Close()
		if time.Now().After(deadline) {
			p.log.Warn("disk: the pool is unmounted, but its device stays until other mount namespaces end", "device", name)
			return nil
		}
	}
}
