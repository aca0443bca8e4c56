package gvisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// binDir has the helpers, agent the test's guest; both are built once.
var binDir, agent string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "atoll-gvisor-")
	if err != nil {
		panic(err)
	}
	binDir, agent = os.Getenv("ATOLL_BUNDLE"), filepath.Join(dir, "agent")
	if binDir == "" {
		binDir = filepath.Join(dir, "bin")
		run("./build.sh", binDir)
	}
	run("go", "build", "-o", agent, "./testdata/agent")
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func run(name string, args ...string) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%s: %v\n%s", name, err, out))
	}
}

// harness is a Runtime with a place for roots and logs.
type harness struct {
	*Runtime
	t   testing.TB
	cfg Config
	dir string
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	dir, err := os.MkdirTemp("", "atg-")
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, dir: dir, cfg: Config{
		Root: filepath.Join(dir, "s"), BinDir: binDir, CgroupParent: filepath.Base(dir), Workers: 3,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Debug: os.Getenv("ATOLL_DEBUG") != "",
	}}
	h.open()
	t.Cleanup(func() {
		if err := h.Purge(context.Background()); err != nil {
			t.Error(err)
		}
		if !t.Failed() {
			os.RemoveAll(dir)
		}
	})
	return h
}

func (h *harness) open() {
	h.t.Helper()
	r, err := Open(context.Background(), h.cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	h.Runtime = r
}

// spec is a guest with a root of its own that does what args say.
func (h *harness) spec(id string, args ...string) Spec {
	h.t.Helper()
	root := filepath.Join(h.dir, "root-"+id)
	for _, dir := range []string{"proc", "sys", "dev", "tmp", "mnt"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
	b, err := os.ReadFile(agent)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "agent"), b, 0o755); err != nil {
		h.t.Fatal(err)
	}
	return Spec{ID: id, Rootfs: root, Args: append([]string{"/agent"}, args...), Env: []string{"A=1"},
		Hostname: id, LogFile: filepath.Join(h.dir, id+".log"), MemoryBytes: 512 << 20, CPUs: 2}
}

// said waits until the guest has written a line with that beginning.
func (h *harness) said(id, prefix string) string {
	h.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		b, _ := os.ReadFile(filepath.Join(h.dir, id+".log"))
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, prefix) {
				return strings.TrimSpace(line)
			}
		}
	}
	b, _ := os.ReadFile(filepath.Join(h.dir, id+".log"))
	h.t.Fatalf("guest %s never said %q, but:\n%s", id, prefix, b[max(0, len(b)-2000):])
	return ""
}

func (h *harness) count(id string) int {
	b, _ := os.ReadFile(filepath.Join(h.dir, "root-"+id, "count"))
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// counts waits until the guest has counted further than n.
func (h *harness) counts(id string, n int) {
	h.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); h.count(id) <= n; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("guest %s stands at %d", id, h.count(id))
		}
	}
}

func (h *harness) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) checkpoint(ctx context.Context, id, dir string) {
	h.t.Helper()
	_, err := h.Checkpoint(ctx, id, dir)
	h.must(err)
}

func (h *harness) gone(id string) {
	h.t.Helper()
	select {
	case <-h.Exited(id):
	case <-time.After(20 * time.Second):
		h.t.Fatalf("guest %s did not end", id)
	}
}

func TestGuestSeesItsMachine(t *testing.T) {
	h := newHarness(t)
	s := h.spec("look", "look")
	s.CPUs = 1.5
	h.must(h.Boot(t.Context(), s))
	h.said("look", "done")
	h.gone("look")
	b, _ := os.ReadFile(s.LogFile)
	for _, want := range []string{"host look\n", "cpus 2\n", "env A=1,HOME=/\n", "MemTotal:         524288 kB\n",
		"device /dev/net/tun true\n", "uid 1000 effective 0\n"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("guest did not see %q but:\n%s", want, b)
		}
	}
	// It has ended by itself: known, and not alive, until destroyed.
	if l := h.List(t.Context()); len(l) != 1 || l[0].Alive {
		t.Errorf("List = %+v", l)
	}
}

func TestCheckpointAndRestoreTwice(t *testing.T) {
	h := newHarness(t)
	s := h.spec("a", "count")
	h.must(h.Boot(t.Context(), s))
	h.counts("a", 3)
	image := filepath.Join(h.dir, "image")
	if _, err := h.Checkpoint(t.Context(), "a", image); err == nil {
		t.Error("a running guest was checkpointed")
	}
	h.must(h.Pause(t.Context(), "a"))
	h.must(h.Pause(t.Context(), "a")) // does nothing
	h.checkpoint(t.Context(), "a", image)
	at := h.count("a")
	if _, err := h.Checkpoint(t.Context(), "a", image); err == nil {
		t.Error("a checkpoint was overwritten")
	}
	copies := []Spec{h.spec("b", "count"), h.spec("c", "count")}
	for _, c := range copies {
		b, err := os.ReadFile(filepath.Join(s.Rootfs, "count"))
		h.must(err)
		h.must(os.WriteFile(filepath.Join(c.Rootfs, "count"), b, 0o644))
	}
	if l := h.List(t.Context()); len(l) != 1 || !l[0].Alive || !l[0].Paused {
		t.Errorf("List = %+v", l)
	}
	if n := h.count("a"); n != at {
		t.Errorf("the paused guest went from %d to %d", at, n)
	}
	h.must(h.Resume(t.Context(), "a"))
	h.must(h.Resume(t.Context(), "a")) // does nothing
	h.counts("a", at)
	for _, c := range copies {
		h.must(h.Restore(t.Context(), c, image))
		h.counts(c.ID, at)
		if line := h.said(c.ID, "count"); line != fmt.Sprint("count ", at+1) && line != fmt.Sprint("count ", at) {
			t.Errorf("guest %s went on with %q after %d", c.ID, line, at)
		}
	}
	if _, err := os.Stat(filepath.Join(image, "checkpoint.img")); err != nil {
		t.Error(err)
	}
}

// A guest that is restored paused stands still, through a change of daemons,
// until it is resumed; then it goes on where the checkpoint was taken.
func TestRestorePaused(t *testing.T) {
	h := newHarness(t)
	s := h.spec("a", "spin")
	h.must(h.Boot(t.Context(), s))
	h.counts("a", 100)
	h.must(h.Pause(t.Context(), "a"))
	image := filepath.Join(h.dir, "image")
	h.checkpoint(t.Context(), "a", image)
	at := h.count("a")
	for _, id := range []string{"b", "c"} {
		c := h.spec(id, "spin")
		c.Paused = true
		h.must(os.WriteFile(filepath.Join(c.Rootfs, "count"), fmt.Append(nil, at), 0o644))
		h.must(h.Restore(t.Context(), c, image))
	}
	check := func() {
		t.Helper()
		infos := h.List(t.Context())
		if len(infos) != 3 || !infos[1].Paused || !infos[2].Paused || !infos[2].Alive {
			t.Errorf("List = %+v", infos)
		}
		for _, id := range []string{"b", "c"} {
			if n := h.count(id); n != at {
				t.Errorf("guest %s, which is paused, went from %d to %d", id, at, n)
			}
			if b, err := os.ReadFile(filepath.Join(h.dir, id+".log")); err != nil || len(b) != 0 {
				t.Errorf("guest %s, which is paused, said %q, %v", id, b, err)
			}
			if u, err := h.Usage(id); err != nil || u.Memory == 0 {
				t.Errorf("Usage = %+v, %v", u, err)
			}
		}
	}
	// Time in which the guest would have counted: as much as another one needs.
	h.must(h.Resume(t.Context(), "a"))
	h.counts("a", at+1000)
	check()
	h.must(h.Close())
	h.open()
	h.counts("a", h.count("a")+1000)
	check()
	h.must(h.Resume(t.Context(), "b"))
	h.counts("b", at)
	// One that was restored paused can be paused and checkpointed again.
	h.must(h.Pause(t.Context(), "b"))
	h.checkpoint(t.Context(), "b", image+"2")
	h.checkpoint(t.Context(), "c", image+"3")
	h.must(h.Resume(t.Context(), "b"))
	h.counts("b", h.count("b"))
	h.must(h.Destroy(t.Context(), "c"))
	h.nothingOf("c")
}

func TestDestroyLeavesNothing(t *testing.T) {
	h := newHarness(t)
	s := h.spec("a", "count")
	h.must(h.Boot(t.Context(), s))
	h.said("a", "ready")
	if err := h.Boot(t.Context(), s); !errors.Is(err, ErrExists) {
		t.Errorf("second of the same name: %v", err)
	}
	pids, err := h.cgroups.processes("a")
	if err != nil || len(pids) < 2 {
		t.Fatalf("processes in the cgroup: %v, %v", pids, err)
	}
	exited := h.Exited("a")
	h.must(h.Destroy(t.Context(), "a"))
	h.must(h.Destroy(t.Context(), "a"))
	<-exited
	for _, pid := range pids {
		if _, err := startTime(pid); err == nil {
			t.Errorf("process %d is still there", pid)
		}
	}
	h.nothingOf("a")
	if l := h.List(t.Context()); len(l) != 0 {
		t.Errorf("List = %+v", l)
	}
	if err := h.Pause(t.Context(), "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Pause after Destroy: %v", err)
	}
}

// nothingOf checks that there is no state, socket, cgroup or mount of a guest.
func (h *harness) nothingOf(id string) {
	h.t.Helper()
	_ = filepath.WalkDir(h.cfg.Root, func(path string, _ fs.DirEntry, _ error) error {
		if name := filepath.Base(path); name == id || strings.Contains(name, "-"+id+".") || strings.HasPrefix(name, id+"_") {
			h.t.Errorf("left behind: %s", path)
		}
		return nil
	})
	for _, dir := range h.cgroups.dirs {
		if _, err := os.Stat(filepath.Join(dir, id)); err == nil {
			h.t.Errorf("left behind: cgroup %s/%s", dir, id)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	h.must(err)
	if strings.Contains(string(mounts), "root-"+id) {
		h.t.Error("a mount was left behind")
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	h := newHarness(t)
	s := h.spec("a", "count")
	s.Args[0] = "/missing"
	if err := h.Boot(t.Context(), s); err == nil {
		t.Fatal("a guest without a program was started")
	} else {
		t.Log(err)
	}
	h.nothingOf("a")
	h.must(h.Boot(t.Context(), h.spec("a", "count")))
}

func TestReopenAdopts(t *testing.T) {
	h := newHarness(t)
	h.must(h.Boot(t.Context(), h.spec("runs", "count")))
	h.must(h.Boot(t.Context(), h.spec("paused", "count")))
	h.must(h.Boot(t.Context(), h.spec("dies", "count")))
	h.must(h.Pause(t.Context(), "paused"))
	dies := h.machines["dies"].info.PID
	h.must(h.Close())
	h.must(unix.Kill(dies, unix.SIGKILL))
	// What a daemon that was killed in the middle of a create leaves.
	h.must(os.Mkdir(h.stateDir("half"), 0o700))
	if _, err := h.cgroups.create("half", limits{}); err != nil {
		t.Fatal(err)
	}
	h.open()
	h.nothingOf("half")
	got := ""
	for _, i := range h.List(t.Context()) {
		got += fmt.Sprintf("%s %v %v, ", i.ID, i.Alive, i.Paused)
	}
	if want := "dies false false, paused true true, runs true false, "; got != want {
		t.Errorf("List = %s, want %s", got, want)
	}
	h.gone("dies")
	h.must(h.Destroy(t.Context(), "dies"))
	at := h.count("paused")
	h.must(h.Resume(t.Context(), "paused"))
	h.counts("paused", at)
	h.must(unix.Kill(h.machines["runs"].info.PID, unix.SIGKILL))
	h.gone("runs")
}

func TestImageKeyNeedsFeaturesAlone(t *testing.T) {
	cpu := func(mhz, flags string) string {
		return "processor\t: 0\nmodel\t\t: 17\ncpu MHz\t\t: " + mhz + "\nflags\t\t: " + flags + "\n\nprocessor\t: 1\nflags\t\t: x\n"
	}
	a, b, c := cpuFeatures([]byte(cpu("1", "fpu avx"))), cpuFeatures([]byte(cpu("2", "fpu avx"))), cpuFeatures([]byte(cpu("1", "fpu")))
	if string(a) != string(b) || string(a) == string(c) {
		t.Errorf("%q, %q, %q", a, b, c)
	}
	if h := newHarness(t); !strings.HasPrefix(h.ImageKey(), "v") {
		t.Errorf("ImageKey = %q", h.ImageKey())
	}
}

func TestOnlyOneRuntime(t *testing.T) {
	h := newHarness(t)
	if r, err := Open(t.Context(), h.cfg); err == nil {
		r.Close()
		t.Error("two took the same directory")
	}
}

func TestMemoryLimitKillsOneGuest(t *testing.T) {
	h := newHarness(t)
	h.must(h.Boot(t.Context(), h.spec("other", "count")))
	s := h.spec("a", "eat")
	s.MemoryBytes = 64 << 20
	h.must(h.Boot(t.Context(), s))
	h.gone("a")
	u, err := h.Usage("a")
	if err != nil || !u.OOMKilled || u.CPU == 0 {
		t.Errorf("Usage = %+v, %v", u, err)
	}
	h.counts("other", h.count("other"))
	if u, err := h.Usage("other"); err != nil || u.OOMKilled || u.Memory == 0 {
		t.Errorf("Usage of the other = %+v, %v", u, err)
	}
}

func TestForkBombWithoutLimitHurtsOneGuest(t *testing.T) {
	h := newHarness(t)
	h.must(h.Boot(t.Context(), h.spec("other", "count")))
	s := h.spec("a", "bomb", "unlimited")
	s.PIDs = 256
	h.must(h.Boot(t.Context(), s))
	h.said("a", "started 50")
	h.counts("other", h.count("other"))
	// What becomes of it is chance: its fork fails, or its kernel wants a
	// thread just then, and dies. The host keeps its word either way.
	h.must(h.Destroy(t.Context(), "a"))
	h.nothingOf("a")
}

func TestWorkersMayDie(t *testing.T) {
	h := newHarness(t)
	h.must(h.Boot(t.Context(), h.spec("a", "count")))
	workers := h.helpers[binDir]
	h.must(workers.control.cmd.Process.Kill())
	<-workers.control.gone
	for range h.cfg.Workers {
		w := <-workers.pool.idle
		h.must(w.cmd.Process.Kill())
		<-w.gone
		workers.pool.idle <- w
	}
	h.must(h.Pause(t.Context(), "a"))
	h.must(h.Boot(t.Context(), h.spec("b", "count")))
	h.counts("b", 1)
	pid := h.machines["b"].info.PID
	h.must(h.Destroy(t.Context(), "a")) // whose parent is gone
	h.must(h.Destroy(t.Context(), "b"))
	// Its parent, a worker, learns of its end and reaps it.
	for deadline := time.Now().Add(20 * time.Second); !errors.Is(unix.Kill(pid, 0), unix.ESRCH); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d was not reaped", pid)
		}
	}
}

func TestForkBombIsHeldInside(t *testing.T) {
	h := newHarness(t)
	h.must(h.Boot(t.Context(), h.spec("a", "bomb")))
	t.Log(h.said("a", "stopped by"))
	h.said("a", "survived")
	if l := h.List(t.Context()); len(l) != 1 || !l[0].Alive {
		t.Errorf("List = %+v", l)
	}
}
