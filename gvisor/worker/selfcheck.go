package worker

import (
	"errors"
	"fmt"
	"os"
	_ "unsafe" // for linkname
)

// pausedStart is true if gVisor was patched (package patch) so that a restored
// guest can be left paused.
//
//go:linkname pausedStart gvisor.dev/gvisor/runsc/boot.atollPausedStart
var pausedStart bool

// selfcheck says whether the program was built right: with a version stamp,
// without which a snapshot of another gVisor would be accepted, with our changes
// to gVisor, and with the filters its options ask for.
func selfcheck() error {
	if stampedVersion() == "" {
		return errors.New("built without a version stamp; use gvisor/build.sh")
	}
	if !pausedStart {
		return errors.New("built without our changes to gVisor; use gvisor/build.sh")
	}
	useSentryPrograms()
	useGoferPrograms()
	if len(sentryPrograms) == 0 {
		fmt.Fprintln(os.Stderr, "no filters were compiled ahead for this architecture; starts are slower")
		return nil
	}
	if key := sentryFilterKey(); sentryRegistry[key].Name == "" {
		return fmt.Errorf("no filter compiled ahead for sentry options %q; run go generate in gvisor/worker", key)
	}
	if key := goferFilterKey(); goferRegistry[key].Name == "" {
		return fmt.Errorf("no filter compiled ahead for gofer options %q; run go generate in gvisor/worker", key)
	}
	return nil
}
