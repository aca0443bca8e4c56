// Package protocol is what the daemon and its worker processes say to each
// other: requests and responses as length-prefixed JSON on a unix socket, with
// open files beside them. It exists so that the daemon can ask for sandboxes
// without containing gVisor.
//
// A daemon also speaks with workers of the builds before its own, on which
// older guests run: fields and operations are added, never changed.
package protocol

// Op names what a request asks for.
type Op string

const (
	// OpCreate makes a sandbox and boots or restores its guest.
	OpCreate Op = "create"
	// OpPause stops all tasks of a guest.
	OpPause Op = "pause"
	// OpResume lets them go on.
	OpResume Op = "resume"
	// OpCheckpoint writes a guest's memory to files.
	OpCheckpoint Op = "checkpoint"
	// OpPing asks whether a sandbox answers on its control socket.
	OpPing Op = "ping"
	// OpVersion asks which gVisor the worker contains.
	OpVersion Op = "version"
)

// Files of a machine's state directory that both sides use.
const (
	// JoinFile lists the cgroup files, one a line, into which a starting
	// process of the sandbox writes itself. It may be empty, not missing.
	JoinFile = "join"
	// LimitsFile holds the guest's number of CPUs and bytes of memory.
	LimitsFile = "limits"
	// PausedFile says whether the guest is paused. The worker keeps it, so
	// that it is right even when the daemon is killed half-way.
	PausedFile = "paused"
)

// Request is one thing asked of a worker.
type Request struct {
	Seq      uint64  `json:"seq"`
	Op       Op      `json:"op"`
	ID       string  `json:"id"`               // the machine
	StateDir string  `json:"stateDir"`         // the machine's state directory
	Socket   string  `json:"socket,omitempty"` // its control socket
	ImageDir string  `json:"imageDir,omitempty"`
	Key      string  `json:"key,omitempty"`   // of the image that OpCheckpoint writes
	Image    *Image  `json:"image,omitempty"` // what OpCreate has to find in ImageDir; nil: it does not look
	Large    bool    `json:"large,omitempty"` // the checkpoint will be
	Create   *Create `json:"create,omitempty"`
}

// Create describes a sandbox. If the request has an ImageDir the guest is
// restored from it, else it boots.
type Create struct {
	Root       string   `json:"root"`       // gVisor's own state directory
	NetNS      string   `json:"netNS"`      // path of an empty network namespace
	CgroupPath string   `json:"cgroupPath"` // to be cloned into, or empty: JoinFile is used
	Rootfs     string   `json:"rootfs"`
	Args       []string `json:"args"`
	Env        []string `json:"env"`
	Cwd        string   `json:"cwd"`
	Hostname   string   `json:"hostname"`
	LogFile    string   `json:"logFile"`
	Link       *Link    `json:"link,omitempty"` // its packet socket is the request's one file
	Mounts     []Mount  `json:"mounts,omitempty"`
	DebugDir   string   `json:"debugDir,omitempty"`
	Paused     bool     `json:"paused,omitempty"` // a restored guest does not run yet
}

// Mount shows a directory of the host in the guest, to be read only.
type Mount struct {
	Source string `json:"source"`
	Target string `json:"target"`
}

// Link is the guest's network interface.
type Link struct {
	Name       string `json:"name"`
	MAC        string `json:"mac"`
	MTU        int    `json:"mtu"`
	Address    string `json:"address"` // CIDR
	Gateway    string `json:"gateway"`
	GatewayMAC string `json:"gatewayMAC,omitempty"`
	UplinkMTU  int    `json:"uplinkMTU,omitempty"`
	HostGSOMax uint32 `json:"hostGSOMax"`
}

// Response answers the request of the same Seq.
type Response struct {
	Seq      uint64 `json:"seq"`
	Error    string `json:"error,omitempty"`
	PID      int    `json:"pid,omitempty"`      // of the sandbox
	GoferPID int    `json:"goferPID,omitempty"` // of its file server
	Version  string `json:"version,omitempty"`
	Damaged  bool   `json:"damaged,omitempty"` // the error is ErrDamaged
	Image    *Image `json:"image,omitempty"`   // what OpCheckpoint has written
}
