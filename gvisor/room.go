package gvisor

import (
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// A checkpoint is written by the sandbox, and the host counts its cached pages
// against the machine's memory limit. A guest that uses most of its memory
// would have to wait for the disk to write them, some ten times as long. So the
// limit is raised for a checkpoint, and is put back when the guest runs again.

// makeRoom raises the limit of a paused guest. Without it a checkpoint is slow,
// not wrong.
func (r *Runtime) makeRoom(g *guest) {
	usage, err := r.cgroups.usage(g.id)
	limit := r.memoryLimit(g.id)
	if err != nil || limit == 0 {
		return
	}
	g.roomy.Store(true)
	if err := r.cgroups.setMemory(g.id, limit+usage.Memory); err != nil {
		r.cfg.Logger.Warn("the memory limit was not raised for a checkpoint", slog.String("sandbox", g.id), slog.Any("error", err))
	}
}

// takeRoom puts the limit back, beside whatever else happens: the host may have
// to drop what is cached first.
func (r *Runtime) takeRoom(g *guest) {
	if !g.roomy.Swap(false) {
		return
	}
	r.background.Go(func() {
		limit := r.memoryLimit(g.id)
		if limit == 0 {
			return
		}
		if err := r.cgroups.shrinkMemory(g.id, limit); err != nil && !errors.Is(err, fs.ErrNotExist) {
			g.roomy.Store(true) // again when it is resumed the next time
			r.cfg.Logger.Warn("the memory limit stays raised after a checkpoint", slog.String("sandbox", g.id), slog.Any("error", err))
		}
	})
}

// memoryLimit is what the guest's cgroup is limited to while it runs; 0 is no
// limit.
func (r *Runtime) memoryLimit(id string) int64 {
	if now, err := r.cgroups.memory(id); err != nil || now == 0 {
		return 0
	}
	b, err := os.ReadFile(filepath.Join(r.stateDir(id), protocol.LimitsFile))
	if f := strings.Fields(string(b)); err == nil && len(f) == 2 {
		if seen, err := strconv.ParseInt(f[1], 10, 64); err == nil {
			return seen + MemoryOverhead(seen)
		}
	}
	return 0
}

// memoryFile is the control file of a machine's memory limit.
func (c cgroups) memoryFile(id string) string {
	if c.v2 {
		return filepath.Join(c.dirs[""], id, "memory.max")
	}
	return filepath.Join(c.dirs["memory"], id, "memory.limit_in_bytes")
}

// memory reads a machine's memory limit; 0 is none.
func (c cgroups) memory(id string) (int64, error) {
	b, err := os.ReadFile(c.memoryFile(id))
	if err != nil {
		return 0, err
	}
	text := strings.TrimSpace(string(b))
	if text == "max" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n > math.MaxInt64/2 { // version 1 says a very large number
		return 0, err
	}
	return n, nil
}

// setMemory raises a machine's memory limit.
func (c cgroups) setMemory(id string, limit int64) error {
	value := []byte(strconv.FormatInt(limit, 10))
	if !c.v2 {
		// The limit with swap is at least that without.
		swap := filepath.Join(c.dirs["memory"], id, "memory.memsw.limit_in_bytes")
		if err := os.WriteFile(swap, value, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.WriteFile(c.memoryFile(id), value, 0)
}

// shrinkMemory lowers a machine's memory limit again, unless the machine needs
// more now. It never makes the host kill it.
func (c cgroups) shrinkMemory(id string, limit int64) error {
	value := []byte(strconv.FormatInt(limit, 10))
	if !c.v2 {
		if err := os.WriteFile(c.memoryFile(id), value, 0); err != nil {
			return err
		}
		swap := filepath.Join(c.dirs["memory"], id, "memory.memsw.limit_in_bytes")
		if err := os.WriteFile(swap, value, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	// Version 2 kills what does not fit a new limit: it must fit before.
	dir := filepath.Join(c.dirs[""], id)
	current, err := readNumber(filepath.Join(dir, "memory.current"))
	if err != nil {
		return err
	}
	if over := current - limit; over > 0 {
		if err := os.WriteFile(filepath.Join(dir, "memory.reclaim"), []byte(strconv.FormatInt(over, 10)), 0); err != nil && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		if current, err = readNumber(filepath.Join(dir, "memory.current")); err != nil {
			return err
		}
	}
	if current > limit {
		return unix.EBUSY
	}
	return os.WriteFile(c.memoryFile(id), value, 0)
}

func readNumber(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}
