package disk

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// noise returns content that only its seed gives.
func noise(seed uint64, size int) []byte {
	b := make([]byte, size)
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	if _, err := source.Read(b); err != nil {
		panic(err)
	}
	return b
}

func unwritten(t testing.TB, path string) bool {
	t.Helper()
	f := must(os.Open(path))(t)
	defer f.Close()
	waiting := false
	err := fileExtents(f, 0, func(e fileExtent) { waiting = waiting || e.flags&extentDelalloc != 0 })
	if err != nil {
		t.Fatal(err)
	}
	return waiting
}

func TestFlushWaitsForItsTreesAlone(t *testing.T) {
	d := openTest(t, "btrfs")
	if !d.driver.(*btrfsDriver).flushes {
		t.Fatal("this kernel cannot flush one tree")
	}
	for _, name := range []string{"a", "b", "c"} {
		path := must(d.Create(t.Context(), name))(t).Path
		if err := os.Mkdir(path+"/dir", 0o755); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"/f", "/dir/f", "/dir/g"} {
			writeFile(t, path+file, string(noise(1, 300<<10)))
		}
	}
	if err := d.Seal(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"/f", "/dir/f", "/dir/g"} {
		got := fmt.Sprint(unwritten(t, d.Path("a")+file), unwritten(t, d.Path("b")+file), unwritten(t, d.Path("c")+file))
		if got != "false false true" {
			t.Errorf("%s waits to be written: %s", file, got)
		}
	}
	if trees := must(d.List(t.Context(), ""))(t); len(trees) != 3 {
		t.Errorf("trees are %+v", trees)
	}
	if err := d.FlushFiles(t.Context(), File{"c", "dir"}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(unwritten(t, d.Path("c")+"/f"), unwritten(t, d.Path("c")+"/dir/f"), unwritten(t, d.Path("c")+"/dir/g")); got != "true false false" {
		t.Errorf("of one directory and another file wait to be written: %s", got)
	}
}

// TestSyncReachesTheDevice: btrfs ends a commit with a flush of its device's
// cache, which the loop driver turns into an fsync of the pool file.
func TestSyncReachesTheDevice(t *testing.T) {
	d := openTest(t, "btrfs")
	path := must(d.Create(t.Context(), "a"))(t).Path
	loop := must(findLoop(d.pool.file))(t)
	defer loop.Close()
	sys := filepath.Join("/sys/block", filepath.Base(loop.Name()))
	if mode := strings.TrimSpace(readFile(t, sys+"/queue/write_cache")); mode != "write back" {
		t.Errorf("write cache of the loop device is %q, so it gets no flushes", mode)
	}
	flushes := func() int {
		fields := strings.Fields(readFile(t, sys+"/stat"))
		return must(strconv.Atoi(fields[15]))(t)
	}
	for i := range 3 {
		writeFile(t, fmt.Sprint(path, "/", i), "x")
		before := flushes()
		if err := d.Sync(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if flushes() == before {
			t.Error("a sync did not flush the device")
		}
	}
}

// TestFlushTellsOfFailedWrites fills the file system below the pool file.
func TestFlushTellsOfFailedWrites(t *testing.T) {
	for name, flush := range map[string]func(*Disk) error{
		"tree": func(d *Disk) error { return d.Flush(t.Context(), "a") },
		"file": func(d *Disk) error { return d.FlushFiles(t.Context(), File{"a", "does-not"}) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := unix.Mount("atoll-disk-test", dir, "tmpfs", 0, "size=64m"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			d := must(Open(t.Context(), Config{Dir: dir, PoolSizeBytes: 1 << 30, Driver: "btrfs"}))(t)
			defer d.Close(true) // its own commit may fail too
			path := must(d.Create(t.Context(), "a"))(t).Path
			writeFile(t, path+"/fits", string(noise(1, 1<<20)))
			if err := d.Sync(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			writeFile(t, path+"/does-not", string(noise(1, 100<<20)))
			if err := flush(d); err == nil {
				t.Error("writes failed and the flush says nothing")
			}
		})
	}
}

const (
	crashRounds = 40
	crashImages = 8
)

// TestPowerCut writes as a pause does, and meanwhile takes copies of the pool
// file as it is at that instant, which is what a power cut would leave. In each
// copy all that was confirmed before must be there, and nothing half.
func TestPowerCut(t *testing.T) {
	outer := openSized(t, "btrfs", 4*lowBelow) // whose files can be copied in an instant
	home := must(outer.Create(t.Context(), "home"))(t).Path
	if err := os.Mkdir(home+"/live", 0o700); err != nil {
		t.Fatal(err)
	}
	// A pool file that exists is used, also on btrfs.
	pool := &poolFile{file: filepath.Join(home, "live", poolFileName)}
	if err := pool.create(t.Context(), 256<<20); err != nil {
		t.Fatal(err)
	}
	d := must(Open(t.Context(), Config{Dir: home + "/live", Driver: "btrfs"}))(t)
	var confirmed atomic.Int64
	written := make(chan error, 1)
	go func() { written <- writeRounds(t, d, &confirmed) }()
	var least []int64
	for i := range crashImages {
		at := int64(i * crashRounds / crashImages)
		await(t, "progress", func() bool { return confirmed.Load() >= at })
		time.Sleep(rand.N(20 * time.Millisecond)) // anywhere in a round
		least = append(least, confirmed.Load())
		clonePool(t, pool.file, fmt.Sprint(home, "/", i))
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if err := d.Close(true); err != nil {
		t.Fatal(err)
	}
	for i := range crashImages {
		d := must(Open(t.Context(), Config{Dir: fmt.Sprint(home, "/", i), Driver: "btrfs"}))(t)
		found := checkRounds(t, d, least[i])
		t.Logf("copy %d: %d rounds confirmed, %d there", i, least[i], found)
		if err := d.Close(true); err != nil {
			t.Fatal(err)
		}
	}
}

func clonePool(t *testing.T, from, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	src := must(os.Open(from))(t)
	defer src.Close()
	dst := must(os.Create(filepath.Join(dir, poolFileName)))(t)
	defer dst.Close()
	if err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())); err != nil {
		t.Fatal(err)
	}
}

func roundMachine(i int64) string { return fmt.Sprintf("machines/m%d", i) }

// roundPages has much of the base's and something of its own.
func roundPages(i int64) []byte {
	return slices.Insert(noise(0, 1<<20), 128<<10, noise(uint64(i), 200<<10)...)
}

func writeRounds(t *testing.T, d *Disk, confirmed *atomic.Int64) error {
	ctx := t.Context()
	base, err := d.Create(ctx, "base")
	if err != nil {
		return err
	}
	memories, err := d.Create(ctx, "memories")
	if err != nil {
		return err
	}
	err = errors.Join(os.WriteFile(base.Path+"/state", noise(0, 200<<10), 0o600),
		os.WriteFile(base.Path+"/pages.img", noise(0, 1<<20), 0o600))
	for i := int64(1); i <= crashRounds && err == nil; i++ {
		m, e := d.Clone(ctx, "base", roundMachine(i), CloneOptions{LimitBytes: 20 << 20})
		if e != nil {
			return e
		}
		f, e := os.OpenFile(m.Path+"/state", os.O_WRONLY, 0)
		if e != nil {
			return e
		}
		_, e = f.WriteAt(noise(uint64(i), 100<<10), 50<<10)
		image := fmt.Sprintf("%s/%d", memories.Path, i)
		err = errors.Join(e, f.Close(), os.Mkdir(image+".new", 0o700),
			os.WriteFile(image+".new/pages.img", roundPages(i), 0o600),
			os.WriteFile(image+".new/image.json", noise(uint64(i), 500), 0o600),
			d.FlushFiles(ctx, File{"memories", fmt.Sprint(i, ".new")}), d.Flush(ctx, m.Name),
			os.Rename(image+".new", image), d.Sync(ctx, m.Name))
		if err == nil {
			confirmed.Store(i)
			pages := File{"memories", fmt.Sprint(i, "/pages.img")}
			_, err = d.Share(ctx, pages, File{"base", "pages.img"})
		}
	}
	return err
}

// checkRounds returns how many rounds a copy has.
func checkRounds(t *testing.T, d *Disk, least int64) (found int) {
	t.Helper()
	state := noise(0, 200<<10)
	for i := int64(1); i <= crashRounds; i++ {
		image := fmt.Sprintf("%s/%d", d.Path("memories"), i)
		if _, err := os.Stat(image); errors.Is(err, os.ErrNotExist) {
			if i <= least {
				t.Errorf("image %d of %d is gone", i, least)
			}
			continue
		}
		found++
		if !bytes.Equal([]byte(readFile(t, image+"/pages.img")), roundPages(i)) ||
			!bytes.Equal([]byte(readFile(t, image+"/image.json")), noise(uint64(i), 500)) {
			t.Errorf("image %d is torn; %d were confirmed", i, least)
		}
		copy(state[50<<10:], noise(uint64(i), 100<<10))
		if !bytes.Equal([]byte(readFile(t, d.Path(roundMachine(i))+"/state")), state) {
			t.Errorf("tree of machine %d is not as it was when flushed; %d were confirmed", i, least)
		}
	}
	return found
}

// TestImagesAndTreesLeaveNothing makes and removes what paused machines have.
func TestImagesAndTreesLeaveNothing(t *testing.T) {
	d := openTest(t, "btrfs")
	b := d.driver.(*btrfsDriver)
	ctx := t.Context()
	base := must(d.Create(ctx, "base"))(t)
	pages := noise(1, 1<<20)
	writeFile(t, base.Path+"/pages.img", string(pages))
	memories := must(d.Create(ctx, "memories"))(t)
	root := must(d.Root("memories"))(t)
	defer root.Close()
	used := func() int64 {
		pokeCleaner(t, b)
		var st unix.Statfs_t
		if err := unix.Statfs(d.root, &st); err != nil {
			t.Fatal(err)
		}
		return int64(st.Blocks-st.Bfree) * st.Bsize
	}
	start := used()
	for i := range 200 {
		machine, image := fmt.Sprint("machines/", i), fmt.Sprint(i)
		own := noise(uint64(i+2), 200<<10)
		tree := must(d.Clone(ctx, "base", machine, CloneOptions{LimitBytes: 10 << 20}))(t)
		err := errors.Join(os.WriteFile(tree.Path+"/own", own, 0o600), root.Mkdir(image, 0o700),
			root.WriteFile(image+"/pages.img", slices.Concat(own, pages), 0o600),
			root.WriteFile(image+"/image.json", own[:500], 0o600), d.Sync(ctx, machine, "memories"))
		if err != nil {
			t.Fatal(err)
		}
		if s := must(d.Share(ctx, File{"memories", image + "/pages.img"}, File{"base", "pages.img"}))(t); s.Base < 1<<20-64<<10 {
			t.Fatalf("shared %+v", s)
		}
	}
	full := used() - start
	// 400 KiB each, and not 1.6 MiB.
	if full < 200*400<<10 || full > 200*600<<10 {
		t.Errorf("200 paused machines take %d bytes", full)
	}
	for i := range 200 {
		if err := errors.Join(root.RemoveAll(fmt.Sprint(i)), d.Remove(ctx, fmt.Sprint("machines/", i))); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "space as before", func() bool { return used() <= start+1<<20 })
	if left := must(os.ReadDir(memories.Path))(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	t.Logf("%d bytes before, %d with 200 paused machines, %d after", start, start+full, used())
}
