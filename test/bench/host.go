package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/test/harness"
)

// tick is the unit of the kernel's processor times: USER_HZ, a constant of
// Linux's interface to programs.
const tick = 10 * time.Millisecond

// busy is the processor time that the host has spent on anything but this
// program.
func busy() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	var total time.Duration
	for i, f := range strings.Fields(string(line))[1:] {
		if i == 3 || i == 4 || i > 7 { // idle, waiting for a disk; guests are in user time
			continue
		}
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(n) * tick
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return 0, err
	}
	return total - time.Duration(own.Utime.Nano()+own.Stime.Nano()), nil
}

// quiet warns of a host that does other work, which spoils all figures.
func (b *bench) quiet() error {
	const watch = 2 * time.Second
	before, err := busy()
	if err != nil {
		return err
	}
	<-time.After(watch)
	after, err := busy()
	if err != nil {
		return err
	}
	if share := float64(after-before) / float64(watch); share > 0.1 {
		b.say("warning: the host is busy with other work (%.0f%% of one processor); the figures will be worse than they are", 100*share)
	}
	return nil
}

// cpuOf is the processor time that a process has spent.
func cpuOf(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var total time.Duration
	for _, f := range fields[11:13] { // user and system time
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(n) * tick
	}
	return total, nil
}

// memoryOf adds up the proportional share of memory of a server and of all
// that runs from its data directory: workers, kernels and file servers of
// sandboxes. Processes that share one memory (gVisor makes one for each thread
// of a guest) tell of it each; it is counted once.
func memoryOf(server int, data string) (int64, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	var total int64
	alike := map[string][]int{} // processes that tell the same of their memory
	for _, dir := range dirs {
		exe, err := os.Readlink(dir + "/exe")
		if err != nil || !strings.HasPrefix(exe, data+"/") && dir != fmt.Sprintf("/proc/%d", server) {
			continue // of others, ended, or a thread of the kernel
		}
		b, err := os.ReadFile(dir + "/smaps_rollup")
		if err != nil {
			continue // just ended
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return 0, err
		}
		if slices.ContainsFunc(alike[string(b)], func(other int) bool { return sameMemory(pid, other) }) {
			continue
		}
		alike[string(b)] = append(alike[string(b)], pid)
		total += kilobytes(b, "Pss:")
	}
	return total, nil
}

// residentOf is the memory that a process holds, in bytes.
func residentOf(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	return kilobytes(b, "Rss:"), nil
}

// sameMemory reports whether two processes are in one address space.
func sameMemory(a, b int) bool {
	const kcmpVM = 1
	same, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), kcmpVM, 0, 0, 0)
	return errno == 0 && same == 0
}

// available is the memory that the host could still give.
func available() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	return kilobytes(b, "MemAvailable:")
}

// kilobytes reads one value of such a file, in bytes.
func kilobytes(b []byte, name string) int64 {
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				n, _ := strconv.ParseInt(f[0], 10, 64)
				return n << 10
			}
		}
	}
	return 0
}

// poolFilled waits until the warm pool has what it wants, and returns how many.
func (b *bench) poolFilled(s *harness.Server) (int, error) {
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-poll.C {
		req, err := http.NewRequestWithContext(b.ctx, http.MethodGet, s.APIURL+"/admin/metrics", nil)
		if err != nil {
			return 0, err
		}
		req.Header.Set("Authorization", "Bearer "+s.AdminToken)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			return 0, err
		}
		have, want := gauge(body, "atoll_pool_machines"), gauge(body, "atoll_pool_target")
		if have >= want {
			return have, nil
		}
	}
	return 0, fmt.Errorf("the warm pool did not fill within a minute")
}

// gauge reads one value of the server's metrics.
func gauge(body []byte, name string) int {
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, _ := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			return int(v)
		}
	}
	return 0
}
