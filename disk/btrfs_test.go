package disk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLimitHoldsForBytes(t *testing.T) {
	d := openTest(t, "btrfs")
	ctx := t.Context()
	base := must(d.Create(ctx, "base"))(t)
	writeFile(t, base.Path+"/big", strings.Repeat("x", 30<<20))
	const limit = 20 << 20
	tree := must(d.Clone(ctx, "base", "m", CloneOptions{LimitBytes: limit}))(t)
	if used, _, err := d.Usage(ctx, "m"); err != nil || used > 1<<20 {
		t.Errorf("a fresh clone uses %d, %v", used, err)
	}
	f := must(os.Create(tree.Path + "/f"))(t)
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(zeros{}, 4*limit))
	if !errors.Is(err, unix.EDQUOT) || n < limit/2 || n > limit {
		t.Errorf("wrote %d of %d bytes: %v", n, limit, err)
	}
	if err := f.Sync(); err != nil {
		t.Logf("sync: %v", err)
	}
	if used, got, err := d.Usage(ctx, "m"); err != nil || got != limit || used < n || used > limit {
		t.Errorf("used %d of %d: %v; %d written", used, got, err, n)
	}
	// The guest can help itself.
	if err := os.Remove(tree.Path + "/f"); err != nil {
		t.Errorf("remove in a full tree: %v", err)
	}
	f.Close()
	await(t, "space after a remove", func() bool { return os.WriteFile(tree.Path+"/g", make([]byte, 1<<20), 0o600) == nil })
	// And another tree feels nothing.
	writeFile(t, base.Path+"/other", strings.Repeat("x", 2*limit))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestLimitHoldsForManySmallFiles(t *testing.T) {
	d := openTest(t, "btrfs")
	ctx := t.Context()
	must(d.Create(ctx, "base"))(t)
	tree := must(d.Clone(ctx, "base", "m", CloneOptions{LimitBytes: 16 << 20}))(t)
	files := 0
	var err error
	for ; files < 1_000_000 && err == nil; files++ {
		err = os.WriteFile(fmt.Sprintf("%s/%0200d", tree.Path, files), []byte("tiny"), 0o600)
	}
	if !errors.Is(err, unix.EDQUOT) {
		t.Fatalf("after %d files: %v", files, err)
	}
	if err := d.Sync(ctx, "m"); err != nil {
		t.Fatal(err)
	}
	used, limit, err := d.Usage(ctx, "m")
	t.Logf("%d files, %d of %d bytes", files, used, limit)
	if err != nil || used > limit+limit/4 {
		t.Errorf("uses %d of %d: %v", used, limit, err)
	}
	if err := os.Remove(fmt.Sprintf("%s/%0200d", tree.Path, 0)); err != nil {
		t.Errorf("remove in a full tree: %v", err)
	}
}

func TestRemoveTakesNestedSubvolumes(t *testing.T) {
	d := openTest(t, "btrfs")
	path := must(d.Create(t.Context(), "m"))(t).Path
	for _, sub := range []string{"", "/one", "/one/two"} {
		dir := must(os.Open(path + sub))(t)
		for _, name := range []string{"one", "two", "three"} {
			if err := subvolMake(dir, name, nil, false, 0); err != nil {
				t.Fatal(err)
			}
		}
		dir.Close()
	}
	if err := d.Seal(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(t.Context(), "m"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("tree is still there: %v", err)
	}
}

func TestManyClonesLeaveNothing(t *testing.T) {
	d := openTest(t, "btrfs")
	b := d.driver.(*btrfsDriver)
	ctx := t.Context()
	base := must(d.Create(ctx, "base"))(t)
	for i := range 50 {
		writeFile(t, fmt.Sprintf("%s/%d", base.Path, i), strings.Repeat("x", 100<<10))
	}
	state := func() (groups, roots int, free int64) {
		pokeCleaner(t, b)
		must(b.sweepQuotas())(t)
		count := func(n *int) func(_, _ uint64, _ []byte) { return func(_, _ uint64, _ []byte) { *n++ } }
		err := errors.Join(treeSearch(b.dir, treeOfQuota, keyQgroupInfo, 0, 0, count(&groups)),
			treeSearch(b.dir, treeOfRoots, keyRootItem, firstFreeID, ^uint64(0)-256, count(&roots)))
		if err != nil {
			t.Fatal(err)
		}
		// Not Stat's free space: that shrinks when btrfs sets room aside for metadata.
		var st unix.Statfs_t
		if err := unix.Statfs(d.root, &st); err != nil {
			t.Fatal(err)
		}
		return groups, roots, int64(st.Bfree) * st.Bsize
	}
	groups, roots, free := state()
	for i := range 500 {
		name := fmt.Sprintf("machines/%d", i)
		tree := must(d.Clone(ctx, "base", name, CloneOptions{LimitBytes: 10 << 20}))(t)
		writeFile(t, tree.Path+"/own", strings.Repeat("y", 10<<10))
		if err := d.Remove(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "pool as it was before", func() bool {
		g, r, f := state()
		return g == groups && r == roots && f >= free-2<<20
	})
	entries := must(os.ReadDir(filepath.Join(d.root, "trees")))(t)
	if len(entries) != 1 {
		t.Errorf("left in trees/: %v", entries)
	}
}

// pokeCleaner makes the kernel delete removed subvolumes now; by itself it does
// so at its next periodic commit.
func pokeCleaner(t testing.TB, b *btrfsDriver) {
	t.Helper()
	const iocSync = 0x9408
	if err := ioctl(b.dir, iocSync, nil); err != nil {
		t.Fatal(err)
	}
}

func must2[A, B any](a A, b B, err error) func(testing.TB) (A, B) {
	return func(t testing.TB) (A, B) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return a, b
	}
}

func TestQuotaGroupOfRemovedSourceIsSwept(t *testing.T) {
	d := openTest(t, "btrfs")
	b := d.driver.(*btrfsDriver)
	ctx := t.Context()
	base := must(d.Create(ctx, "base"))(t)
	writeFile(t, base.Path+"/f", strings.Repeat("x", 5<<20))
	must(d.Clone(ctx, "base", "m", CloneOptions{}))(t)
	id := must(b.treeID("base"))(t)
	if err := d.Remove(ctx, "base"); err != nil {
		t.Fatal(err)
	}
	has := func() bool {
		pokeCleaner(t, b)
		must(b.sweepQuotas())(t)
		found := false
		err := treeSearch(b.dir, treeOfQuota, keyQgroupInfo, 0, 0, func(_, g uint64, _ []byte) { found = found || g == id })
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	t.Logf("group of the removed source, whose extents live in a clone: %v", has())
	if err := d.Remove(ctx, "m"); err != nil {
		t.Fatal(err)
	}
	await(t, "removal of the quota group", func() bool { return !has() })
}

func TestPoolGrows(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), PoolSizeBytes: 1 << 30, Driver: "btrfs"}
	for _, unmount := range []bool{true, false} {
		cfg.PoolSizeBytes += 1 << 30
		d := must(Open(t.Context(), cfg))(t)
		if total, free := must2(d.Stat())(t); total != cfg.PoolSizeBytes || free < total/2 {
			t.Errorf("capacity is %d, %d free; want %d", total, free, cfg.PoolSizeBytes)
		}
		if err := d.Close(unmount); err != nil {
			t.Fatal(err)
		}
	}
	cfg.PoolSizeBytes = 0
	d := must(Open(t.Context(), cfg))(t)
	if total, _ := must2(d.Stat())(t); total != 3<<30 {
		t.Errorf("capacity became %d", total)
	}
	if err := d.Close(true); err != nil {
		t.Fatal(err)
	}
}

func TestDirectOnBtrfs(t *testing.T) {
	outer := openTest(t, "btrfs")
	dir := must(outer.Create(t.Context(), "fs"))(t).Path
	d := must(Open(t.Context(), Config{Dir: dir}))(t)
	if f := d.Features(); f != (Features{Driver: "btrfs", Quota: "simple"}) {
		t.Errorf("features are %+v", f)
	}
	must(d.Create(t.Context(), "a"))(t)
	must(d.Clone(t.Context(), "a", "b", CloneOptions{LimitBytes: 1 << 20}))(t)
	if trees := must(d.List(t.Context(), ""))(t); len(trees) != 2 {
		t.Errorf("trees are %+v", trees)
	}
	if err := errors.Join(d.Remove(t.Context(), "a"), d.Remove(t.Context(), "b"), d.Close(true)); err != nil {
		t.Fatal(err)
	}
}

func TestCloseWhileBusy(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), PoolSizeBytes: 1 << 30, Driver: "btrfs"}
	d := must(Open(t.Context(), cfg))(t)
	f := must(os.Create(must(d.Create(t.Context(), "a"))(t).Path + "/f"))(t)
	if err := d.Close(true); !errors.Is(err, ErrBusy) {
		t.Errorf("close: %v", err)
	}
	f.Close()
	d = must(Open(t.Context(), cfg))(t)
	if err := d.Close(true); err != nil {
		t.Fatal(err)
	}
	awaitRelease(t, cfg.Dir)
	if source := must(mountSource(filepath.Join(cfg.Dir, "pool")))(t); source != "" {
		t.Errorf("mount is left: %v", source)
	}
}

// awaitRelease waits until the pool's loop device is gone, unless a process on
// this host has copied the mount into a namespace of its own meanwhile.
func awaitRelease(t *testing.T, dir string) {
	t.Helper()
	await(t, "release of the loop device", func() bool {
		loop := must(findLoop(filepath.Join(dir, poolFileName)))(t)
		if loop == nil {
			return true
		}
		loop.Close()
		tables := must(filepath.Glob("/proc/[0-9]*/mountinfo"))(t)
		return slices.ContainsFunc(tables, func(table string) bool {
			text, err := os.ReadFile(table)
			return err == nil && strings.Contains(string(text), dir+"/pool ")
		})
	})
}

// TestKilled kills processes that have the disk open, at different points, and
// opens it after each.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	for i, wait := range []string{"nothing", "opened", "cloning", "cloning", "closed"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$")
		cmd.Env = append(os.Environ(), "DISK_TEST_DIR="+dir)
		out := must(cmd.StdoutPipe())(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for wait != "nothing" && lines.Scan() && !strings.Contains(lines.Text(), wait) {
		}
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		d := must(Open(t.Context(), Config{Dir: dir, PoolSizeBytes: 1 << 30}))(t)
		for _, tree := range must(d.List(t.Context(), ""))(t) {
			if tree.Name == "base" {
				continue
			}
			if _, limit, err := d.Usage(t.Context(), tree.Name); err != nil || limit != 1<<20 {
				t.Errorf("round %d: %s has limit %d, %v", i, tree.Name, limit, err)
			}
		}
		if err := d.Close(i == 4); err != nil {
			t.Fatal(err)
		}
	}
	awaitRelease(t, dir)
}

func TestHelperProcess(t *testing.T) {
	dir := os.Getenv("DISK_TEST_DIR")
	if dir == "" {
		return // runs only inside TestKilled
	}
	d := must(Open(t.Context(), Config{Dir: dir, PoolSizeBytes: 1 << 30}))(t)
	fmt.Println("opened")
	if _, err := d.Create(t.Context(), "base"); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	for i := range 200 {
		name := fmt.Sprintf("m/%d-%d", os.Getpid(), i)
		must(d.Clone(t.Context(), "base", name, CloneOptions{LimitBytes: 1 << 20}))(t)
		fmt.Println("cloning")
		if i%2 == 0 {
			if err := d.Remove(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := d.Close(true); err != nil {
		t.Fatal(err)
	}
	fmt.Println("closed")
	time.Sleep(time.Minute) // until killed
}
