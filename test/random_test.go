package test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// drawn are sources of random values in a sandbox, as commands.
var drawn = map[string]string{
	"/dev/urandom":  "head -c 16 /dev/urandom | od -An -tx1",
	"/dev/random":   "head -c 16 /dev/random | od -An -tx1",
	"kernel's uuid": "cat /proc/sys/kernel/random/uuid",
	"machine id":    "cat /etc/machine-id",
	"host name":     "hostname",
	"python":        `python3 -c "import random, uuid; print(random.random(), uuid.uuid4())"`,
	"node":          `node -e "console.log(crypto.randomUUID(), Math.random())"`,
	"openssl":       "openssl rand -hex 8",
}

// TestCopiesDrawDifferentNumbers forks a sandbox in which a Python and a Node
// process have drawn random values already, and lets all of them draw again:
// no two may draw the same.
func TestCopiesDrawDifferentNumbers(t *testing.T) {
	s := up(t)
	b := s.create(time.Hour)
	b.run("draw.py", 8000)
	b.run("random.mjs", 8001)
	for round := range 2 {
		all := append(b.fork(3), b)
		seen := map[string]string{}
		note := func(b sandbox, what, value string) {
			if other := seen[what+value]; other != "" {
				t.Errorf("round %d: %s and %s draw the same %s: %s", round, other, b.SandboxID, what, value)
			}
			seen[what+value] = b.SandboxID
		}
		for _, one := range all {
			for port, who := range map[int]string{8000: "a running Python", 8001: "a running Node"} {
				for range 3 {
					for what, value := range one.draw(port) {
						note(one, who+"'s "+what, value)
					}
				}
			}
			for what, command := range drawn {
				note(one, what, one.must(command))
			}
			note(one, "address", one.address())
			note(one, "token", one.EnvdAccessToken)
		}
		for _, c := range all[:3] {
			c.kill()
		}
	}
}

// draw asks a process in the sandbox for random values.
func (b sandbox) draw(port int) map[string]string {
	b.s.t.Helper()
	code, body, err := b.get(port, "/")
	if err != nil || code != 200 {
		b.s.t.Fatalf("draw in %s: %d %s %v", b.SandboxID, code, body, err)
	}
	var values map[string]string
	if err := json.Unmarshal(body, &values); err != nil {
		b.s.t.Fatal(fmt.Errorf("read %q: %w", body, err))
	}
	return values
}

// TestSandboxesOfASnapshotDrawDifferentNumbers is the same for a snapshot.
func TestSandboxesOfASnapshotDrawDifferentNumbers(t *testing.T) {
	s := up(t)
	t.Cleanup(s.clearSnapshots)
	b := s.create(time.Hour)
	b.run("draw.py", 8000)
	b.run("random.mjs", 8001)
	snapshot, err := s.Client.Snapshot(t.Context(), b.SandboxID, "")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 2 {
		one := s.createOf(snapshot.SnapshotID)
		for _, port := range []int{8000, 8001} {
			for what, value := range one.draw(port) {
				if seen[what+value] {
					t.Errorf("two sandboxes of a snapshot draw the same %s: %s", what, value)
				}
				seen[what+value] = true
			}
		}
	}
}
