package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hostNet is what matters of the host's own interfaces and routes.
type hostNet struct {
	uplinks []string       // interfaces that lead out
	onLink  []netip.Prefix // networks the host is attached to
	routes  []netip.Prefix // every destination it has a route to, but the default
	mtu     int            // the smallest of the uplinks'
	shared  bool           // another instance is on this host
}

// readHostNet looks at the host, passing over this instance's own links.
func readHostNet(h *netlink.Handle, cfg Config) (hostNet, error) {
	var found hostNet
	links, err := whole(h.LinkList)
	if err != nil {
		return found, fmt.Errorf("listing links: %w", err)
	}
	routes, err := whole(func() ([]netlink.Route, error) { return h.RouteList(nil, unix.AF_INET) })
	if err != nil {
		return found, fmt.Errorf("listing routes: %w", err)
	}
	byIndex := make(map[int]*netlink.LinkAttrs)
	for _, link := range links {
		byIndex[link.Attrs().Index] = link.Attrs()
	}
	found.shared = hasOtherInstance(links, cfg)
	leadsOut := make(map[string]bool)
	for _, name := range cfg.Uplinks {
		leadsOut[name] = true
	}
	for _, route := range routes {
		prefix, direct := routePrefix(route)
		for _, index := range routeLinks(route) {
			link := byIndex[index]
			if link == nil || strings.HasPrefix(link.Name, cfg.Prefix+"-") {
				continue
			}
			if prefix.Bits() == 0 {
				if len(cfg.Uplinks) == 0 {
					leadsOut[link.Name] = true
				}
				continue
			}
			found.routes = append(found.routes, prefix)
			if direct {
				found.onLink = append(found.onLink, prefix)
			}
		}
	}
	found.mtu = 1500
	for _, link := range byIndex {
		if leadsOut[link.Name] {
			found.uplinks = append(found.uplinks, link.Name)
			found.mtu = min(found.mtu, link.MTU)
		}
	}
	slices.Sort(found.uplinks)
	return found, nil
}

// hasOtherInstance finds another instance by its link to its DNS service.
func hasOtherInstance(links []netlink.Link, cfg Config) bool {
	for _, link := range links {
		name, mac := link.Attrs().Name, link.Attrs().HardwareAddr
		if strings.HasSuffix(name, "-dns") && name != cfg.dnsHostEnd() && len(mac) == 6 && mac[0] == gatewayByte && mac[1] == ownByte {
			return true
		}
	}
	return false
}

// routePrefix is a route's destination, and whether it is a network the host
// is attached to.
func routePrefix(route netlink.Route) (prefix netip.Prefix, direct bool) {
	if route.Dst == nil {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0), false
	}
	addr, _ := netip.AddrFromSlice(route.Dst.IP)
	bits, _ := route.Dst.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits), route.Scope == netlink.SCOPE_LINK && len(route.Gw) == 0
}

func routeLinks(route netlink.Route) []int {
	if len(route.MultiPath) == 0 {
		return []int{route.LinkIndex}
	}
	var links []int
	for _, hop := range route.MultiPath {
		links = append(links, hop.LinkIndex)
	}
	return links
}

// closedTo is what no guest may reach on this host.
func (h hostNet) closedTo(cfg Config) []span {
	all := slices.Concat(alwaysClosed, h.onLink, cfg.Closed, []netip.Prefix{cfg.Range})
	return subtractSpans(spansOf(all), spansOf(cfg.Open))
}

// chooseRange finds a private range that the host has no route into.
func chooseRange(h hostNet) (netip.Prefix, error) {
	var candidates []string
	for i := 201; i <= 254; i++ {
		candidates = append(candidates, fmt.Sprintf("10.%d.0.0/16", i))
	}
	for i := 31; i >= 18; i-- {
		candidates = append(candidates, fmt.Sprintf("172.%d.0.0/16", i))
	}
	for _, text := range candidates {
		candidate := netip.MustParsePrefix(text)
		if !slices.ContainsFunc(h.routes, candidate.Overlaps) {
			return candidate, nil
		}
	}
	return netip.Prefix{}, errors.New("no private range is free for machines: name one that the host has no route into")
}

// startForwarding lets packets pass from the uplinks to the guests. It turns
// forwarding on for those interfaces alone, and returns which of them forward
// only because of instances on this host; already names those this one knew of.
func startForwarding(host hostNet, already []string) ([]string, error) {
	if readSysctl("ipv4/ip_forward") == "1" {
		return nil, nil // the host is a router by its owner's will
	}
	ours := slices.Clone(already)
	for _, name := range host.uplinks {
		on := readSysctl("ipv4/conf/"+name+"/forwarding") == "1"
		if on && !host.shared {
			continue
		}
		if !on {
			if err := writeSysctl("ipv4/conf/" + name + "/forwarding=1"); err != nil {
				return ours, err
			}
		}
		if !slices.Contains(ours, name) {
			ours = append(ours, name)
		}
	}
	return ours, nil
}

// stopForwarding undoes startForwarding, unless the host became a router since.
// Of several instances the last one does so.
func stopForwarding(ours []string) error {
	if readSysctl("ipv4/ip_forward") == "1" {
		return nil
	}
	var errs []error
	for _, name := range ours {
		err := writeSysctl("ipv4/conf/" + name + "/forwarding=0")
		if !errors.Is(err, fs.ErrNotExist) { // the interface may be gone
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
