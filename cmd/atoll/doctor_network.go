package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/network"
)

// network is what the room of that name says about this host.
func (h *host) network() []check {
	const name = "network"
	var found []check
	for _, p := range network.Check(network.Config{}) {
		c := warn(name, p.What, p.Mend)
		if p.Fatal {
			c.Verdict = verdictFail
		}
		found = append(found, c)
	}
	if found == nil {
		return []check{okay(name, "sandboxes can have links, a firewall and DNS")}
	}
	return found
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
