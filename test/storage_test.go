package test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/client"
)

const mib = 1 << 20

// poolUsed is what the disk pool holds, in bytes.
func poolUsed(t testing.TB) int64 {
	t.Helper()
	unix.Sync()
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Join(dataDir, "disks", "pool"), &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// TestSleepTakesWhatDiffers shows what sleeping sandboxes take on the disk, and
// that ending them and removing snapshots gives it back.
func TestSleepTakesWhatDiffers(t *testing.T) {
	s := up(t, "--linger", "0", "--pool", "0", "--pool-max", "0")
	t.Cleanup(s.clearSnapshots)
	idle := s.create(time.Hour)
	idle.alive()
	busy := s.create(time.Hour)
	busy.must("head -c 100M /dev/urandom > /dev/shm/random; head -c 100M /dev/zero > /dev/shm/zeros; head -c 50M /dev/urandom > /root/file; sync")
	before := poolUsed(t)

	idle.pause()
	busy.pause()
	if got := idle.now().MemoryStoredBytes; got <= 0 || got > 60*mib {
		t.Errorf("the memory of an idle one takes %d MiB", got/mib)
	}
	if got := busy.now().MemoryStoredBytes; got < 100*mib || got > 170*mib {
		t.Errorf("100 MiB of random numbers and 100 of zeros take %d MiB", got/mib)
	}
	if got := busy.now().DiskUsedBytes; got < 50*mib || got > 100*mib {
		t.Errorf("a file of 50 MiB takes %d MiB", got/mib)
	}
	if more := poolUsed(t) - before; more > 300*mib {
		t.Errorf("the two take %d MiB", more/mib)
	}
	busy.resume()
	asleep := poolUsed(t)
	snapshot, err := s.Client.Snapshot(t.Context(), busy.SandboxID, "")
	if err != nil {
		t.Fatal(err)
	}
	children := append(busy.fork(2), s.createOf(snapshot.SnapshotID))
	for _, b := range children {
		b.pause()
	}
	for _, b := range append(children, busy, idle) {
		b.kill()
	}
	again := s.createOf(snapshot.SnapshotID)
	if got := again.must("wc -c < /dev/shm/random; wc -c < /root/file"); got != "104857600\n52428800" {
		t.Errorf("a sandbox of the snapshot has %q", got)
	}
	if err := s.Client.DeleteSnapshot(t.Context(), snapshot.SnapshotID); err != nil {
		t.Fatal(err)
	}
	again.must("sha256sum /root/file") // its parent's files live on in it
	again.pause()
	again.resume()
	again.alive()
	again.kill()
	if all, err := s.Client.List(t.Context(), client.ListFilter{}); err != nil || len(all) > 0 {
		t.Fatalf("%d are left, %v", len(all), err)
	}
	until(t, "the disk to be given back", func() bool { return poolUsed(t) < min(before, asleep)+20*mib })
}

// TestTmpIsOnTheDisk: what is in /tmp takes no memory, and sleeps with the disk.
func TestTmpIsOnTheDisk(t *testing.T) {
	s := up(t)
	b := s.create(time.Hour)
	b.must(`[ "$(stat -c %d /)" = "$(stat -c %d /tmp)" ] && [ "$(stat -c %a /tmp)" = 1777 ]`)
	more := (b.now().MemoryMB + 200) * mib
	b.must(fmt.Sprintf("head -c %d /dev/zero > /tmp/large", more))
	if got := strings.TrimSpace(b.must("stat -c %s /tmp/large")); got != fmt.Sprint(more) {
		t.Errorf("/tmp/large has %s bytes, want %d", got, more)
	}
}
