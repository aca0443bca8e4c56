package disk

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/doctor"
)

// Check returns what this host lacks for the btrfs driver; the copy driver
// works anywhere. It changes nothing.
func Check() []doctor.Problem {
	var problems []doctor.Problem
	if _, err := findMkfs(); err != nil {
		problems = append(problems, doctor.Problem{What: "mkfs.btrfs is not installed", Mend: "install the package btrfs-progs"})
	}
	if !kernelHas("btrfs") {
		problems = append(problems, doctor.Problem{What: "the kernel has no btrfs", Mend: "install a kernel with btrfs, or its module"})
	}
	if f, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0); err != nil {
		problems = append(problems, doctor.Problem{What: "loop devices cannot be used: " + err.Error(), Mend: "run as root; load the module loop"})
	} else {
		f.Close()
	}
	if os.Geteuid() != 0 {
		problems = append(problems, doctor.Problem{What: "not running as root", Mend: "run as root"})
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
