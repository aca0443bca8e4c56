// Package wire holds the definitions that the host and the daemon inside a
// machine share: the RPC services (generated from the .proto files beside it),
// the ports, the headers and the JSON bodies. It is the only room that the
// guest daemon has in common with the rest of the house.
package wire

import "strings"

const (
	// GuestPort is the TCP port on which the guest daemon serves.
	GuestPort = 49983

	// EnvdVersion is the version that the guest daemon answers to; published
	// SDKs switch features on by it.
	EnvdVersion = "0.6.4"

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
type Init struct {
	EnvVars        map[string]string `json:"envVars,omitempty"`
	AccessToken    string            `json:"accessToken,omitempty"`
	Timestamp      string            `json:"timestamp,omitempty"` // RFC 3339
	DefaultUser    string            `json:"defaultUser,omitempty"`
	DefaultWorkdir string            `json:"defaultWorkdir,omitempty"`

	// ControlToken, once set, is demanded on every later host-only request.
	ControlToken string `json:"controlToken,omitempty"`
	// Hostname is set in the kernel, /etc/hostname and /etc/hosts.
	Hostname string `json:"hostname,omitempty"`
	// MachineID is 32 hexadecimal digits, written to /etc/machine-id.
	MachineID string `json:"machineId,omitempty"`
	// Nameservers replaces /etc/resolv.conf.
	Nameservers []string `json:"nameservers,omitempty"`
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
