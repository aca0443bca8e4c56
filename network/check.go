package network

import (
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/doctor"
)

// Check looks for what would keep an instance from working, changing nothing
// but a namespace that it makes and leaves at once.
func Check(cfg Config) []doctor.Problem {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return []doctor.Problem{{Fatal: true, What: err.Error(), Mend: "Change the network configuration."}}
	}
	var problems []doctor.Problem
	if !hasCapability(unix.CAP_NET_ADMIN) || !hasCapability(unix.CAP_SYS_ADMIN) || !hasCapability(unix.CAP_NET_RAW) {
		return []doctor.Problem{{Fatal: true, What: "This process may not administer the network (it needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_SYS_ADMIN).", Mend: "Run it as root."}}
	}
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return []doctor.Problem{{Fatal: true, What: "The kernel has no network namespaces: " + err.Error(), Mend: "Use a kernel with CONFIG_NET_NS."}}
	}
	defer home.Close()
	err = onForeignThread(int(home.Fd()), func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() error { return tryKernel(cfg) })
	if err != nil {
		problems = append(problems, doctor.Problem{Fatal: true, What: "The kernel refused a firewall or a link: " + err.Error(),
			Mend: "Load the modules nf_tables, nft_ct, nft_masq, nft_reject_inet, nft_connlimit, nft_limit, nf_conntrack_netlink and veth."})
	}
	if len(cfg.Upstream) == 0 {
		problems = append(problems, doctor.Problem{What: "No DNS server is known, so machines cannot resolve names.", Mend: "Put a nameserver line into /etc/resolv.conf or configure upstream servers."})
	}
	return append(problems, foreignFirewalls(cfg)...)
}

// tryKernel makes the firewall and a link in the calling thread's namespace.
func tryKernel(cfg Config) error {
	cfg.Range, _ = chooseRange(hostNet{})
	fw := newFirewall(cfg, slotAt(cfg, 0).Address.Addr())
	defer fw.close()
	if err := fw.replace(nil, spansOf(alwaysClosed), nil); err != nil {
		return err
	}
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer here.Close()
	h, err := handleHere()
	if err != nil {
		return err
	}
	defer h.Close()
	s := slotAt(cfg, 1)
	return makePair(h, here, pair{host: s.Name, inner: cfg.guestEnds() + "1", hostMAC: s.GatewayMAC, innerMAC: s.MAC,
		hostAddr: ipNet(s), innerIP: s.Address.Addr().AsSlice(), mtu: linkMTU})
}

// foreignFirewalls finds other tables that drop what they do not know, because
// a packet must pass every table.
func foreignFirewalls(cfg Config) []doctor.Problem {
	conn, err := nftables.New()
	if err != nil {
		return nil // tryKernel has said so
	}
	chains, err := conn.ListChains()
	if err != nil {
		return []doctor.Problem{{What: "The host's firewall cannot be listed: " + err.Error(), Mend: "Load the module nf_tables."}}
	}
	var problems []doctor.Problem
	for _, chain := range chains {
		if chain.Table.Name == cfg.table() || chain.Hooknum == nil || *chain.Hooknum != *nftables.ChainHookForward ||
			chain.Policy == nil || *chain.Policy != nftables.ChainPolicyDrop {
			continue
		}
		problems = append(problems, doctor.Problem{
			What: fmt.Sprintf("Another firewall (table %s, chain %s) drops forwarded packets by default, so machines may have no internet.", chain.Table.Name, chain.Name),
			Mend: fmt.Sprintf("Let packets of the links %s+ pass there; with Docker: iptables -I DOCKER-USER -i %s+ -j ACCEPT; iptables -I DOCKER-USER -o %s+ -j ACCEPT.", cfg.hostEnds(), cfg.hostEnds(), cfg.hostEnds()),
		})
	}
	return problems
}

// hasCapability tells whether this process has a capability in effect.
func hasCapability(capability int) bool {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		var set uint64
		if n, _ := fmt.Sscanf(line, "CapEff:\t%x", &set); n == 1 {
			return set&(1<<capability) != 0
		}
	}
	return false
}
