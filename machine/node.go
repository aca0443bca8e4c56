package machine

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Observer hears of what the engine does, for metrics. Its methods must not block.
type Observer interface {
	Created(warm bool, took time.Duration, err error)
	Ended(reason string)
}

// meters counts what the engine did since it started.
type meters struct {
	observer Observer

	mu      sync.Mutex
	creates uint64
	failed  uint64
}

func (m *meters) created(warm bool, took time.Duration, err error) {
	m.mu.Lock()
	if err == nil {
		m.creates++
	} else {
		m.failed++
	}
	m.mu.Unlock()
	if m.observer != nil {
		m.observer.Created(warm, took, err)
	}
}

func (m *meters) ended(reason string) {
	if m.observer != nil {
		m.observer.Ended(reason)
	}
}

// Node describes this node as it is now.
func (e *Engine) Node() Node {
	n := Node{ID: e.config.Instance, StartedAt: e.started, Version: e.config.Version, CPUs: runtime.NumCPU()}
	e.meters.mu.Lock()
	n.Created, n.CreateFailed = e.meters.creates, e.meters.failed
	e.meters.mu.Unlock()

	machines := e.List("")
	n.Machines = len(machines)
	for _, m := range machines {
		n.AllocatedCPUs += m.CPUs
		n.AllocatedMemMB += m.MemoryMB
	}
	e.mu.RLock()
	for _, held := range e.held {
		n.Starting += held
	}
	e.mu.RUnlock()
	n.Starting = max(0, n.Starting-n.Machines)

	if total, free, err := e.disks.Stat(); err == nil {
		n.DiskTotal, n.DiskUsed = total, total-free
	}
	if total, available, err := hostMemory(); err == nil {
		n.MemoryTotal, n.MemoryUsed = total, total-available
	}
	n.CPUPercent = e.load.percent()
	return n
}

// Pools tells how full the warm pools are.
func (e *Engine) Pools() []Pool { return e.pool.levels(time.Now()) }

// load turns the host's processor times into a percentage between two calls.
type load struct {
	mu          sync.Mutex
	busy, total uint64
	last        float64
}

func (l *load) percent() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	busy, total, err := hostCPU()
	if err != nil || total == l.total {
		return l.last
	}
	l.last = 100 * float64(busy-l.busy) / float64(total-l.total)
	l.busy, l.total = busy, total
	return l.last
}

// hostCPU returns the busy and all processor time of the host, in ticks.
func hostCPU() (busy, total uint64, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	if len(fields) < 6 {
		return 0, 0, fmt.Errorf("/proc/stat has an unknown form: %q", line)
	}
	for i, f := range fields[1:] {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		if i < 8 {
			total += n
		}
		if i < 8 && i != 3 && i != 4 { // neither idle nor waiting for a disk
			busy += n
		}
	}
	return busy, total, nil
}

// HostMemory returns the host's memory in bytes.
func HostMemory() (int64, error) {
	total, _, err := hostMemory()
	return total, err
}

// hostMemory returns the host's memory and what of it is available, in bytes.
func hostMemory() (total, available int64, err error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "MemTotal":
			total = kib << 10
		case "MemAvailable":
			available = kib << 10
		}
	}
	return total, available, lines.Err()
}
