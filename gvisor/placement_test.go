package gvisor

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
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
	everywhere := allowed(t, "self")
	if len(everywhere) != 1 {
		t.Fatalf("threads of the test itself may run on %v", everywhere)
	}
	together := func(on []string) bool { return len(on) == 1 && !strings.ContainsAny(on[0], ",-") }
	spread := func(on []string) bool { return len(on) == 1 && on[0] == everywhere[0] }
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

// allowed lists the sets of processors on which a process's threads may run.
func allowed(t *testing.T, pid string) (sets []string) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/" + pid + "/task/*/status")
	if err != nil || len(tasks) == 0 {
		t.Fatalf("threads of process %s: %v", pid, err)
	}
	seen := make(map[string]bool)
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // it ended
		}
		for line := range strings.Lines(string(b)) {
			if set, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok && !seen[set] {
				seen[set] = true
				sets = append(sets, strings.TrimSpace(set))
			}
		}
	}
	return sets
}
