package sprite

import (
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	// maxProcFile bounds what is read of a file in /proc, in bytes.
	maxProcFile = 4 << 20
	// maxListeners bounds the listeners that are followed.
	maxListeners = 4096
)

// listener is a TCP socket that waits for connections.
type listener struct {
	address netip.Addr
	port    uint16
	inode   uint64
}

// parseListeners reads the lines of /proc/net/tcp or tcp6. Lines that make no
// sense are passed over.
func parseListeners(data string) []listener {
	var found []listener
	for line := range strings.Lines(data) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[3] != "0A" { // not listening
			continue
		}
		host, port, ok := strings.Cut(fields[1], ":")
		address, known := parseProcAddress(host)
		number, err := strconv.ParseUint(port, 16, 16)
		inode, inodeErr := strconv.ParseUint(fields[9], 10, 64)
		if !ok || !known || err != nil || inodeErr != nil || number == 0 {
			continue
		}
		if len(found) == maxListeners {
			return found
		}
		found = append(found, listener{address, uint16(number), inode})
	}
	return found
}

// parseProcAddress reads an address as /proc writes it: words of four bytes, each
// in the byte order of the machine.
func parseProcAddress(text string) (netip.Addr, bool) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.Addr{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	address, ok := netip.AddrFromSlice(raw)
	return address.Unmap(), ok
}

// listeners returns those of the machine.
func listeners(proc string) []listener {
	return append(parseListeners(readProc(proc, "net/tcp")), parseListeners(readProc(proc, "net/tcp6"))...)
}

// readProc returns a file below proc, "" if it cannot be read.
func readProc(proc, name string) string {
	f, err := os.Open(filepath.Join(proc, name))
	if err != nil {
		return ""
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, maxProcFile)) // a process that is gone has none
	return string(data)
}

// owners returns the processes that hold sockets, by the sockets' inodes.
func owners(proc string, wanted map[uint64]bool) map[uint64]int {
	found := map[uint64]int{}
	processes, err := os.ReadDir(proc)
	if err != nil {
		return found
	}
	for _, process := range processes {
		pid, err := strconv.Atoi(process.Name())
		if err != nil {
			continue
		}
		if len(found) == len(wanted) {
			break
		}
		dir := filepath.Join(proc, process.Name(), "fd")
		files, err := os.ReadDir(dir)
		if err != nil {
			continue // gone meanwhile
		}
		for _, file := range files {
			target, err := os.Readlink(filepath.Join(dir, file.Name()))
			if err != nil {
				continue
			}
			text, socket := strings.CutPrefix(target, "socket:[")
			inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
			if _, seen := found[inode]; socket && err == nil && wanted[inode] && !seen {
				found[inode] = pid
			}
		}
	}
	return found
}

// belongs reports whether a process is one, was started by it, or is of its
// session.
func belongs(proc string, pid, ancestor int) bool {
	for depth := 0; depth < 100 && pid > 1; depth++ {
		if pid == ancestor {
			return true
		}
		parent, session := parseStat(readProc(proc, strconv.Itoa(pid)+"/stat"))
		if session == ancestor {
			return true
		}
		pid = parent
	}
	return false
}

// parseStat reads the parent and the session of a process from its stat file; 0
// for what is not there. The name in it may hold anything.
func parseStat(text string) (parent, session int) {
	_, rest, _ := strings.Cut(text[strings.LastIndexByte(text, ')')+1:], " ")
	fields := strings.Fields(rest)
	if len(fields) < 4 {
		return 0, 0
	}
	parent, _ = strconv.Atoi(fields[1]) // 0 is as good
	session, _ = strconv.Atoi(fields[3])
	return parent, session
}
