package worker

import (
	"errors"
	"fmt"
	"os"
	_ "unsafe" // for linkname

	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	sentryfilter "gvisor.dev/gvisor/runsc/boot/filter"
	goferfilter "gvisor.dev/gvisor/runsc/fsgofer/filter"
)

//go:generate go run ./seccompgen seccomp_amd64.go

// The filters compiled ahead, filled in by generated source. An architecture
// without generated source compiles them at each start.
var sentryPrograms, goferPrograms []precompiledseccomp.Program

//go:linkname sentryRegistry gvisor.dev/gvisor/runsc/boot/filter.precompiledPrograms
var sentryRegistry map[string]precompiledseccomp.Program

//go:linkname goferRegistry gvisor.dev/gvisor/runsc/fsgofer/filter.precompiledPrograms
var goferRegistry map[string]precompiledseccomp.Program

// useSentryPrograms gives gVisor the filters it would otherwise compile. Module
// builds of gVisor have an empty registry and no function to add to it.
func useSentryPrograms() {
	sentryfilter.GetPrecompiled("") // fills the registry, once
	sentryRegistry = byName(sentryPrograms)
}

func useGoferPrograms() {
	goferfilter.GetPrecompiled("")
	goferRegistry = byName(goferPrograms)
}

func byName(programs []precompiledseccomp.Program) map[string]precompiledseccomp.Program {
	m := make(map[string]precompiledseccomp.Program, len(programs))
	for _, p := range programs {
		m[p.Name] = p
	}
	return m
}

// Selfcheck says whether the program was built right: with a version stamp,
// without which a snapshot of another gVisor would be accepted, and with the
// filters its options ask for.
func selfcheck() error {
	if stampedVersion() == "" {
		return errors.New("built without a version stamp; use gvisor/build.sh")
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
