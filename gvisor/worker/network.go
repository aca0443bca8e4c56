package worker

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/runsc/boot"
	"gvisor.dev/gvisor/runsc/config"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// networkArgs describes the guest's interfaces: always a loopback, and the
// link if there is one, driven through its packet socket.
func networkArgs(link *protocol.Link, files []*os.File, restore bool) (*boot.CreateLinksAndRoutesArgs, error) {
	args := &boot.CreateLinksAndRoutesArgs{
		LoopbackLinks: []boot.LoopbackLink{boot.DefaultLoopbackLink},
		IsRestore:     restore,
	}
	if link == nil {
		return args, nil
	}
	if len(files) != 1 {
		return nil, fmt.Errorf("link %s came with %d files, want 1", link.Name, len(files))
	}
	mac, err := net.ParseMAC(link.MAC)
	if err != nil {
		return nil, fmt.Errorf("read link address: %w", err)
	}
	address, err := netip.ParsePrefix(link.Address)
	if err != nil {
		return nil, fmt.Errorf("read link network: %w", err)
	}
	gateway, err := netip.ParseAddr(link.Gateway)
	if err != nil {
		return nil, fmt.Errorf("read gateway: %w", err)
	}
	l := boot.FDBasedLink{
		Name:              link.Name,
		MTU:               link.MTU,
		LinkAddress:       mac,
		Addresses:         []boot.IPWithPrefix{{Address: address.Addr().AsSlice(), PrefixLen: address.Bits()}},
		Routes:            []boot.Route{{Destination: ipNet(address.Masked())}},
		RXChecksumOffload: true,
		QDisc:             config.QDiscFIFO,
		NumChannels:       1,
		GSOMaxSize:        link.HostGSOMax,
	}
	if l.GSOMaxSize == 0 {
		l.GSOMaxSize, l.GVisorGSOEnabled = stack.GVisorGSOMaxSize, true
	}
	if link.GatewayMAC != "" {
		neighbour, err := net.ParseMAC(link.GatewayMAC)
		if err != nil {
			return nil, fmt.Errorf("read the gateway's link address: %w", err)
		}
		l.Neighbors = []boot.Neighbor{{IP: gateway.AsSlice(), HardwareAddr: neighbour}}
	}
	args.FDBasedLinks = []boot.FDBasedLink{l}
	args.FilePayload.Files = files
	args.Defaultv4Gateway = boot.DefaultRoute{
		Name: link.Name,
		Route: boot.Route{
			Destination: ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)),
			Gateway:     gateway.AsSlice(),
			MTU:         uint32(link.UplinkMTU),
		},
	}
	return args, nil
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
