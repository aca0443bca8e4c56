package worker

import (
	"fmt"

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
