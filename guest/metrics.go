package guest

import (
	"fmt"
	"net/http"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// usage is the answer of GET /metrics; sizes are in bytes unless named.
type usage struct {
	Timestamp   int64   `json:"ts"`
	CPUCount    int     `json:"cpu_count"`
	CPUUsedPct  float32 `json:"cpu_used_pct"`
	MemTotal    uint64  `json:"mem_total"`
	MemUsed     uint64  `json:"mem_used"`
	MemCache    uint64  `json:"mem_cache"`
	MemTotalMiB uint64  `json:"mem_total_mib"`
	MemUsedMiB  uint64  `json:"mem_used_mib"`
	DiskUsed    uint64  `json:"disk_used"`
	DiskTotal   uint64  `json:"disk_total"`
}

func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	u := usage{Timestamp: time.Now().Unix(), CPUCount: runtime.NumCPU(), CPUUsedPct: s.cpu.sample()}
	u.MemTotal, u.MemUsed, u.MemCache = parseMeminfo(readBounded("/proc/meminfo", 64<<10))
	u.MemTotalMiB, u.MemUsedMiB = u.MemTotal>>20, u.MemUsed>>20
	var disk unix.Statfs_t
	if err := unix.Statfs(filepath.Clean(s.config.Root), &disk); err != nil {
		writeError(w, fmt.Errorf("read the disk's usage: %w", err))
		return
	}
	u.DiskTotal = disk.Blocks * uint64(disk.Bsize)
	u.DiskUsed = u.DiskTotal - min(u.DiskTotal, disk.Bfree*uint64(disk.Bsize))
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, u)
}

// parseMeminfo reads the kernel's account of memory, in bytes. Used is what is
// not available to new programs.
func parseMeminfo(text string) (total, used, cache uint64) {
	values := map[string]uint64{}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, ":")
		if fields := strings.Fields(rest); len(fields) > 0 {
			if n, err := strconv.ParseUint(fields[0], 10, 54); err == nil {
				values[name] = n << 10
			}
		}
	}
	total = values["MemTotal"]
	available, ok := values["MemAvailable"]
	if !ok {
		available = values["MemFree"] + values["Cached"]
	}
	return total, total - min(total, available), values["Cached"]
}

// cpuSampler computes how busy the processors were between two looks.
type cpuSampler struct {
	mu          sync.Mutex
	busy, total uint64
	percent     float32
}

// sample returns the share since the last call, of one hundred.
func (c *cpuSampler) sample() float32 {
	busy, total := parseStat(readBounded("/proc/stat", 4<<10))
	c.mu.Lock()
	defer c.mu.Unlock()
	if total > c.total && busy >= c.busy {
		c.percent = float32(busy-c.busy) / float32(total-c.total) * 100
	}
	c.busy, c.total = busy, total
	return c.percent
}

// parseStat reads the first line of the kernel's statistics, in clock ticks.
func parseStat(text string) (busy, total uint64) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[0] != "cpu" {
		return 0, 0
	}
	for i, field := range fields[1:min(len(fields), 9)] {
		n, err := strconv.ParseUint(field, 10, 56)
		if err != nil {
			return 0, 0
		}
		total += n
		if i != 3 && i != 4 { // idle and waiting for a disk
			busy += n
		}
	}
	return busy, total
}
