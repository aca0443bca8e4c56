package test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

// outsideFlags make a server ask the world outside for names.
var outsideFlags = []string{"--dns", nameServer + ":53"}

// knock is a program that tries to open each of its arguments (address:port) and
// prints those that open.
const knock = `
import socket, sys, threading
def one(target):
    host, port = target.rsplit(':', 1)
    try:
        socket.create_connection((host.strip('[]'), int(port)), 4).close()
        print(target, flush=True)
    except OSError:
        pass
threads = [threading.Thread(target=one, args=(t,)) for t in sys.argv[1:]]
[t.start() for t in threads]
[t.join() for t in threads]
`

// opens returns which of the targets a sandbox can connect to.
func (b sandbox) opens(targets ...string) []string {
	b.s.t.Helper()
	return strings.Fields(b.must("python3 -c " + quote(knock) + " " + strings.Join(targets, " ")))
}

func TestInternetIsReachedThroughNAT(t *testing.T) {
	w := newOutside(t)
	s := up(t, outsideFlags...)
	b := s.create(5 * time.Minute)
	fetch := `python3 -c "import urllib.request; print(urllib.request.urlopen('http://%s/', timeout=20).read().decode())"`
	want := "outside sees " + outsideHere
	if got := b.must(fmt.Sprintf(fetch, publicHost)); got != want {
		t.Errorf("by address: %q, want %q", got, want)
	}
	if got := b.must(fmt.Sprintf(fetch, publicName)); got != want {
		t.Errorf("by name: %q, want %q", got, want)
	}
	if _, err := b.sh("getent hosts no-such-name.example"); err == nil {
		t.Error("a name that is not has an address")
	}
	b.must(send(publicHost, "to the public host"))
	until(t, "a datagram to arrive", func() bool { return w.got("to the public host") })

	closed := s.createWith(client.NewSandbox{TemplateID: "base", AllowInternetAccess: new(bool)}, 5*time.Minute)
	if open := closed.opens(publicHost + ":80"); len(open) > 0 {
		t.Errorf("a sandbox without internet reaches %v", open)
	}
	closed.must("echo still answers")
}

func TestClosedRangesCannotBeReached(t *testing.T) {
	w := newOutside(t)
	s := up(t, outsideFlags...)
	a, other := s.create(5*time.Minute), s.create(5*time.Minute)
	other.start("cd /etc && python3 -m http.server 8000")
	until(t, "the other sandbox's server", func() bool { code, _, _ := other.get(8000, "/hostname"); return code == 200 })

	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, hostPort, _ := net.SplitHostPort(listener.Addr().String())
	_, serverPort, _ := net.SplitHostPort(s.Listen)

	var targets []string
	for _, f := range forbidden {
		fromHost(t, f)
		targets = append(targets, f+":80")
	}
	for _, h := range hostAddresses(t) {
		targets = append(targets, net.JoinHostPort(h, hostPort), net.JoinHostPort(h, serverPort))
	}
	targets = append(targets, other.address()+":8000", other.address()+":49983", outsideNext+":80")
	if open := a.opens(append(targets, publicHost+":80")...); !slices.Equal(open, []string{publicHost + ":80"}) {
		t.Errorf("open are %v, want only %s", open, publicHost)
	}

	for _, to := range append(slices.Clone(forbidden), "255.255.255.255", "224.0.0.251", other.address()) {
		_, _ = a.sh(send(to, "to "+to)) // may fail at once, which is as good
	}
	a.must(send(publicHost, "the last"))
	until(t, "the last datagram", func() bool { return w.got("the last") })
	for _, f := range forbidden {
		if w.got("to " + f) {
			t.Errorf("a datagram reached %s", f)
		}
	}
}

// send is a command that sends one datagram.
func send(to, message string) string {
	return fmt.Sprintf(`python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.sendto(b'%s', ('%s', %d))"`, message, to, udpPort)
}

// address is the sandbox's own, as it sees it.
func (b sandbox) address() string {
	b.s.t.Helper()
	return b.must(`python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(('` + publicHost + `', 1))
print(s.getsockname()[0])"`)
}

// hostAddresses are those of the host, of all its links and of both families.
func hostAddresses(t *testing.T) []string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() {
			seen[n.IP.String()] = true
		}
	}
	var out []string
	for a := range seen {
		out = append(out, a)
	}
	return out
}

func TestOnlyOnePortIsOpenOnTheHost(t *testing.T) {
	before := listening(t)
	s := up(t)
	b := s.create(time.Minute)
	b.start("python3 -m http.server 8000")
	until(t, "a server inside", func() bool { code, _, _ := b.get(8000, "/"); return code == 200 })
	var more []string
	for socket, n := range listening(t) {
		if n > before[socket] {
			more = append(more, socket)
		}
	}
	_, port, _ := net.SplitHostPort(s.Listen)
	if len(more) != 1 || !strings.HasSuffix(more[0], ":"+port) || !strings.HasPrefix(more[0], "tcp ") {
		t.Errorf("the server opened %v, want only %s", more, s.Listen)
	}
}

// listening counts the sockets of the host's namespace that wait for others.
func listening(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	for proto, state := range map[string]string{"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"} {
		// The process's first thread, for which /proc/net stands, may be where
		// newOutside left it.
		f, err := os.Open("/proc/thread-self/net/" + proto)
		if err != nil {
			continue // a kernel without that family
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 4 || fields[3] != state {
				continue
			}
			host, port, _ := strings.Cut(fields[1], ":")
			var n int
			fmt.Sscanf(port, "%X", &n)
			out[fmt.Sprintf("%s %s:%d", strings.TrimSuffix(proto, "6"), host, n)]++
		}
		f.Close()
	}
	return out
}

func TestHostIsOutOfSight(t *testing.T) {
	s := up(t)
	a, b := s.create(5*time.Minute), s.create(5*time.Minute)
	mark := fmt.Sprintf("mark-of-the-host-%d", os.Getpid())
	file := filepath.Join(t.TempDir(), mark)
	if err := os.WriteFile(file, []byte(mark), 0o644); err != nil {
		t.Fatal(err)
	}
	b.must("echo other > /root/secret-of-b; echo x > /tmp/" + mark + "-b")
	for what, script := range map[string]string{
		"a file of the host":            "test -e " + quote(file),
		"the server's data":             "test -e " + quote(dataDir),
		"files of the other sandbox":    "find / -xdev -name 'secret-of-b' -o -xdev -name '" + mark + "*' 2>/dev/null | grep -q .",
		"processes of the host":         "cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q 'atoll u[p]'",
		"the host's kernel":             "test \"$(cat /proc/version)\" = " + quote(hostVersion(t)),
		"disks of the host":             "ls /dev | grep -Eq '^(sd|vd|nvme|loop|mem|kmem|kmsg)'",
		"memory of the host":            "head -c 1 /proc/kcore",
		"a mount of a device":           "mknod /tmp/d b 7 0 && mount /tmp/d /mnt",
		"modules":                       "modprobe loop || insmod /dev/null",
		"another root by two steps":     "mkdir -p /tmp/r && unshare -m chroot /proc/1/root test -e " + quote(file),
		"the host's cgroups by release": "mkdir -p /tmp/c && mount -t cgroup -o memory c /tmp/c && echo /bin/sh > /tmp/c/release_agent",
	} {
		if out, err := a.sh(script); err == nil {
			t.Errorf("%s: within reach: %s", what, out)
		}
	}
	environ := a.must("cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'")
	for name, secret := range map[string]string{"API key": s.APIKey, "admin token": s.AdminToken, "other sandbox's token": b.EnvdAccessToken} {
		if secret != "" && strings.Contains(environ, secret) {
			t.Errorf("the %s is in an environment inside", name)
		}
	}
	if strings.Contains(environ, a.EnvdAccessToken) {
		t.Error("the sandbox's own token is in an environment inside")
	}
}

func hostVersion(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/version")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
