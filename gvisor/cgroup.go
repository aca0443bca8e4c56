package gvisor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// cpuPeriod is the span in microseconds over which CPU quotas are counted.
const cpuPeriod = 100_000

// limits of one machine's cgroup; zero is no limit.
type limits struct {
	CPUs         float64
	Memory, PIDs int64
}

// cgroups makes, measures and removes the cgroup of each machine. One machine
// has one, on version 1 in several hierarchies.
type cgroups struct {
	v2     bool
	clone  bool // processes are created in their cgroup, they need not join
	parent string
	dirs   map[string]string // controller -> the parent's directory
}

// The controllers used; version 2 has one directory for all, called "".
var v1Controllers = []string{"cpu", "cpuacct", "memory", "pids"}

// openCgroups finds out how this host's cgroups are mounted and makes the
// parent.
func openCgroups(parent string) (cgroups, error) {
	c := cgroups{parent: parent, dirs: make(map[string]string)}
	if parent == "" || !filepath.IsLocal(parent) {
		return c, fmt.Errorf("cgroup parent %q is not a relative path", parent)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &st); err != nil {
		return c, fmt.Errorf("look at cgroups: %w", err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		c.v2 = true
		c.dirs[""] = filepath.Join(cgroupRoot, parent)
		b, err := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.controllers"))
		if err != nil {
			return c, fmt.Errorf("look at cgroups: %w", err)
		}
		// gVisor's library clones into a cgroup only where it can count CPUs.
		c.clone = slices.Contains(strings.Fields(string(b)), "cpuset")
		return c, c.openV2()
	}
	for _, controller := range v1Controllers {
		root := filepath.Join(cgroupRoot, controller)
		if err := unix.Statfs(root, &st); err != nil || st.Type != unix.CGROUP_SUPER_MAGIC {
			return c, fmt.Errorf("cgroup controller %s is not mounted at %s", controller, root)
		}
		c.dirs[controller] = filepath.Join(root, parent)
		if err := os.MkdirAll(c.dirs[controller], 0o755); err != nil {
			return c, fmt.Errorf("make cgroup: %w", err)
		}
	}
	return c, nil
}

// openV2 makes the parent and hands the controllers down to it.
func (c cgroups) openV2() error {
	dir := cgroupRoot
	for _, name := range strings.Split(filepath.Clean(c.parent)+"/.", "/") {
		control := filepath.Join(dir, "cgroup.subtree_control")
		for _, controller := range []string{"cpu", "memory", "pids"} {
			if err := os.WriteFile(control, []byte("+"+controller), 0); err != nil {
				return fmt.Errorf("enable cgroup controller %s in %s: %w", controller, dir, err)
			}
		}
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	return nil
}

// clonePath is the cgroup that the processes are to be created in, relative to
// the root, or empty where they join it themselves. Version 1 has only that,
// where it is cheap; with version 2 it costs 10 ms.
func (c cgroups) clonePath(id string) string {
	if !c.clone {
		return ""
	}
	return "/" + filepath.Join(c.parent, id)
}

// create makes a machine's cgroup and returns the files into which a starting
// process writes itself.
func (c cgroups) create(id string, l limits) (join []string, err error) {
	for _, dir := range c.dirs {
		if err := os.Mkdir(filepath.Join(dir, id), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make cgroup: %w", err)
		}
	}
	for _, s := range c.settings(l) {
		path := filepath.Join(c.dirs[s.controller], id, s.file)
		err := os.WriteFile(path, []byte(s.value), 0)
		if err != nil && !(s.optional && errors.Is(err, fs.ErrNotExist)) {
			return nil, fmt.Errorf("set %s of cgroup %s: %w", s.file, id, err)
		}
	}
	if c.clone {
		return nil, nil
	}
	if c.v2 {
		return []string{filepath.Join(c.dirs[""], id, "cgroup.procs")}, nil
	}
	for _, controller := range v1Controllers {
		// "tasks" moves one thread; unlike "cgroup.procs" it takes no global lock.
		join = append(join, filepath.Join(c.dirs[controller], id, "tasks"))
	}
	return join, nil
}

type setting struct {
	controller, file, value string
	optional                bool
}

func (c cgroups) settings(l limits) []setting {
	var s []setting
	quota := strconv.Itoa(int(l.CPUs * cpuPeriod))
	memory, pids := strconv.FormatInt(l.Memory, 10), strconv.FormatInt(l.PIDs, 10)
	if c.v2 {
		if l.CPUs > 0 {
			s = append(s, setting{file: "cpu.max", value: quota + " " + strconv.Itoa(cpuPeriod)})
		}
		if l.Memory > 0 {
			s = append(s, setting{file: "memory.max", value: memory},
				setting{file: "memory.swap.max", value: "0", optional: true},
				// One process of a sandbox gone is the sandbox gone.
				setting{file: "memory.oom.group", value: "1", optional: true})
		}
		if l.PIDs > 0 {
			s = append(s, setting{file: "pids.max", value: pids})
		}
		return s
	}
	if l.CPUs > 0 {
		s = append(s, setting{controller: "cpu", file: "cpu.cfs_period_us", value: strconv.Itoa(cpuPeriod)},
			setting{controller: "cpu", file: "cpu.cfs_quota_us", value: quota})
	}
	if l.Memory > 0 {
		s = append(s, setting{controller: "memory", file: "memory.limit_in_bytes", value: memory},
			setting{controller: "memory", file: "memory.memsw.limit_in_bytes", value: memory, optional: true})
	}
	if l.PIDs > 0 {
		s = append(s, setting{controller: "pids", file: "pids.max", value: pids})
	}
	return s
}

// processes lists who is in a machine's cgroup; nobody if it is not there.
func (c cgroups) processes(id string) ([]int, error) {
	controller := "pids"
	if c.v2 {
		controller = ""
	}
	b, err := os.ReadFile(filepath.Join(c.dirs[controller], id, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read processes of cgroup %s: %w", id, err)
	}
	var pids []int
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if pid, err := strconv.Atoi(lines.Text()); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// killAll kills every process in a machine's cgroup and waits until they are
// gone.
func (c cgroups) killAll(id string, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		pids, err := c.processes(id)
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v of sandbox %s do not end", pids, id)
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // it may be gone by now
		}
		time.Sleep(pause)
	}
}

// remove removes a machine's cgroup, in which nobody is.
func (c cgroups) remove(id string) error {
	var errs []error
	for _, dir := range c.dirs {
		errs = append(errs, removeCgroup(filepath.Join(dir, id)))
	}
	return errors.Join(errs...)
}

// removeCgroup waits a little for processes that are dead but not quite gone.
func removeCgroup(dir string) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
	}
}

// removeParent removes the parent, which must have no machines any more.
func (c cgroups) removeParent() error {
	var errs []error
	for _, dir := range c.dirs {
		errs = append(errs, removeCgroup(dir))
	}
	return errors.Join(errs...)
}

// sweep removes cgroups of machines that are not known, with all in them.
func (c cgroups) sweep(_ context.Context, known map[string]bool) error {
	for _, dir := range c.dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("read cgroups: %w", err)
		}
		for _, e := range entries {
			if !e.IsDir() || known[e.Name()] || !validID.MatchString(e.Name()) {
				continue
			}
			if err := errors.Join(c.killAll(e.Name(), stopTimeout), c.remove(e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
