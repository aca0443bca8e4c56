package gvisor

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// A guest that rests has its threads on one processor; one that works without a
// pause may use all that there are.
func TestThreadsStayTogetherUntilThereIsWork(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("there is one processor")
	}
	h := newHarness(t)
	h.must(h.Boot(t.Context(), h.spec("rests", "sleep")))
	h.must(h.Boot(t.Context(), h.spec("works", "spin")))
	everywhere := field("/proc/self/status", "Cpus_allowed_list")
	together := func(on []string) bool { return len(on) == 1 && !strings.ContainsAny(on[0], ",-") }
	spread := func(on []string) bool { return len(on) == 1 && on[0] == everywhere }
	for _, g := range h.List(t.Context()) {
		want := together
		if g.ID == "works" {
			want = spread
		}
		var on []string
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if on = allowed(t, fmt.Sprint(g.PID)); want(on) {
				break
			}
			if time.Now().After(end) {
				t.Errorf("the threads of the guest that %s may run on %v", g.ID, on)
				break
			}
		}
	}
}

// allowed lists the sets of processors on which the threads of a process and of its
// children may run. The guest's own processes are children of its kernel's.
func allowed(t *testing.T, pid string) (sets []string) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range append(processes, "/proc/"+pid) {
		if field(process+"/status", "PPid") != pid && process != "/proc/"+pid {
			continue
		}
		tasks, err := filepath.Glob(process + "/task/*/status")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			if set := field(task, "Cpus_allowed_list"); set != "" && !slices.Contains(sets, set) {
				sets = append(sets, set)
			}
		}
	}
	return sets
}

// field reads one field of a status file; it is empty where the process has ended.
func field(path, name string) string {
	b, _ := os.ReadFile(path)
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
