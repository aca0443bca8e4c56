package gvisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

const infoFile = "info.json"

// diskInfo is what a later daemon needs to find a sandbox's process again, and
// to tell it from another one that got the same number.
type diskInfo struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"startTime"` // in clock ticks since the host booted
	BootID    string `json:"bootID"`
	// BinDir is what it runs on; empty for one of before this was noted.
	BinDir string `json:"binDir,omitempty"`
}

// record notes a sandbox that was just created, and gets hold of its process.
func (r *Runtime) record(g *guest, resp protocol.Response, binDir string) error {
	g.info = diskInfo{PID: resp.PID, BootID: bootID(), BinDir: binDir}
	var err error
	if g.info.StartTime, err = startTime(resp.PID); err != nil {
		return fmt.Errorf("the guest ended at once: %w", err)
	}
	pidfd, err := openProcess(g.info)
	if err != nil {
		return err
	}
	r.setProcess(g, pidfd)
	b, err := json.Marshal(g.info)
	if err != nil {
		return fmt.Errorf("encode sandbox record: %w", err)
	}
	path := filepath.Join(r.stateDir(g.id), infoFile)
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return fmt.Errorf("write sandbox record: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("write sandbox record: %w", err)
	}
	return nil
}

func readInfo(stateDir string) (diskInfo, error) {
	var info diskInfo
	b, err := os.ReadFile(filepath.Join(stateDir, infoFile))
	if err != nil {
		return info, err
	}
	return info, json.Unmarshal(b, &info)
}

// openProcess returns a handle of the process, if it is still the same one.
func openProcess(info diskInfo) (*os.File, error) {
	if info.BootID != bootID() {
		return nil, errors.New("the host was started anew since")
	}
	fd, err := unix.PidfdOpen(info.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("find sandbox process %d: %w", info.PID, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	// Looked at after the handle was opened, so it is the handle's process.
	if start, err := startTime(info.PID); err != nil || start != info.StartTime {
		f.Close()
		return nil, fmt.Errorf("sandbox process %d is gone", info.PID)
	}
	return f, nil
}

// startTime reads when a process started; a zombie counts as gone.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("look at process %d: %w", pid, err)
	}
	// The name, in parentheses, may hold anything; fields are counted after it.
	_, rest, ok := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, fmt.Errorf("look at process %d: strange status", pid)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
})
