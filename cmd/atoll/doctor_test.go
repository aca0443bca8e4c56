package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atoll-cloud/atoll/client/doortest"
)

// fakeHost is a host of the given files below its root.
func fakeHost(t *testing.T, files map[string]string) *host {
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &host{proc: filepath.Join(root, "proc"), sys: filepath.Join(root, "sys"), etc: filepath.Join(root, "etc"), release: "6.1.0-18-amd64", maxFiles: 1 << 20}
}

func TestDoctorJudgesHosts(t *testing.T) {
	const allCaps = "CapEff:\t000001ffffffffff\n"
	for name, tc := range map[string]struct {
		files   map[string]string
		change  func(*host)
		check   func(*host) check
		verdict string
		mend    string
	}{
		"root":               {change: func(h *host) {}, check: (*host).root, verdict: verdictOK},
		"not root":           {change: func(h *host) { h.euid = 1000 }, check: (*host).root, verdict: verdictFail, mend: "sudo"},
		"privileged":         {files: map[string]string{"proc/self/status": allCaps}, check: (*host).capabilities, verdict: verdictOK},
		"plain container":    {files: map[string]string{"proc/self/status": "CapEff:\t00000000a80425fb\n"}, check: (*host).capabilities, verdict: verdictFail, mend: "--privileged"},
		"old kernel":         {change: func(h *host) { h.release = "3.10.0-1160.el7" }, check: (*host).kernel, verdict: verdictFail, mend: "5.10"},
		"elderly kernel":     {change: func(h *host) { h.release = "5.4.0-100" }, check: (*host).kernel, verdict: verdictWarn, mend: "5.10"},
		"new kernel":         {check: (*host).kernel, verdict: verdictOK},
		"no tracing":         {files: map[string]string{"proc/sys/kernel/yama/ptrace_scope": "3\n"}, check: (*host).systrap, verdict: verdictFail, mend: "ptrace_scope=1"},
		"few files":          {change: func(h *host) { h.maxFiles = 1024 }, check: (*host).limits, verdict: verdictWarn, mend: "ulimit -n"},
		"usual tracing":      {files: map[string]string{"proc/sys/kernel/yama/ptrace_scope": "1\n"}, check: (*host).systrap, verdict: verdictOK},
		"no seccomp":         {check: (*host).seccomp, verdict: verdictFail, mend: "SECCOMP"},
		"cgroup v2":          {files: map[string]string{"sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n"}, check: (*host).cgroups, verdict: verdictOK},
		"cgroup v2, no pids": {files: map[string]string{"sys/fs/cgroup/cgroup.controllers": "cpu memory\n"}, check: (*host).cgroups, verdict: verdictFail, mend: "cgroup_disable"},
		"cgroup v1":          {files: map[string]string{"sys/fs/cgroup/cpu/cgroup.procs": "", "sys/fs/cgroup/memory/cgroup.procs": "", "sys/fs/cgroup/pids/cgroup.procs": ""}, check: (*host).cgroups, verdict: verdictOK},
		"no cgroups":         {check: (*host).cgroups, verdict: verdictFail, mend: "mount"},
		"little memory":      {files: map[string]string{"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 100000 kB\n"}, check: (*host).memory, verdict: verdictFail, mend: "memory"},
		"much memory":        {files: map[string]string{"proc/meminfo": "MemAvailable: 24000000 kB\n"}, check: (*host).memory, verdict: verdictOK},
		"no user namespaces": {files: map[string]string{"proc/sys/user/max_user_namespaces": "0\n"}, check: (*host).limits, verdict: verdictFail, mend: "sysctl -w user.max_user_namespaces=4096"},
		"few net namespaces": {files: map[string]string{"proc/sys/user/max_net_namespaces": "50\n"}, check: (*host).limits, verdict: verdictWarn, mend: "sysctl -w user.max_net_namespaces=4096"},
	} {
		h := fakeHost(t, tc.files)
		if tc.change != nil {
			tc.change(h)
		}
		got := tc.check(h)
		if got.Verdict != tc.verdict || !strings.Contains(got.Mend, tc.mend) || (got.Verdict == verdictOK) != (got.Mend == "") {
			t.Errorf("%s: %+v; want %s, mend with %q", name, got, tc.verdict, tc.mend)
		}
	}
}

func TestDoctorNamesTheCommandThatInstalls(t *testing.T) {
	for release, want := range map[string]string{
		"ID=debian\n": "apt-get install -y btrfs-progs",
		"ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n": "apt-get install -y btrfs-progs",
		"ID=\"fedora\"\n": "dnf install -y btrfs-progs",
		"ID=opensuse-leap\nID_LIKE=\"suse opensuse\"\n": "zypper install -y btrfsprogs",
		"ID=unknown\n": "install btrfs-progs with this system's package manager",
		"":             "install btrfs-progs with this system's package manager",
	} {
		h := fakeHost(t, map[string]string{"etc/os-release": release})
		if got := h.mend("install the package btrfs-progs"); got != want {
			t.Errorf("%q: %q, want %q", release, got, want)
		}
		if got := h.mend("run as root"); got != "run as root" {
			t.Errorf("other advice became %q", got)
		}
	}
}

func TestDoctorTellsOurServerFromAnother(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := &app{env: func(string) string { return "" }, data: t.TempDir()}
	if got := a.port(t.Context(), l.Addr().String()); got.Verdict != verdictFail || !strings.Contains(got.Mend, "ss -ltnp") {
		t.Errorf("another's port: %+v", got)
	}
	d := doortest.New(t, "")
	if err := writeCredentials(a.data, credentials{APIURL: d.URL, APIKey: "e2b_1"}); err != nil {
		t.Fatal(err)
	}
	if got := a.port(t.Context(), strings.TrimPrefix(d.URL, "http://")); got.Verdict != verdictOK {
		t.Errorf("our port: %+v", got)
	}
}

// On the host that the tests run on Atoll can run, and doctor says so without
// leaving anything behind.
func TestDoctorPassesHereAndLeavesNothingBehind(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, as Atoll does")
	}
	a := &app{env: func(string) string { return "" }, data: t.TempDir()}
	for _, c := range a.examine(t.Context(), "127.0.0.1:0") {
		if c.Verdict == verdictFail {
			t.Errorf("%+v", c)
		}
	}
	if left, err := os.ReadDir(a.data); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
