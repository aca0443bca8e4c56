// Package wire holds the definitions that the host and the daemon inside a
// machine share: the RPC services (generated from the .proto files beside it),
// the ports, the headers and the JSON bodies. It is the only room that the
// guest daemon has in common with the rest of the house.
package wire

import "strings"

const (
	// GuestPort is the TCP port on which the guest daemon serves.
	GuestPort = 49983

	// KernelPort is the TCP port of the code interpreter, in machines that have
	// kernels; the published code-interpreter SDKs call it.
	KernelPort = 49999

	// EnvdVersion is the version that the guest daemon answers to; published
	// SDKs switch features on by it.
	EnvdVersion = "0.6.4"

	// ClientID is what E2B once used to tell clusters apart. SDKs before version
	// 2 append "-" and it to the ids of sandboxes, in paths and host names.
	ClientID = "atoll"

	// ControlHeader carries the control token on requests that only the host
	// may make: init after the first, and tunnels.
	ControlHeader = "X-Atoll-Control"

	// AccessTokenHeader carries the token that a secure machine asks of clients.
	AccessTokenHeader = "X-Access-Token"

	// TunnelPath upgrades a connection (Upgrade: TunnelProtocol) to raw bytes
	// to a port on the guest's loopback, named by the query parameter "port".
	TunnelPath     = "/atoll/tunnel"
	TunnelProtocol = "atoll-tunnel"
)

// Init is the body of POST /init: everything that must differ between copies
// of one snapshot. Fields that are empty leave what is there untouched.
//
// A machine that was made from a template's snapshot gets all of it. One that
// goes on from a memory image of its own gets Restored, and what has changed
// since. One that was made from the memory of another gets Copy and all of it,
// with that other machine's control token in ControlHeader.
type Init struct {
	// EnvVars are set for processes that are started from now on; those that run
	// keep theirs. Variables that are not named stay.
	EnvVars        map[string]string `json:"envVars,omitempty"`
	AccessToken    string            `json:"accessToken,omitempty"`
	Timestamp      string            `json:"timestamp,omitempty"` // RFC 3339
	DefaultUser    string            `json:"defaultUser,omitempty"`
	DefaultWorkdir string            `json:"defaultWorkdir,omitempty"`

	// ControlToken, once set, is demanded on every later host-only request.
	ControlToken string `json:"controlToken,omitempty"`
	// Hostname is set in the kernel and /etc/hostname, and replaces the former
	// name in /etc/hosts.
	Hostname string `json:"hostname,omitempty"`
	// MachineID is 32 hexadecimal digits, written to /etc/machine-id.
	MachineID string `json:"machineId,omitempty"`
	// Nameservers are written to /etc/resolv.conf, once. Later ones replace
	// those that were written before, wherever they still stand in it.
	Nameservers []string `json:"nameservers,omitempty"`

	// Restored says that the memory was read from an image, so that connections
	// with the outside have no other end any more: the daemon ends all but the
	// one that says so. Processes that were started through them go on.
	Restored bool `json:"restored,omitempty"`
	// Copy says that the memory is that of another machine; it implies Restored.
	// All authority over that one ends here: AccessToken holds as it is given
	// (empty: none is asked for), ControlToken must be given and new. Polled
	// watchers are removed, and random number generators in running processes
	// get new seeds.
	Copy bool `json:"copy,omitempty"`

	// Sprite is set for machines that are sprites: the daemon starts their
	// services and serves SpritePath.
	Sprite *SpriteInit `json:"sprite,omitempty"`
}

// LogLine is one line of the guest daemon's standard output: the machine's log.
// The host reads it as hostile input.
type LogLine struct {
	Time    string            `json:"time"` // RFC 3339 with nanoseconds
	Level   string            `json:"level"`
	Message string            `json:"message"`
	Fields  map[string]string `json:"fields,omitempty"`
}

// PublicPath reports whether clients may reach a path on GuestPort from
// outside. All else on that port belongs to the host.
func PublicPath(path string) bool {
	switch path {
	case "/health", "/metrics", "/envs", "/files", "/files/compose":
		return true
	}
	return strings.HasPrefix(path, "/process.Process/") || strings.HasPrefix(path, "/filesystem.Filesystem/")
}
