package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/machine"
)

// flushes is how often the disk below the engine's pool was told to put on
// stable storage what it was given.
func flushes(t *testing.T, e *engine) int {
	t.Helper()
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range loops {
		if b, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(b)) != filepath.Join(engineDir(), "disks", "pool.btrfs") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(path)), "stat"))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(b))
		n, err := strconv.Atoi(fields[15])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Fatal("the pool is not in a file of its own")
	return 0
}

// TestAFsyncInTheGuestReachesTheDisk counts what arrives below the file system.
func TestAFsyncInTheGuestReachesTheDisk(t *testing.T) {
	e := useEngine(t, nil)
	m := e.create(t, sprite("one"))
	e.must(t, m.ID, "echo warm > /root/f; sync")
	const times = 50
	for what, script := range map[string]string{
		"fsync":     "dd if=/dev/zero of=/root/$i bs=4k count=1 conv=fsync",
		"fdatasync": "dd if=/dev/zero of=/root/$i bs=4k count=1 conv=fdatasync",
		"O_SYNC":    "dd if=/dev/zero of=/root/$i bs=4k count=1 oflag=sync",
	} {
		before := flushes(t, e)
		e.must(t, m.ID, fmt.Sprintf("for i in {1..%d}; do %s status=none; done", times, script))
		if got := flushes(t, e) - before; got < times {
			t.Errorf("%d times %s: the disk was flushed %d times", times, what, got)
		}
	}
}

// TestADiskThatIsFull takes checkpoints and restores where the pool has no room:
// they succeed or fail with a sentence, and nothing is lost either way.
func TestADiskThatIsFull(t *testing.T) {
	e := useEngine(t, nil)
	m := e.create(t, sprite("one"))
	e.must(t, m.ID, "echo 1 > /root/f; head -c 1M /dev/urandom > /root/g; sync")
	e.checkpoint(t, m.ID, machine.CheckpointSpec{})
	e.must(t, m.ID, "echo 2 > /root/f; sync")
	fill := filepath.Join(engineDir(), "disks", "pool", "fill")
	t.Cleanup(func() { os.RemoveAll(fill) })
	if err := fillDisk(fill); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for i := range 40 {
		var err error
		if i%8 == 7 {
			_, err = e.RestoreCheckpoint(t.Context(), m.ID, "v1")
		} else {
			_, err = e.CreateCheckpoint(t.Context(), m.ID, machine.CheckpointSpec{Memory: i%4 == 1})
		}
		if err == nil {
			continue
		}
		failed++
		if !errors.Is(err, machine.ErrUnavailable) || !strings.Contains(err.Error(), "full") {
			t.Errorf("%d: %v", i, err)
		}
		if failed == 1 {
			t.Logf("%d: %v", i, err)
		}
	}
	if failed == 0 {
		t.Error("there was room for everything")
	}
	if err := os.RemoveAll(fill); err != nil {
		t.Fatal(err)
	}
	text := e.must(t, m.ID, "cat /root/f")
	all := e.ids(t, m.ID)
	e.reopen(t, nil, false)
	if again := e.ids(t, m.ID); !slices.Equal(again, all) {
		t.Errorf("the next server knows %v, this one knew %v", again, all)
	}
	if got := e.must(t, m.ID, "cat /root/f"); got != text || got != "1" && got != "2" {
		t.Errorf("it has %q, had %q", got, text)
	}
	e.restore(t, m.ID, all[len(all)-1])
	e.must(t, m.ID, "test $(wc -c < /root/g) = 1048576")
	e.restore(t, m.ID, "v1")
	if got := e.must(t, m.ID, "cat /root/f"); got != "1" {
		t.Errorf("the first checkpoint has %q", got)
	}
}

// fillDisk leaves no room on a file system, neither for content nor for names.
func fillDisk(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "content"))
	if err != nil {
		return err
	}
	defer f.Close()
	end := int64(0)
	for step := int64(256 << 20); step >= 4<<10; {
		if err := unix.Fallocate(int(f.Fd()), 0, end, step); errors.Is(err, unix.ENOSPC) {
			step /= 2
		} else if err != nil {
			return err
		} else {
			end += step
		}
	}
	small := make([]byte, 1500)
	for i := range 2_000_000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("name-", i)), small, 0o600); errors.Is(err, unix.ENOSPC) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return errors.New("there is still room")
}
