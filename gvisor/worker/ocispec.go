package worker

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// guestCapabilities are what root may do inside the guest. The kernel they
// apply to is the guest's own, so they are generous; none reaches the host.
var guestCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
	"CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_KILL", "CAP_LEASE", "CAP_MKNOD", "CAP_NET_ADMIN",
	"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP",
	"CAP_SETUID", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SYS_NICE", "CAP_SYS_PTRACE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG",
}

// startAnnotation tells our patched gVisor to leave a restored guest paused.
const startAnnotation = "dev.atoll.start"

// ociSpec describes the guest in the terms of the OCI runtime specification.
// A restore demands that it equals the one of the checkpoint, but for root
// path, host name, environment, annotations and namespaces.
func ociSpec(c *protocol.Create) *specs.Spec {
	nofile := uint64(1 << 20)
	spec := &specs.Spec{
		Version:  "1.2.0",
		Hostname: c.Hostname,
		Root:     &specs.Root{Path: c.Rootfs},
		Process: &specs.Process{
			Args: c.Args,
			Env:  c.Env,
			Cwd:  c.Cwd,
			Capabilities: &specs.LinuxCapabilities{
				Bounding: guestCapabilities, Effective: guestCapabilities, Permitted: guestCapabilities,
			},
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: nofile, Hard: nofile}},
		},
		Mounts: []specs.Mount{
			{Type: "proc", Source: "proc", Destination: "/proc"},
			{Type: "sysfs", Source: "sysfs", Destination: "/sys", Options: []string{"nosuid", "noexec", "nodev"}},
			{Type: "cgroup", Source: "cgroup", Destination: "/sys/fs/cgroup"},
			{Type: "tmpfs", Source: "tmpfs", Destination: "/dev/shm", Options: []string{"nosuid", "nodev", "mode=1777"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: c.CgroupPath,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.NetworkNamespace, Path: c.NetNS},
				{Type: specs.PIDNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.MountNamespace},
			},
		},
	}
	if c.Paused {
		spec.Annotations = map[string]string{startAnnotation: "paused"}
	}
	for _, m := range c.Mounts {
		spec.Mounts = append(spec.Mounts, specs.Mount{
			Type: "bind", Source: m.Source, Destination: m.Target, Options: []string{"bind", "ro", "nosuid", "nodev"},
		})
	}
	return spec
}

// writeSpec puts the description where gVisor reads it. It holds the guest's
// environment, so only root may read it.
func writeSpec(dir string, spec *specs.Spec) error {
	b, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encode sandbox description: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600); err != nil {
		return fmt.Errorf("write sandbox description: %w", err)
	}
	return nil
}
