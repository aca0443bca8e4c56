package worker

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/control/client"
	"gvisor.dev/gvisor/runsc/boot"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/container"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// create makes a sandbox and starts its guest. On failure nothing of it stays.
func (s *server) create(req *protocol.Request, files []*os.File) (protocol.Response, error) {
	var none protocol.Response
	c := req.Create
	if c == nil {
		return none, fmt.Errorf("create %s: no description", req.ID)
	}
	conf, err := options(c)
	if err != nil {
		return none, err
	}
	network, err := networkArgs(c.Link, files, req.ImageDir != "")
	if err != nil {
		return none, err
	}
	check := checkImage(req)
	spec := ociSpec(c)
	if err := writeSpec(req.StateDir, spec); err != nil {
		return none, err
	}
	putBack, err := guestOutput(c.LogFile)
	if err != nil {
		return none, err
	}
	defer putBack()
	cont, err := container.New(conf, container.Args{ID: req.ID, Spec: spec, BundleDir: req.StateDir})
	if err != nil {
		return none, fmt.Errorf("create sandbox: %w", err)
	}
	if cont.Status != container.Created {
		cont.Destroy()
		return none, fmt.Errorf("create sandbox: it is %v", cont.Status)
	}
	s.children.add(cont.SandboxPid(), cont.GoferPid.Load())
	if req.ImageDir != "" {
		err = restoreGuest(req, conf, cont, network, check)
	} else {
		err = start(conf, cont, network)
	}
	if err != nil {
		// The daemon, which asked, clears up: it also knows the cgroup.
		return none, fmt.Errorf("start guest: %w", err)
	}
	return protocol.Response{PID: cont.SandboxPid(), GoferPID: cont.GoferPid.Load()}, nil
}

// start boots the guest. Unlike Restore, Start has no argument for the network
// and would read it off interfaces; told that the network is the host's, it
// leaves what was set before.
func start(conf *config.Config, cont *container.Container, network *boot.CreateLinksAndRoutesArgs) error {
	conn, err := client.ConnectTo(cont.Sandbox.GetControlSocketPath())
	if err != nil {
		return fmt.Errorf("connect to sandbox: %w", err)
	}
	err = conn.Call(boot.ContMgrSetNetworkArgs, network, nil)
	conn.Close()
	if err != nil {
		return fmt.Errorf("set network: %w", err)
	}
	quiet := *conf
	quiet.Network = config.NetworkHost
	return cont.Start(&quiet)
}

// guestOutput makes the log file the standard output and error that gVisor
// hands to the guest, which are those of this process, until putBack is
// called. A worker creates one sandbox at a time.
func guestOutput(path string) (putBack func(), err error) {
	if path == "" {
		path = os.DevNull
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open guest's log: %w", err)
	}
	out, errOut := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = f, f
	return func() {
		os.Stdout, os.Stderr = out, errOut
		f.Close()
	}, nil
}
