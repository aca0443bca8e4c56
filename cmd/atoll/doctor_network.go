package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/network"
)

// network is what the room of that name says about this host.
func (h *host) network() []check {
	return h.checks("network", "sandboxes can have links, a firewall and DNS", "", network.Check(network.Config{}))
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
		c, err := client.New(client.Config{APIURL: cred.APIURL})
		if err == nil {
			err = c.Health(ctx)
		}
		switch {
		case err == nil:
			return okay(name, "Atoll is running at %s", cred.APIURL)
		case ctx.Err() != nil && strings.HasSuffix(cred.APIURL, "//"+listen):
			return warn(name, "the Atoll at "+cred.APIURL+" does not answer yet", "wait until it has started, or look at its log")
		}
	}
	return fail(name, listen+" is taken by another program", takenMend(listen))
}

// takenMend helps where an address is taken.
func takenMend(listen string) string {
	_, port, _ := net.SplitHostPort(listen)
	return fmt.Sprintf("ss -ltnp 'sport = :%s' shows which; or choose another with --listen", port)
}
