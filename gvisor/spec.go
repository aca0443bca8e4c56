package gvisor

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// Spec describes a guest. For a restore Args and Cwd must be those of the
// guest that was checkpointed; everything else may differ.
type Spec struct {
	// ID names the guest: letters, digits, '-' and '_', at most 40.
	ID string
	// Rootfs is the directory that is the guest's root. It is written to.
	Rootfs string
	// Args is the first process, as an absolute path and its arguments.
	Args, Env []string
	Cwd       string // "/" if empty
	Hostname  string
	// CPUs is how many CPUs' time the guest may use; it sees them rounded up.
	// 0 means no limit.
	CPUs float64
	// MemoryBytes is what the guest sees as its memory. Its cgroup gets
	// MemoryOverhead more. 0 means no limit.
	MemoryBytes int64
	// PIDs limits the host's threads of the sandbox; 0 means no limit.
	// Each process of the guest takes about four. A guest that hits it may
	// die, so the limit meant for users is set inside the guest, in its own
	// /sys/fs/cgroup/pids.
	PIDs int64
	// Mounts show directories of the host in the guest, to be read only. All
	// guests that show one share its pages in memory, which copies of a root
	// do not.
	Mounts []Mount
	// Link is the guest's network interface; without one it has loopback only.
	Link *Link
	// BinDir holds the helper binaries that the sandbox is made of and stays on;
	// empty takes Config.BinDir. A checkpoint is restored on those it was
	// written with.
	BinDir string
	// Paused leaves a restored guest paused: none of its programs has run when
	// Restore returns, and none runs before Resume.
	Paused bool
	// LogFile, on the host, gets what the first process writes to its
	// standard output and error, appended. Nothing is kept if it is empty.
	LogFile string
}

// Mount is a directory of the host, Source, that the guest sees read-only at
// Target, a directory of its root. A restore needs the Targets of the
// checkpointed guest; the Sources may be others.
type Mount struct{ Source, Target string }

// Link is a guest's network interface.
type Link struct {
	// Tap is a packet socket (AF_PACKET) bound to the host's end of the
	// guest's wire, with or without PACKET_VNET_HDR; with it, the host splits
	// large segments. It stays the caller's, to be closed after the call.
	Tap     *os.File
	Name    string // in the guest, such as "eth0"
	MAC     net.HardwareAddr
	MTU     int
	Address netip.Prefix
	Gateway netip.Addr
	// GatewayMAC makes the gateway a fixed neighbour, for a host that answers
	// no ARP; without it the guest asks.
	GatewayMAC net.HardwareAddr
	// UplinkMTU is the MTU of the default route; 0 is the link's.
	UplinkMTU int
}

// hostGSOMax is the size in bytes of the segments that the host splits for a
// guest whose packet socket has virtio headers (PACKET_VNET_HDR).
const hostGSOMax = 65536

// MemoryOverhead is what a machine's cgroup is allowed beyond the guest's
// memory: an idle sandbox needs some 20 MB for sentry and gofer, a busy one
// more for page tables, open files and network buffers.
func MemoryOverhead(guest int64) int64 { return 64<<20 + guest/32 }

var validID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$`)

func (s *Spec) check() error {
	switch {
	case !validID.MatchString(s.ID):
		return fmt.Errorf("sandbox name %q is not 1 to 40 letters, digits, '-' or '_'", s.ID)
	case !filepath.IsAbs(s.Rootfs):
		return fmt.Errorf("root directory %q is not absolute", s.Rootfs)
	case s.BinDir != "" && !filepath.IsAbs(s.BinDir):
		return fmt.Errorf("directory of helper binaries %q is not absolute", s.BinDir)
	case len(s.Args) == 0 || !filepath.IsAbs(s.Args[0]):
		return errors.New("the first process needs an absolute path")
	case s.CPUs < 0 || s.MemoryBytes < 0 || s.PIDs < 0 || math.IsNaN(s.CPUs) || math.IsInf(s.CPUs, 0):
		return errors.New("limits must not be negative")
	case slices.ContainsFunc(s.Mounts, func(m Mount) bool { return !filepath.IsAbs(m.Source) || !filepath.IsAbs(m.Target) }):
		return errors.New("mounts need absolute paths")
	case s.Link != nil && s.Link.Tap == nil:
		return errors.New("the link has no packet socket")
	}
	return nil
}

// link is nil without one.
func (s *Spec) link() (*protocol.Link, []*os.File, error) {
	if s.Link == nil {
		return nil, nil, nil
	}
	raw, err := s.Link.Tap.SyscallConn()
	if err != nil {
		return nil, nil, fmt.Errorf("use packet socket: %w", err)
	}
	var headers int
	var asked error
	if err := raw.Control(func(fd uintptr) {
		headers, asked = unix.GetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_VNET_HDR)
	}); err != nil || asked != nil {
		return nil, nil, fmt.Errorf("use packet socket: %w", errors.Join(err, asked))
	}
	l := &protocol.Link{Name: s.Link.Name, MAC: s.Link.MAC.String(), MTU: s.Link.MTU,
		Address: s.Link.Address.String(), Gateway: s.Link.Gateway.String(),
		GatewayMAC: s.Link.GatewayMAC.String(), UplinkMTU: s.Link.UplinkMTU}
	if headers != 0 {
		l.HostGSOMax = hostGSOMax
	}
	return l, []*os.File{s.Link.Tap}, nil
}
