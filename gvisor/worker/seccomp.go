package worker

import (
	_ "unsafe" // for linkname

	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	sentryfilter "gvisor.dev/gvisor/runsc/boot/filter"
	goferfilter "gvisor.dev/gvisor/runsc/fsgofer/filter"
)

//go:generate sh -c "cd ../.. && go run -modfile $(go run ./gvisor/patch)/go.mod ./gvisor/worker/seccompgen gvisor/worker/seccomp_amd64.go"

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
