package worker

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/cpuid"
	"gvisor.dev/gvisor/pkg/gomaxprocs"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/sentry/platform"
	_ "gvisor.dev/gvisor/pkg/sentry/platform/systrap"
	sentryconfig "gvisor.dev/gvisor/runsc/boot/filter/config"
	"gvisor.dev/gvisor/runsc/cli"
	"gvisor.dev/gvisor/runsc/cmd/sentry/sentrycmd"
	"gvisor.dev/gvisor/runsc/cmd/util"
	"gvisor.dev/gvisor/runsc/gvisorbinaries"
	"gvisor.dev/gvisor/runsc/specutils"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// prewarmFD is where atoll-prewarm leaves itself open, for the one helper the
// sentry starts when it has no view of the host's files any more.
const prewarmFD = 252

// extraProcs are Go scheduler slots on top of the guest's CPUs. A thread that
// waits in poll holds its slot until it is noticed; with two slots that
// stalled a restore by 10 ms.
const extraProcs = 4

// settleAfter is when a sentry gives back the memory that its start took, a
// third of what it holds. Not earlier: it costs CPU that a burst of starts needs.
const settleAfter = 3 * time.Second

func sentryMain() {
	// A sentry lives on little heap, so collecting less often costs about a
	// megabyte and saves a fifth of the CPU of a start; later, up to four for a
	// tenth of the CPU of a command.
	debug.SetGCPercent(400)
	time.AfterFunc(settleAfter, func() {
		debug.SetGCPercent(200)
		debug.FreeOSMemory()
	})
	// It is done once and slow (CPUID traps to a hypervisor), so it runs beside the
	// rest of the start.
	go cpuid.Initialize()
	// Of what it says nothing is kept unless it is to be debugged, which cli sees to.
	log.SetLevel(log.Warning)
	gomaxprocs.Add(extraProcs)
	useSentryPrograms()
	if _, err := unix.FcntlInt(prewarmFD, unix.F_SETFD, unix.FD_CLOEXEC); err == nil {
		specutils.ExePath = "/proc/self/fd/252"
	}
	os.Args = withLimits(os.Args)
	cli.Run(&gvisorbinaries.GvisorSentry, map[util.SubCommand]string{
		&sentrycmd.Boot{}:   "",
		&sentrycmd.Umount{}: "",
	}, nil)
}

// withLimits adds the guest's CPUs and memory to the arguments of "boot".
// gVisor takes them from cgroups that it manages itself, which ours are not.
func withLimits(args []string) []string {
	for _, a := range args {
		bundle, ok := strings.CutPrefix(a, "--bundle=")
		if !ok {
			continue
		}
		b, err := os.ReadFile(filepath.Join(bundle, protocol.LimitsFile))
		if err != nil {
			break
		}
		if f := strings.Fields(string(b)); len(f) == 2 {
			last := len(args) - 1 // the sandbox's name
			return append(args[:last:last], "--cpu-num="+f[0], "--total-memory="+f[1], args[last])
		}
	}
	return args
}

// sentryFilterKey names the filter that a sentry with our options installs.
func sentryFilterKey() string {
	p, err := platform.Lookup(platformName)
	if err != nil {
		return err.Error()
	}
	return sentryconfig.Options{Platform: p.PrecompiledSeccompInfo()[0], HostFilesystem: true}.ConfigKey()
}
