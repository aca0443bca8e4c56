package worker

import (
	"runtime/debug"
	"time"

	"gvisor.dev/gvisor/runsc/cli"
	"gvisor.dev/gvisor/runsc/cmd"
	"gvisor.dev/gvisor/runsc/cmd/util"
	goferconfig "gvisor.dev/gvisor/runsc/fsgofer/filter/config"
)

func goferMain() {
	debug.SetGCPercent(400)
	time.AfterFunc(settleAfter, debug.FreeOSMemory)
	useGoferPrograms()
	cli.Run(nil, map[util.SubCommand]string{&cmd.Gofer{}: ""}, nil)
}

// goferFilterKey names the filter that a gofer with our options installs.
func goferFilterKey() string {
	return goferconfig.Options{DirectFS: true, LisafsNeeded: true}.ConfigKey()
}
