package disk

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Problem is something this host lacks for the btrfs driver.
type Problem struct {
	What string // what is missing
	Mend string // what a person can do about it
}

// Check returns what this host lacks for the btrfs driver; the copy driver
// works anywhere. It changes nothing.
func Check() []Problem {
	var problems []Problem
	if _, err := findMkfs(); err != nil {
		problems = append(problems, Problem{"mkfs.btrfs is not installed", "install the package btrfs-progs"})
	}
	if !kernelHas("btrfs") {
		problems = append(problems, Problem{"the kernel has no btrfs", "install a kernel with btrfs, or its module"})
	}
	if f, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0); err != nil {
		problems = append(problems, Problem{"loop devices cannot be used: " + err.Error(), "run as root; load the module loop"})
	} else {
		f.Close()
	}
	if os.Geteuid() != 0 {
		problems = append(problems, Problem{"not running as root", "run as root"})
	}
	return problems
}

func findMkfs() (string, error) {
	for _, name := range []string{"mkfs.btrfs", "/usr/sbin/mkfs.btrfs", "/sbin/mkfs.btrfs"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("mkfs.btrfs is not installed; install the package btrfs-progs")
}

// kernelHas tells whether a file system is there or its module can be loaded,
// which the kernel does by itself at the first mount.
func kernelHas(fs string) bool {
	text, err := os.ReadFile("/proc/filesystems")
	if err == nil && bytes.Contains(text, []byte("\t"+fs+"\n")) {
		return true
	}
	var uts unix.Utsname
	if unix.Uname(&uts) != nil {
		return false
	}
	release := unix.ByteSliceToString(uts.Release[:])
	text, err = os.ReadFile(filepath.Join("/lib/modules", release, "modules.dep"))
	return err == nil && bytes.Contains(text, []byte("/"+fs+".ko"))
}
