package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// host is this machine as the checks see it; tests give it other roots.
type host struct {
	proc, sys, etc string // usually /proc, /sys and /etc
	euid           int
	release        string // of the kernel
	maxFiles       uint64 // most open files that a process may ask for
}

func thisHost() *host {
	var u unix.Utsname
	release := ""
	if unix.Uname(&u) == nil {
		release = unix.ByteSliceToString(u.Release[:])
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		files.Max = 0
	}
	return &host{proc: "/proc", sys: "/sys", etc: "/etc", euid: os.Geteuid(), release: release, maxFiles: files.Max}
}

// text is a file's content without the white space around it; empty where
// there is none to read.
func text(elem ...string) string {
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// mend makes a command for this distribution of "install the package NAME";
// other advice stays as it is.
func (h *host) mend(advice string) string {
	debian, ok := strings.CutPrefix(advice, "install the package ")
	if !ok {
		return advice
	}
	release := map[string]string{}
	for l := range strings.Lines(text(h.etc, "os-release")) {
		k, v, _ := strings.Cut(strings.TrimSpace(l), "=")
		release[k] = strings.Trim(v, `"'`)
	}
	for _, id := range strings.Fields(release["ID"] + " " + release["ID_LIKE"]) {
		switch id {
		case "debian", "ubuntu":
			return "apt-get install -y " + debian
		case "fedora", "rhel", "centos":
			return "dnf install -y " + debian
		case "arch":
			return "pacman -S --noconfirm " + debian
		case "alpine":
			return "apk add " + debian
		case "suse", "opensuse":
			return "zypper install -y " + strings.Replace(debian, "btrfs-progs", "btrfsprogs", 1)
		}
	}
	return "install " + debian + " with this system's package manager"
}

func (h *host) root() check {
	if h.euid == 0 {
		return okay("root", "running as root")
	}
	return fail("root", fmt.Sprintf("running as user %d; mounts, network and cgroups need root", h.euid), "sudo atoll up")
}

// capabilities tells a container without privileges from a host.
func (h *host) capabilities() check {
	const name = "capabilities"
	var have uint64
	for l := range strings.Lines(text(h.proc, "self", "status")) {
		if v, ok := strings.CutPrefix(l, "CapEff:"); ok {
			have, _ = strconv.ParseUint(strings.TrimSpace(v), 16, 64)
		}
	}
	var missing []string
	for bit, what := range map[int]string{
		unix.CAP_SYS_ADMIN: "SYS_ADMIN", unix.CAP_SYS_PTRACE: "SYS_PTRACE", unix.CAP_MKNOD: "MKNOD",
	} {
		if have&(1<<bit) == 0 {
			missing = append(missing, what)
		}
	}
	if len(missing) == 0 {
		return okay(name, "all that are needed")
	}
	if h.euid != 0 {
		return warn(name, "not known before this runs as root", "sudo atoll doctor")
	}
	return fail(name, "missing: "+strings.Join(missing, ", "), "run on the host itself, or in a container started with --privileged")
}

func (h *host) kernel() check {
	const name = "kernel"
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		return fail(name, runtime.GOARCH+" is not supported", "use a host with amd64 or arm64")
	}
	major, minor := kernelVersion(h.release)
	found := fmt.Sprintf("Linux %s on %s", h.release, runtime.GOARCH)
	switch v := major*1000 + minor; {
	case v < 4019:
		return fail(name, found, "install a kernel of 5.10 or later")
	case v < 5010:
		return warn(name, found, "a kernel of 5.10 or later is faster and better tested")
	}
	return okay(name, "%s", found)
}

// kernelVersion reads the first two numbers of a release such as 6.1.0-18-amd64.
func kernelVersion(release string) (major, minor int) {
	parts := strings.SplitN(release, ".", 3)
	if len(parts) < 2 {
		return 0, 0
	}
	major, _ = strconv.Atoi(parts[0])
	digits := strings.IndexFunc(parts[1], func(r rune) bool { return r < '0' || r > '9' })
	if digits >= 0 {
		parts[1] = parts[1][:digits]
	}
	minor, _ = strconv.Atoi(parts[1])
	return major, minor
}

// systrap checks what keeps gVisor's platform from tracing its own processes.
func (h *host) systrap() check {
	const name = "tracing"
	switch s := text(h.proc, "sys", "kernel", "yama", "ptrace_scope"); s {
	case "3":
		return fail(name, "kernel.yama.ptrace_scope is 3: no process may trace another",
			"set kernel.yama.ptrace_scope=1 in /etc/sysctl.d and reboot; 3 cannot be undone while running")
	case "":
		return okay(name, "not restricted")
	default:
		return okay(name, "kernel.yama.ptrace_scope is %s", s)
	}
}

func (h *host) seccomp() check {
	const name = "seccomp"
	actions := strings.Fields(text(h.proc, "sys", "kernel", "seccomp", "actions_avail"))
	for _, a := range actions {
		if a == "trap" {
			return okay(name, "filters can trap")
		}
	}
	return fail(name, "the kernel's seccomp filters cannot trap", "use a kernel with CONFIG_SECCOMP_FILTER")
}

func (h *host) cgroups() check {
	const name = "cgroups"
	need := []string{"cpu", "memory", "pids"}
	root := filepath.Join(h.sys, "fs", "cgroup")
	if controllers := text(root, "cgroup.controllers"); controllers != "" {
		if missing := without(need, strings.Fields(controllers)); len(missing) > 0 {
			return fail(name, "version 2 without "+strings.Join(missing, ", "),
				"boot without cgroup_disable=…, or in a container give it its own cgroup namespace")
		}
		return okay(name, "version 2 with cpu, memory, pids")
	}
	var have []string
	for _, c := range need {
		// cpu is often mounted together with cpuacct; the link says so.
		if _, err := os.Stat(filepath.Join(root, c, "cgroup.procs")); err == nil {
			have = append(have, c)
		}
	}
	if missing := without(need, have); len(missing) > 0 {
		return fail(name, "not mounted: "+strings.Join(missing, ", "), "mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1")
	}
	return okay(name, "version 1 with cpu, memory, pids")
}

// without is the words of a that are not in b.
func without(a, b []string) []string {
	var rest []string
	for _, w := range a {
		found := false
		for _, v := range b {
			found = found || v == w
		}
		if !found {
			rest = append(rest, w)
		}
	}
	return rest
}

// limits are those that many sandboxes run into.
func (h *host) limits() check {
	const name = "limits"
	if h.maxFiles < 65536 {
		return warn(name, fmt.Sprintf("at most %d open files", h.maxFiles), "ulimit -n 1048576 (or LimitNOFILE=1048576 in the systemd unit)")
	}
	for _, s := range []struct {
		path string
		low  int
	}{
		{"user/max_user_namespaces", 1}, {"user/max_net_namespaces", 500}, {"user/max_mnt_namespaces", 500}, {"user/max_pid_namespaces", 500},
		{"kernel/pid_max", 32768}, {"kernel/threads-max", 16000}, {"vm/max_map_count", 65530},
	} {
		n, err := strconv.Atoi(text(h.proc, "sys", s.path))
		if err != nil || n >= s.low {
			continue
		}
		key := strings.ReplaceAll(s.path, "/", ".")
		mend := fmt.Sprintf("sysctl -w %s=%d", key, max(s.low, 4096))
		if n == 0 {
			return fail(name, key+" is 0", mend)
		}
		return warn(name, fmt.Sprintf("%s is %d; it bounds how many sandboxes can run", key, n), mend)
	}
	return okay(name, "open files, namespaces, processes and maps are enough for hundreds of sandboxes")
}

// clock: time-outs, TLS and signed addresses all go by it.
func (h *host) clock() check {
	const name = "clock"
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err == nil && t.Status&unix.STA_UNSYNC != 0 {
		return warn(name, "not synchronised with any time server", "timedatectl set-ntp true")
	}
	return okay(name, "synchronised")
}
