package worker

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/flag"
	"gvisor.dev/gvisor/runsc/gvisorbinaries"
	"gvisor.dev/gvisor/runsc/specutils"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

const platformName = "systrap"

// options are gVisor's settings of one sandbox. Those not named here keep
// their defaults, which are the strict ones: no host sockets or pipes, only
// emulated devices.
func options(c *protocol.Create) (*config.Config, error) {
	flags := flag.NewFlagSet("sandbox", flag.ContinueOnError)
	config.RegisterFlags(flags)
	settings := map[string]string{
		"root":                     c.Root,
		"platform":                 platformName,
		"network":                  "sandbox",
		"gofer-network-namespace":  c.NetNS,
		"overlay2":                 "none", // the root is a disk of its own
		"directfs":                 "true",
		"dcache":                   strconv.Itoa(cachedNames()),
		"host-settings":            "ignore", // never change the host's sysctls
		"sidecar-usage-policy":     "STRICT",
		"ignore-cgroups":           "true",
		"allow-suid":               "true", // sudo inside the guest
		"net-raw":                  "true", // ping inside the guest
		"control-rpc-stop-timeout": "0s",   // end at once when the guest ends
		"watchdog-action":          "log",
	}
	if c.CgroupPath != "" {
		settings["ignore-cgroups"] = "false"
	}
	if c.DebugDir != "" {
		settings["debug"] = "true"
		settings["debug-log"] = c.DebugDir + "/"
		settings["panic-log"] = c.DebugDir + "/"
	}
	for name, value := range settings {
		if err := flags.Set(name, value); err != nil {
			return nil, fmt.Errorf("set gVisor option %s: %w", name, err)
		}
	}
	conf, err := config.NewFromFlags(flags)
	if err != nil {
		return nil, fmt.Errorf("check gVisor options: %w", err)
	}
	gvisorbinaries.UsagePolicy = conf.SidecarUsagePolicy
	return conf, nil
}

// useBinaries tells gVisor's library which programs to start: atoll-prewarm
// first, which then executes this binary.
func useBinaries(binDir string) {
	gvisorbinaries.GvisorSentry.Name = "atoll-sandbox"
	gvisorbinaries.GvisorSentryPrewarmer.Name = "atoll-prewarm"
	specutils.ExePath = binDir + "/atoll-prewarm"
}

// cachedNames is how many files nothing has open whose names and attributes a
// guest's kernel keeps. Each is a file of the host that it has open; where it
// may open no more it drops none, the guest's next open fails. So they get a part of
// what the host allows. With gVisor's own 1000, git status of 4000 files takes 85 ms
// each time, and 30 with these. They are not more because each costs 7 or 8 KiB of
// what a machine may use beyond its memory, 23 MiB in all, and because all are
// dropped when memory is written to disk, which takes 30 ms longer then.
func cachedNames() int {
	const least, most = 1000, 4096
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return least
	}
	return int(max(least, min(most, files.Cur/4)))
}
