package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	diskFail = 3 << 30 // the base template and a little
	diskWarn = 20 << 30
	memFail  = 512 << 20
	memWarn  = 2 << 30
)

// existing is the nearest folder at or above path that is there already.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil {
			return path
		}
		up := filepath.Dir(path)
		if up == path {
			return path
		}
		path = up
	}
}

func onBtrfs(path string) bool {
	var s unix.Statfs_t
	return unix.Statfs(existing(path), &s) == nil && uint32(s.Type) == unix.BTRFS_SUPER_MAGIC
}

// btrfs: disks are its subvolumes. Without it they are plain copies.
func (h *host) btrfs(data string) check {
	const name = "btrfs"
	if onBtrfs(data) {
		return okay(name, "%s is on btrfs", data)
	}
	const without = "; without it every disk is a plain copy, slow and large"
	if !h.hasFilesystem("btrfs") {
		return warn(name, "the kernel has no btrfs"+without, "install a kernel with btrfs (on Debian and Ubuntu: linux-image-amd64, linux-generic)")
	}
	if p, err := h.look("mkfs.btrfs"); err == nil {
		return okay(name, "the kernel and %s", p)
	}
	return warn(name, "mkfs.btrfs was not found"+without, h.install("btrfs-progs", map[string]string{"suse": "btrfsprogs"}))
}

// hasFilesystem reports whether the kernel knows a file system, or has a
// module for it that it will load by itself.
func (h *host) hasFilesystem(fs string) bool {
	for l := range strings.Lines(text(h.proc, "filesystems")) {
		if f := strings.Fields(l); len(f) > 0 && f[len(f)-1] == fs {
			return true
		}
	}
	for _, list := range []string{"modules.dep", "modules.builtin"} {
		if strings.Contains(text("/lib/modules", h.release, list), "/"+fs+".ko") {
			return true
		}
	}
	return false
}

// loop devices carry the pool file where the data directory is not on btrfs.
func (h *host) loop(data string) check {
	const name = "loop devices"
	if onBtrfs(data) {
		return okay(name, "not needed: %s is on btrfs", data)
	}
	f, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err == nil {
		f.Close()
		return okay(name, "/dev/loop-control opens")
	}
	if h.euid != 0 {
		return warn(name, "not known before this runs as root", "sudo atoll doctor")
	}
	return fail(name, fmt.Sprintf("cannot use /dev/loop-control: %v", err), "modprobe loop; in a container, start it with --privileged")
}

func (h *host) space(data string) check {
	const name = "disk space"
	var s unix.Statfs_t
	at := existing(data)
	if err := unix.Statfs(at, &s); err != nil {
		return fail(name, fmt.Sprintf("cannot look at %s: %v", at, err), "choose another data directory with --data")
	}
	free := int64(s.Bavail) * s.Bsize
	found := fmt.Sprintf("%s free at %s", bytesText(free), at)
	switch {
	case free < diskFail:
		return fail(name, found, "free some space, or choose another data directory with --data; 20 GiB are comfortable")
	case free < diskWarn:
		return warn(name, found, "20 GiB are comfortable; choose another data directory with --data")
	}
	return okay(name, "%s", found)
}

func (h *host) memory() check {
	const name = "memory"
	var free int64 = -1
	for l := range strings.Lines(text(h.proc, "meminfo")) {
		if f := strings.Fields(l); len(f) >= 2 && f[0] == "MemAvailable:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			free = kib << 10
		}
	}
	found := bytesText(free) + " available"
	switch {
	case free < 0:
		return warn(name, "cannot tell how much is available", "look at /proc/meminfo")
	case free < memFail:
		return fail(name, found, "end other programs, or use a host with more memory")
	case free < memWarn:
		return warn(name, found, "few sandboxes will fit; 2 GiB and more are comfortable")
	}
	return okay(name, "%s", found)
}
