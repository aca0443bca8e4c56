package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// attachLoop returns the loop device whose content is the file, attaching one
// where none is. It detaches itself when nothing has it open or mounted, so a
// crash at any point leaves none behind.
func attachLoop(path string) (*os.File, error) {
	if loop, err := findLoop(path); loop != nil || err != nil {
		return loop, err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for try := 0; ; try++ {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, os.NewSyscallError("find a free loop device", err)
		}
		loop, err := configureLoop(number, file)
		if err == nil {
			return loop, nil
		}
		// Another process took that number first.
		if !errors.Is(err, unix.EBUSY) || try == 64 {
			return nil, err
		}
	}
}

func configureLoop(number int, file *os.File) (*os.File, error) {
	loop, err := openLoop(number)
	if err != nil {
		return nil, err
	}
	config := unix.LoopConfig{
		Fd:   uint32(file.Fd()),
		Size: 4096,
		Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR | loopFlags},
	}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], file.Name())
	err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
	if errors.Is(err, unix.EINVAL) && loopFlags != 0 {
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR // the file system below has no direct I/O
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
	}
	if err != nil {
		loop.Close()
		return nil, fmt.Errorf("configure %s: %w", loop.Name(), err)
	}
	return loop, nil
}

// openLoop opens a loop device, making its node where nothing (such as a
// container's static /dev) has.
func openLoop(number int) (*os.File, error) {
	name := "/dev/loop" + strconv.Itoa(number)
	loop, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		const loopMajor = 7
		if err := unix.Mknod(name, unix.S_IFBLK|0o600, int(unix.Mkdev(loopMajor, uint32(number)))); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, &os.PathError{Op: "mknod", Path: name, Err: err}
		}
		loop, err = os.OpenFile(name, os.O_RDWR, 0)
	}
	return loop, err
}

// findLoop returns the loop device attached to a file, or nil.
func findLoop(path string) (*os.File, error) {
	devices, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil, err
	}
	for _, dev := range devices {
		loop, err := os.Open("/dev/" + filepath.Base(filepath.Dir(dev)))
		if err != nil {
			continue // detached meanwhile, or its node is not in our /dev
		}
		if backs, err := loopBacks(loop, path); err == nil && backs {
			return loop, nil
		}
		loop.Close()
	}
	return nil, nil
}

// loopBacks tells whether a loop device's content is the file.
func loopBacks(loop *os.File, path string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return false, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	info, err := unix.IoctlLoopGetStatus64(int(loop.Fd()))
	if err != nil {
		return false, os.NewSyscallError("read loop device", err)
	}
	return info.Device == uint64(st.Dev) && info.Inode == st.Ino, nil
}

// loopFlags: direct I/O to the pool file, which keeps nothing in memory twice, and
// with which a commit does not wait for all that other machines have written.
const loopFlags = unix.LO_FLAGS_DIRECT_IO
