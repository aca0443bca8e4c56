package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
)

const (
	dnsPort        = 53
	dnsMTU         = 1500
	dnsPerGuest    = 64              // questions of one guest in work at a time
	dnsInWork      = 1024            // questions in work altogether
	dnsConnections = 16              // TCP connections of one guest
	dnsDeadline    = 4 * time.Second // for one question, whatever the upstreams do
	dnsIdle        = 10 * time.Second
	dnsTTL         = 60 // of what is answered here, in seconds
)

// dnsServer answers the guests from a namespace of its own, so that nothing
// listens in the host's. Its sockets live there; its threads do not.
type dnsServer struct {
	network  *Network
	resolver Resolver
	packets  net.PacketConn
	streams  net.Listener
	udp, tcp *dns.Server
	inWork   quota
	streamed quota
	closed   []span // private destinations, whose names are nobody's business
	ctx      context.Context
}

// openDNS joins the namespace to the host by one link and opens the sockets.
func openDNS(n *Network) (*dnsServer, error) {
	place := slotAt(n.cfg, 0)
	d := &dnsServer{network: n, resolver: n.cfg.Resolver, closed: spansOf(alwaysClosed)}
	d.inWork.limit, d.inWork.total = dnsPerGuest, dnsInWork
	d.streamed.limit, d.streamed.total = dnsConnections, dnsInWork
	if d.resolver == nil {
		d.resolver = &forwarder{upstream: n.cfg.Upstream, cache: newAnswerCache()}
	}
	if err := linkDNS(n, place); err != nil {
		return nil, fmt.Errorf("preparing the DNS service: %w", err)
	}
	address := netip.AddrPortFrom(place.Address.Addr(), dnsPort).String()
	err := inNamespace(int(n.home.Fd()), int(n.names.Fd()), func() (err error) {
		if d.packets, err = net.ListenPacket("udp4", address); err != nil {
			return err
		}
		if d.streams, err = net.Listen("tcp4", address); err != nil {
			d.packets.Close()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening the DNS service: %w", err)
	}
	return d, nil
}

// linkDNS makes and addresses the link between the host and the DNS namespace.
func linkDNS(n *Network, place *Slot) error {
	inner, err := handleIn(n.home, n.names)
	if err != nil {
		return err
	}
	defer inner.Close()
	name := n.cfg.dnsInnerEnd()
	host, err := n.links.LinkByName(n.cfg.dnsHostEnd())
	if err == nil {
		_, err = inner.LinkByName(name)
		if err != nil || host.Attrs().HardwareAddr.String() != place.GatewayMAC.String() {
			err = deleteLink(n.links, n.cfg.dnsHostEnd())
		}
	} else if errors.As(err, &netlink.LinkNotFoundError{}) {
		err = nil
	}
	if err != nil {
		return err
	}
	p := pair{host: n.cfg.dnsHostEnd(), inner: name, hostMAC: place.GatewayMAC, innerMAC: place.MAC,
		hostAddr: ipNet(place), innerIP: place.Address.Addr().AsSlice(), mtu: dnsMTU}
	if err := makePair(n.links, n.names, p); err != nil {
		return err
	}
	link, err := inner.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding link %s: %w", name, err)
	}
	own := &netlink.Addr{IPNet: &net.IPNet{IP: place.Address.Addr().AsSlice(), Mask: net.CIDRMask(place.Address.Bits(), 32)}}
	gateway := &netlink.Neigh{LinkIndex: link.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
		IP: place.Gateway.AsSlice(), HardwareAddr: place.GatewayMAC}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: place.Gateway.AsSlice()}
	for _, step := range []func() error{
		func() error { return inner.LinkSetARPOff(link) },
		func() error { return inner.AddrReplace(link, own) },
		func() error { return inner.LinkSetUp(link) },
		func() error { return inner.NeighSet(gateway) },
		func() error { return inner.RouteReplace(route) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("setting up link %s: %w", name, err)
		}
	}
	if err := awaitCarrier(n.links, n.cfg.dnsHostEnd()); err != nil {
		return err
	}
	return awaitCarrier(inner, name)
}

// serve answers until close; work counts its goroutines.
func (d *dnsServer) serve(ctx context.Context, work *sync.WaitGroup) {
	d.ctx = ctx
	logger := d.network.cfg.Logger
	d.udp = &dns.Server{PacketConn: d.packets, Handler: d, UDPSize: 4096, MsgAcceptFunc: acceptMessage}
	d.tcp = &dns.Server{Listener: &guestListener{d.streams, &d.streamed}, Handler: d, MsgAcceptFunc: acceptMessage,
		ReadTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second,
		IdleTimeout: func() time.Duration { return dnsIdle }, MaxTCPQueries: 128}
	for _, server := range []*dns.Server{d.udp, d.tcp} {
		work.Go(func() {
			err := server.ActivateAndServe()
			if err != nil && ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				logger.Error("serving names to machines", "error", err)
			}
		})
	}
}

// close ends the servers and the connections that guests hold open.
func (d *dnsServer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), dnsDeadline)
	defer cancel()
	for _, server := range []*dns.Server{d.udp, d.tcp} {
		// A server that had not begun to serve ends with its socket below.
		if err := server.ShutdownContext(ctx); err != nil && ctx.Err() != nil {
			return fmt.Errorf("ending the DNS service: %w", err)
		}
	}
	d.packets.Close()
	d.streams.Close()
	return nil
}

// acceptMessage takes queries with one question and leaves the rest unanswered
// or refused, before anything else of them is read.
func acceptMessage(h dns.Header) dns.MsgAcceptAction {
	const response, opcode = 1 << 15, 0xf
	switch {
	case h.Bits&response != 0:
		return dns.MsgIgnore
	case int(h.Bits>>11)&opcode != dns.OpcodeQuery:
		return dns.MsgRejectNotImplemented
	case h.Qdcount != 1 || h.Ancount != 0 || h.Nscount != 0 || h.Arcount > 2:
		return dns.MsgReject
	}
	return dns.MsgAccept
}

// ServeDNS implements dns.Handler: one question of one guest.
func (d *dnsServer) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	from, err := netip.ParseAddrPort(w.RemoteAddr().String())
	if err != nil {
		return
	}
	guest := from.Addr().Unmap()
	answer := d.answer(guest, query)
	answer.Id, answer.Response, answer.RecursionDesired = query.Id, true, query.RecursionDesired
	answer.RecursionAvailable, answer.Question = true, query.Question
	fit(answer, query, w.LocalAddr().Network() == "udp")
	if err := w.WriteMsg(answer); err != nil {
		d.network.cfg.Logger.Debug("answering a machine's DNS question", "guest", guest, "error", err)
	}
}

// answer decides what a guest is told; only the sections and code matter.
func (d *dnsServer) answer(guest netip.Addr, query *dns.Msg) *dns.Msg {
	held := d.holder(guest)
	if held == nil || held.offline.Load() {
		return coded(dns.RcodeRefused)
	}
	question := query.Question[0]
	rules := held.names.Load()
	name, plain := plainName(question.Name)
	if rules != nil && !isLocalhost(question.Name) {
		if !plain || !rules.allows(name) {
			return coded(dns.RcodeRefused)
		}
		if question.Qtype == dns.TypeHTTPS || question.Qtype == dns.TypeSVCB {
			return coded(dns.RcodeSuccess) // they carry addresses; programs ask for A as well
		}
	}
	if answer := d.local(question); answer != nil {
		return answer
	}
	if !d.inWork.take(guest) {
		return coded(dns.RcodeServerFailure)
	}
	defer d.inWork.free(guest)
	ctx, cancel := context.WithTimeout(d.ctx, dnsDeadline)
	defer cancel()
	answer, err := d.resolver.Resolve(ctx, guest, query)
	if err != nil {
		d.network.cfg.Logger.Debug("resolving a name for a machine", "guest", guest, "error", err)
		return coded(dns.RcodeServerFailure)
	}
	if rules != nil {
		boundAnswer(answer)
	}
	if !plain {
		return answer
	}
	addrs, ttl := answeredAddresses(answer)
	switch err := d.network.answered(held, name, addrs, ttl); {
	case errors.Is(err, errDenied): // since it was asked
		return coded(dns.RcodeRefused)
	case err != nil:
		d.network.cfg.Logger.Error("opening what a machine may reach by name", "guest", guest, "error", err)
		return coded(dns.RcodeServerFailure)
	}
	return answer
}

// holder is the slot that the guest holds, or nil.
func (d *dnsServer) holder(guest netip.Addr) *heldSlot {
	if !guest.Is4() || !d.network.cfg.Range.Contains(guest) {
		return nil
	}
	index := int((addrNumber(guest) - addrNumber(d.network.cfg.Range.Addr())) / 4)
	d.network.mu.Lock()
	held := d.network.held[index]
	d.network.mu.Unlock()
	if held == nil || held.slot.Address.Addr() != guest {
		return nil
	}
	return held
}

func isLocalhost(name string) bool {
	name = strings.ToLower(name)
	return name == "localhost." || strings.HasSuffix(name, ".localhost.")
}

// local answers what needs no upstream, or nil: guests have no IPv6, and names
// of private addresses would tell of the host's own network.
func (d *dnsServer) local(q dns.Question) *dns.Msg {
	name := strings.ToLower(q.Name)
	switch {
	case q.Qclass != dns.ClassINET:
		return coded(dns.RcodeNotImplemented)
	case q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR:
		return coded(dns.RcodeRefused)
	case q.Qtype == dns.TypeAAAA:
		return coded(dns.RcodeSuccess)
	case isLocalhost(name):
		answer := coded(dns.RcodeSuccess)
		if q.Qtype == dns.TypeA {
			answer.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: dnsTTL}, A: net.IPv4(127, 0, 0, 1)}}
		}
		return answer
	case strings.HasSuffix(name, ".ip6.arpa.") || inSpans(d.closed, reverseAddr(name)):
		return coded(dns.RcodeNameError)
	}
	return nil
}

// reverseAddr is the IPv4 address that a name below in-addr.arpa stands for.
func reverseAddr(name string) netip.Addr {
	labels := strings.Split(strings.TrimSuffix(name, ".in-addr.arpa."), ".")
	if !strings.HasSuffix(name, ".in-addr.arpa.") || len(labels) > 4 {
		return netip.Addr{}
	}
	var b [4]byte
	for i := range labels {
		v, err := strconv.ParseUint(labels[len(labels)-1-i], 10, 8)
		if err != nil {
			return netip.Addr{}
		}
		b[i] = byte(v)
	}
	return netip.AddrFrom4(b)
}

func coded(code int) *dns.Msg { return &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: code}} }

// fit gives the answer the guest's own EDNS size and cuts it to that.
func fit(answer, query *dns.Msg, udp bool) {
	kept := answer.Extra[:0]
	for _, record := range answer.Extra {
		if record.Header().Rrtype != dns.TypeOPT {
			kept = append(kept, record)
		}
	}
	answer.Extra = kept
	size := dns.MinMsgSize
	if opt := query.IsEdns0(); opt != nil {
		size = min(max(int(opt.UDPSize()), dns.MinMsgSize), upstreamSize)
		answer.SetEdns0(upstreamSize, opt.Do())
	}
	if !udp {
		size = dns.MaxMsgSize
	}
	answer.Truncate(size)
}
