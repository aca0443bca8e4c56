// Package worker is the part of the sandbox machinery that contains gVisor: the
// process that creates sandboxes for the daemon and controls them, and the two
// processes that every sandbox consists of, the sentry (the guest's kernel) and
// the gofer (its file server). One binary is all of them; the daemon itself
// stays free of gVisor and only speaks the protocol with workers.
package worker

import (
	"fmt"
	"os"

	"gvisor.dev/gvisor/runsc/version"
)

// Names gVisor gives the processes it starts.
const (
	sentryName = "runsc-sandbox"
	goferName  = "runsc-gofer"
)

// Main is the whole program: it becomes what its arguments ask for.
func Main() {
	switch {
	case os.Args[0] == sentryName:
		sentryMain()
	case os.Args[0] == goferName:
		goferMain()
	case len(os.Args) == 4 && os.Args[1] == "worker":
		exit(serve(os.Args[2], os.Args[3]))
	case len(os.Args) == 2 && os.Args[1] == "version":
		fmt.Println(version.Version())
	case len(os.Args) == 2 && os.Args[1] == "selfcheck":
		exit(selfcheck())
	default:
		fmt.Fprintln(os.Stderr, "atoll-sandbox is started by atoll, not by hand.")
		os.Exit(2)
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "atoll-sandbox: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// stampedVersion is the version set by the linker, or empty. It is part of
// every snapshot: only the same version restores it.
func stampedVersion() string {
	if v := version.Version(); v != "VERSION_MISSING" {
		return v
	}
	return ""
}
