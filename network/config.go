// Package network gives each machine an address, a way out that is closed to
// everything private, and names; because a guest is hostile, all of it is
// enforced by the host's kernel outside the guest's reach.
//
// A slot is one machine's place on the network: a veth pair whose host end has
// the gateway's address and whose guest end waits in a namespace where nothing
// else lives, open to whoever holds the packet socket bound to it. Slots are
// made ahead and used again, since deleting one takes the kernel some 30 ms.
//
// Everything made in the kernel carries Config.Prefix, so that a later process
// finds it: links <prefix>-h<n> and <prefix>-g<n>, namespaces <prefix>-taps
// and <prefix>-dns, and the nftables table <prefix>.
package network

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"regexp"
)

// Config is how one instance is set up. Zero values take the defaults named.
type Config struct {
	// Prefix starts the name of every kernel object of this instance: one to
	// six lower-case letters and digits. Default "atoll".
	Prefix string
	// RunDir holds what must live as long as the kernel objects do: mounted
	// namespaces and the choices made. It belongs on a file system that a
	// reboot clears. Default /run/<prefix>.
	RunDir string
	// Range is what slots take their addresses from, four each. By default
	// 10.201.0.0/16, or another private range if the host has a route into
	// it; the choice lasts as long as RunDir.
	Range netip.Prefix
	// Ahead is how many unused slots are kept ready. Default 32.
	Ahead int
	// MaxFlows is how many connections one machine may hold open through the
	// host at a time, so that no machine fills the host's tables. Default 4096.
	MaxFlows int
	// Closed adds destinations that no policy can open. Default none beyond
	// the private, reserved and on-link ranges.
	Closed []netip.Prefix
	// Open takes destinations out of those closed always. It exists for tests,
	// whose internet is a namespace with a reserved address.
	Open []netip.Prefix
	// Uplinks names the interfaces that lead out. Default: those that the
	// host's default routes use, followed as they change.
	Uplinks []string
	// Upstream are the DNS servers asked on behalf of guests, from the host.
	// Default: those of /etc/resolv.conf.
	Upstream []netip.AddrPort
	// Resolver answers the guests' questions. Default: a cache in front of Upstream.
	Resolver Resolver
	// Logger gets what happens in the background. Default: nothing is logged.
	Logger *slog.Logger
}

var prefixForm = regexp.MustCompile(`^[a-z0-9]{1,6}$`)

// withDefaults checks the configuration and fills what is left open.
func (c Config) withDefaults() (Config, error) {
	if c.Prefix == "" {
		c.Prefix = "atoll"
	}
	if !prefixForm.MatchString(c.Prefix) {
		return c, fmt.Errorf("network prefix %q: use one to six lower-case letters and digits", c.Prefix)
	}
	if c.RunDir == "" {
		c.RunDir = "/run/" + c.Prefix
	}
	if c.Range.IsValid() && (!c.Range.Addr().Is4() || c.Range.Bits() > 28 || c.Range.Bits() < 8) {
		return c, fmt.Errorf("network range %s: use an IPv4 prefix of 8 to 28 bits", c.Range)
	}
	c.Range = c.Range.Masked()
	if c.Ahead == 0 {
		c.Ahead = 32
	}
	if c.MaxFlows == 0 {
		c.MaxFlows = 4096
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Ahead < 0 || c.MaxFlows < 0 {
		return c, fmt.Errorf("network: slots ahead (%d) and flows per machine (%d) must not be negative", c.Ahead, c.MaxFlows)
	}
	if c.Upstream == nil {
		upstream, err := systemResolvers("/etc/resolv.conf")
		if err != nil && !os.IsNotExist(err) {
			return c, fmt.Errorf("reading the host's DNS servers: %w", err)
		}
		c.Upstream = upstream
	}
	return c, nil
}

// names are the kernel objects of an instance.
func (c Config) table() string       { return c.Prefix }
func (c Config) hostEnds() string    { return c.Prefix + "-h" }
func (c Config) guestEnds() string   { return c.Prefix + "-g" }
func (c Config) dnsHostEnd() string  { return c.Prefix + "-dns" }
func (c Config) dnsInnerEnd() string { return c.Prefix + "-dnsn" }
func (c Config) tapsPath() string    { return c.RunDir + "/" + c.Prefix + "-taps" }
func (c Config) dnsPath() string     { return c.RunDir + "/" + c.Prefix + "-dns" }
func (c Config) statePath() string   { return c.RunDir + "/" + c.Prefix + "-network.json" }
