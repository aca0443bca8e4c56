package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/client"
)

// instance is the name that everything in the kernel carries that servers on
// the shared data make.
func instance(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dataDir, "instance.json"))
	if err != nil {
		t.Fatal(err)
	}
	var i struct{ Name string }
	if err := json.Unmarshal(b, &i); err != nil || i.Name == "" {
		t.Fatalf("the instance is %s: %v", b, err)
	}
	return i.Name
}

// killGuest ends all processes of a sandbox from outside, as the host's kernel
// does when it needs memory. It reports how many there were.
func killGuest(t testing.TB, id string) (n int) {
	t.Helper()
	for _, group := range cgroups(t) {
		if !strings.Contains(group, id) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
		if err != nil {
			continue // it has just ended
		}
		for _, field := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(field); err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
				n++
			}
		}
	}
	return n
}

// cutPower leaves of the server and its sandboxes what a host has after its
// power failed: the disk.
func cutPower(t *testing.T, s *server) {
	t.Helper()
	name := instance(t)
	s.Kill()
	until(t, "all processes to end", func() bool { return killGuest(t, "atoll-"+name) == 0 })
	run := "/run/atoll-" + name
	places := mounts(t)
	slices.Reverse(places) // the inner ones first
	for _, place := range places {
		if strings.HasPrefix(place, run+"/") || strings.HasPrefix(place, dataDir+"/") {
			if err := unix.Unmount(place, 0); err != nil {
				t.Fatalf("unmount %s: %v", place, err)
			}
		}
	}
	if err := os.RemoveAll(run); err != nil {
		t.Fatal(err)
	}
	groups := cgroups(t)
	slices.Reverse(groups)
	for _, group := range groups {
		if strings.Contains(group, "/atoll-"+name) {
			_ = unix.Rmdir(group) // files in the list are no folders
		}
	}
	all, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if strings.HasPrefix(l.Attrs().Name, name) {
			_ = netlink.LinkDel(l) // its peer may have taken it along
		}
	}
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := c.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if strings.Contains(table.Name, name) {
			c.DelTable(table)
		}
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestSleepersOutliveTheHost takes everything from a server and its sandboxes
// but the disk: those that were paused, and snapshots, are all there afterwards.
func TestSleepersOutliveTheHost(t *testing.T) {
	s := up(t)
	t.Cleanup(s.clearSnapshots)
	running, paused, fresh := s.newRecorder(), s.newRecorder(), s.newRecorder()
	snapshot, err := s.Client.Snapshot(t.Context(), paused.SandboxID, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*recorder{running, paused, fresh} {
		if err := r.verify(); err != nil {
			t.Fatal(err)
		}
	}
	paused.pause()
	s.end(syscall.SIGTERM) // which gives its memory back
	s.start()
	fresh.pause() // its memory is still there as well
	cutPower(t, s)
	s.start()
	for _, r := range []*recorder{paused, fresh} {
		r.resume()
		if err := r.verify(); err != nil {
			t.Error(err)
		}
	}
	if err := (&recorder{sandbox: s.createOf(snapshot.SnapshotID)}).verify(); err != nil {
		t.Errorf("of the snapshot: %v", err)
	}
	until(t, "the one that ran to be gone", func() bool {
		_, err := s.Client.Get(t.Context(), running.SandboxID)
		return client.IsNotFound(err)
	})
}

// TestAPausedSandboxNeedsNoProcess kills the guest of a paused sandbox whose
// memory lingers: it wakes from the disk.
func TestAPausedSandboxNeedsNoProcess(t *testing.T) {
	s := up(t, "--linger", "10m")
	r := s.newRecorder()
	for range 2 {
		if err := r.look(); err != nil {
			t.Fatal(err)
		}
		r.pause()
		if killGuest(t, r.SandboxID) == 0 {
			t.Fatal("it does not linger")
		}
		until(t, "its processes to end", func() bool { return killGuest(t, r.SandboxID) == 0 })
		if now := r.now(); now.State != client.StatePaused {
			t.Errorf("without its processes it is %s", now.State)
		}
		r.resume()
		if err := r.verify(); err != nil {
			t.Fatal(err)
		}
	}
	running := s.create(time.Hour)
	if killGuest(t, running.SandboxID) == 0 {
		t.Fatal("it has no processes")
	}
	until(t, "one that ran to be gone", func() bool {
		_, err := s.Client.Get(t.Context(), running.SandboxID)
		return client.IsNotFound(err)
	})
}
