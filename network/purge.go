package network

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Purge removes everything that an instance has in the kernel and its state,
// found by name. No process may have the instance open, and its machines lose
// their network.
func Purge(cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	before, err := readState(cfg.statePath())
	if err != nil {
		return err
	}
	errs := []error{
		purgeLinks(cfg),
		removeNamespace(cfg.tapsPath()),
		removeNamespace(cfg.dnsPath()),
		restoreForwarding(cfg, before.Forwarding),
		removeTable(cfg),
	}
	if err := os.Remove(cfg.statePath()); err != nil && !os.IsNotExist(err) {
		errs = append(errs, fmt.Errorf("removing the network's state: %w", err))
	}
	return errors.Join(errs...)
}

// restoreForwarding leaves the host's interfaces as they were found, once no
// other instance needs them.
func restoreForwarding(cfg Config, ours []string) error {
	h, err := handleHere()
	if err != nil {
		return err
	}
	defer h.Close()
	host, err := readHostNet(h, cfg)
	if err != nil || host.shared {
		return err
	}
	return stopForwarding(ours)
}

// doomed is the interface group that links are put in to be deleted together:
// the kernel waits once for the group instead of some 30 ms for each link.
const doomed = 0x61746f6c

// purgeLinks deletes all links of an instance.
func purgeLinks(cfg Config) error {
	h, err := handleHere()
	if err != nil {
		return err
	}
	defer h.Close()
	links, err := linkIndexes(h, cfg.hostEnds())
	if err != nil {
		return err
	}
	for _, link := range links {
		if err := h.LinkSetGroup(link, doomed); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("removing link %s: %w", link.Attrs().Name, err)
		}
	}
	if len(links) > 0 {
		request := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
		request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		request.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(doomed)))
		if _, err := request.Execute(unix.NETLINK_ROUTE, 0); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("removing the links of %s: %w", cfg.Prefix, err)
		}
	}
	return deleteLink(h, cfg.dnsHostEnd())
}
