package gvisor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a machine has used, sandbox and guest together.
type Usage struct {
	CPU time.Duration // since it was created
	// Life names the counter of CPU: it is another one each time a guest of
	// this id is started. It is never 0.
	Life   uint64
	Memory int64 // bytes now, without page cache
	Cache  int64 // bytes of page cache now
	// OOMKilled says whether it was ever killed for want of memory.
	OOMKilled bool
}

// Usage reads what a machine uses from its cgroup; it asks no process. It works
// until the guest is destroyed.
func (r *Runtime) Usage(id string) (Usage, error) {
	if _, err := r.find(id); err != nil {
		return Usage{}, err
	}
	u, err := r.cgroups.usage(id)
	if err != nil {
		return u, fmt.Errorf("measure sandbox %s: %w", id, err)
	}
	return u, nil
}

func (c cgroups) usage(id string) (u Usage, err error) {
	if c.v2 {
		return c.usageV2(filepath.Join(c.dirs[""], id))
	}
	dir := filepath.Join(c.dirs["cpuacct"], id)
	if u.Life, err = lifeOf(dir); err != nil {
		return u, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "cpuacct.usage"))
	if err != nil {
		return u, err
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return u, err
	}
	u.CPU = time.Duration(ns)
	memory, err := readStat(filepath.Join(c.dirs["memory"], id, "memory.stat"))
	if err != nil {
		return u, err
	}
	// A guest's memory is a file in memory, which the host counts as cache.
	u.Memory = memory["rss"] + memory["shmem"]
	u.Cache = max(memory["cache"]-memory["shmem"], 0)
	oom, err := readStat(filepath.Join(c.dirs["memory"], id, "memory.oom_control"))
	u.OOMKilled = oom["oom_kill"] > 0
	return u, err
}

func (c cgroups) usageV2(dir string) (u Usage, err error) {
	if u.Life, err = lifeOf(dir); err != nil {
		return u, err
	}
	cpu, err := readStat(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		return u, err
	}
	u.CPU = time.Duration(cpu["usage_usec"]) * time.Microsecond
	memory, err := readStat(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return u, err
	}
	u.Memory = memory["anon"] + memory["shmem"]
	u.Cache = max(memory["file"]-memory["shmem"], 0)
	events, err := readStat(filepath.Join(dir, "memory.events"))
	u.OOMKilled = events["oom_kill"] > 0
	return u, err
}

// lifeOf is the number of a cgroup's directory, which the kernel does not give
// to another until the host is booted again.
func lifeOf(dir string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, fmt.Errorf("look at cgroup %s: %w", filepath.Base(dir), err)
	}
	return st.Ino, nil
}

// readStat reads a file of names and numbers, one pair a line.
func readStat(path string) (map[string]int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	stat := make(map[string]int64)
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			stat[name] = n
		}
	}
	return stat, nil
}
