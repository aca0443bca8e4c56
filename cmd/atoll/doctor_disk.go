package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/disk"
	"github.com/atoll-cloud/atoll/image"
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

// disks: on btrfs they are subvolumes; elsewhere they need a pool file, and
// without that they are plain copies.
func (h *host) disks(data string) []check {
	const name = "disks"
	if onBtrfs(data) {
		return []check{okay(name, "%s is on btrfs", data)}
	}
	return h.checks(name, "a btrfs pool can be made", "; without it every disk is a plain copy, slow and large", disk.Check())
}

// base: what builds the first template.
func (h *host) base() []check {
	return h.checks("base template", "can be built from Debian's archive", "; it is built from Debian's archive", image.Check())
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
