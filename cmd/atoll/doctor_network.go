package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/client"
)

// network tries what every sandbox's network is made of, in a network
// namespace that is gone when the check is over: the host's is not touched.
func (h *host) network() []check {
	if h.euid != 0 {
		return []check{warn("network", "not known before this runs as root", "sudo atoll doctor")}
	}
	result := make(chan []check, 1)
	go func() {
		// The thread is never unlocked, so it ends with this goroutine, and
		// the namespace with it.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- []check{fail("network namespaces", err.Error(), "use a kernel with CONFIG_NET_NS; in a container, start it with --privileged")}
			return
		}
		result <- []check{okay("network namespaces", "one can be made"), tryVeth(), tryNftables()}
	}()
	return <-result
}

func tryVeth() check {
	const name = "veth"
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "doctor0"}, PeerName: "doctor1"}
	if err := netlink.LinkAdd(link); err != nil {
		return fail(name, fmt.Sprintf("cannot make a veth pair: %v", err), "modprobe veth")
	}
	return okay(name, "a pair can be made")
}

// tryNftables makes a table with the address translation that sandboxes need.
func tryNftables() check {
	const name = "nftables"
	const mend = "modprobe -a nf_tables nft_masq nft_ct; or use a kernel with CONFIG_NF_TABLES and CONFIG_NFT_MASQ"
	c, err := nftables.New()
	if err != nil {
		return fail(name, fmt.Sprintf("cannot open: %v", err), mend)
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "doctor"})
	c.AddChain(&nftables.Chain{Name: "post", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	if err := c.Flush(); err != nil {
		return fail(name, fmt.Sprintf("cannot make a table with address translation: %v", err), mend)
	}
	return okay(name, "tables with address translation can be made")
}

// port: the server listens on one; a server that has it already may be ours.
func (a *app) port(ctx context.Context, listen string) check {
	const name = "port"
	l, err := net.Listen("tcp", listen)
	if err == nil {
		l.Close()
		return okay(name, "%s is free", listen)
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fail(name, fmt.Sprintf("cannot listen on %s: %v", listen, err), "choose another address with --listen")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if cred, err := readCredentials(a.dataDir()); err == nil {
		if c, err := client.New(client.Config{APIURL: cred.APIURL}); err == nil && c.Health(ctx) == nil {
			return okay(name, "Atoll is running at %s", cred.APIURL)
		}
	}
	_, port, _ := net.SplitHostPort(listen)
	return fail(name, listen+" is taken by another program",
		fmt.Sprintf("ss -ltnp 'sport = :%s' shows which; or choose another with --listen", port))
}
