package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// forEachDriver runs a test of the contract with every driver.
func forEachDriver(t *testing.T, test func(t *testing.T, d *Disk)) {
	for _, driver := range []string{"btrfs", "copy"} {
		t.Run(driver, func(t *testing.T) { test(t, openTest(t, driver)) })
	}
}

func openTest(t testing.TB, driver string) *Disk {
	t.Helper()
	return openSized(t, driver, 2<<30)
}

func openSized(t testing.TB, driver string, size int64) *Disk {
	t.Helper()
	d, err := Open(t.Context(), Config{Dir: t.TempDir(), PoolSizeBytes: size, Driver: driver})
	if err != nil {
		t.Fatalf("open (the btrfs driver needs root, mkfs.btrfs and loop devices): %v", err)
	}
	t.Cleanup(func() {
		err := d.Close(true)
		if errors.Is(err, ErrBusy) {
			// A mount namespace that some process on this host makes meanwhile
			// keeps for its life what is mounted inside.
			await(t, "unmount", func() bool { return d.pool.unmount() == nil })
			err = nil
		}
		if err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	return string(must(os.ReadFile(path))(t))
}

func TestCloneIsIndependent(t *testing.T) {
	forEachDriver(t, func(t *testing.T, d *Disk) {
		ctx := t.Context()
		base := must(d.Create(ctx, "templates/base/b1"))(t)
		writeFile(t, base.Path+"/f", "one")
		a := must(d.Clone(ctx, "templates/base/b1", "machines/a", CloneOptions{}))(t)
		writeFile(t, base.Path+"/f", "two")
		if got := readFile(t, a.Path+"/f"); got != "one" {
			t.Errorf("clone sees %q, which its source wrote later", got)
		}
		writeFile(t, a.Path+"/f", "three")
		if got := readFile(t, base.Path+"/f"); got != "two" {
			t.Errorf("source sees %q, which its clone wrote", got)
		}
		if a.Path != d.Path("machines/a") || a.Parent != "templates/base/b1" {
			t.Errorf("clone is %+v", a)
		}
	})
}

func TestCloneKeepsWhatFilesAre(t *testing.T) {
	forEachDriver(t, func(t *testing.T, d *Disk) {
		ctx := t.Context()
		src := must(d.Create(ctx, "src"))(t).Path
		writeFile(t, src+"/suid", "x")
		outside := filepath.Join(t.TempDir(), "secret")
		writeFile(t, outside, "host")
		steps := []error{
			os.Chown(src+"/suid", 1000, 100), os.Chmod(src+"/suid", 0o755|fs.ModeSetuid),
			os.Link(src+"/suid", src+"/second"),
			os.Symlink(outside, src+"/escape"), os.Symlink("..", src+"/up"),
			unix.Mkfifo(src+"/pipe", 0o640), unix.Mknod(src+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
			unix.Setxattr(src+"/suid", "user.note", []byte("hi"), 0),
			os.Mkdir(src+"/d", 0o711), os.Chtimes(src+"/d", time.Unix(7, 0), time.Unix(9, 0)),
			os.Truncate(src+"/suid", 1<<30),
		}
		if err := errors.Join(steps...); err != nil {
			t.Fatal(err)
		}
		dst := must(d.Clone(ctx, "src", "dst", CloneOptions{}))(t).Path
		for _, name := range []string{"suid", "second", "escape", "up", "pipe", "null", "d"} {
			var a, b unix.Stat_t
			if err := errors.Join(unix.Lstat(src+"/"+name, &a), unix.Lstat(dst+"/"+name, &b)); err != nil {
				t.Fatal(err)
			}
			if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev || a.Nlink != b.Nlink || a.Size != b.Size || a.Mtim.Sec != b.Mtim.Sec {
				t.Errorf("%s: %+v became %+v", name, a, b)
			}
		}
		var st unix.Stat_t
		if err := unix.Lstat(dst+"/suid", &st); err != nil || st.Blocks > 1024 {
			t.Errorf("hole of a sparse file takes %d blocks, %v", st.Blocks, err)
		}
		if got := must(os.Readlink(dst + "/escape"))(t); got != outside {
			t.Errorf("link leads to %q", got)
		}
		buf := make([]byte, 10)
		if n, err := unix.Getxattr(dst+"/suid", "user.note", buf); err != nil || string(buf[:n]) != "hi" {
			t.Errorf("attribute is %q, %v", buf[:max(n, 0)], err)
		}
		root := must(d.Root("dst"))(t)
		defer root.Close()
		if _, err := root.ReadFile("escape"); err == nil {
			t.Error("Root followed a link out of the tree")
		}
	})
}

func TestNamesOutsideTheRulesAreRefused(t *testing.T) {
	forEachDriver(t, func(t *testing.T, d *Disk) {
		ctx := t.Context()
		for _, name := range []string{"", "/", "..", "a/..", "../a", "a//b", "/a", "a/", "@", "a/@", ".a", "a b", "a\x00", "-a",
			strings.Repeat("a", 65), strings.Repeat("a/", 8) + "a", "a/@info", "é"} {
			_, err := d.Create(ctx, name)
			for _, err := range []error{err, d.Remove(ctx, name), d.Seal(ctx, name), d.SetLimit(ctx, name, 1), d.Sync(ctx, name)} {
				if !errors.Is(err, ErrName) {
					t.Errorf("%q: %v", name, err)
				}
			}
			if _, err := d.Clone(ctx, "a", name, CloneOptions{}); !errors.Is(err, ErrName) {
				t.Errorf("clone to %q: %v", name, err)
			}
		}
	})
}

func TestMissingAndExistingTrees(t *testing.T) {
	forEachDriver(t, func(t *testing.T, d *Disk) {
		ctx := t.Context()
		must(d.Create(ctx, "a"))(t)
		must(d.Create(ctx, "a/b"))(t) // names may be prefixes of one another
		if _, err := d.Create(ctx, "a"); !errors.Is(err, os.ErrExist) {
			t.Errorf("create again: %v", err)
		}
		if _, err := d.Clone(ctx, "a", "a/b", CloneOptions{}); !errors.Is(err, os.ErrExist) {
			t.Errorf("clone onto another: %v", err)
		}
		if _, err := d.Clone(ctx, "none", "c", CloneOptions{}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("clone of none: %v", err)
		}
		if _, _, err := d.Usage(ctx, "none"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("usage of none: %v", err)
		}
		if err := d.Remove(ctx, "none/at/all"); err != nil {
			t.Errorf("remove of none: %v", err)
		}
		if err := errors.Join(d.Remove(ctx, "a"), d.Remove(ctx, "a")); err != nil {
			t.Errorf("remove twice: %v", err)
		}
		if trees := must(d.List(ctx, ""))(t); len(trees) != 1 || trees[0].Name != "a/b" {
			t.Errorf("trees are %+v", trees)
		}
		must(d.Create(ctx, "a"))(t)
	})
}

func TestListSealAndLimit(t *testing.T) {
	forEachDriver(t, func(t *testing.T, d *Disk) {
		ctx := t.Context()
		must(d.Create(ctx, "templates/x"))(t)
		if err := d.Seal(ctx, "templates/x"); err != nil {
			t.Fatal(err)
		}
		must(d.Clone(ctx, "templates/x", "machines/m1", CloneOptions{LimitBytes: 5 << 20}))(t)
		must(d.Clone(ctx, "templates/x", "machines/m2", CloneOptions{ReadOnly: true}))(t)
		got := fmt.Sprint(must(d.List(ctx, "machines"))(t), must(d.List(ctx, "templates/x"))(t), must(d.List(ctx, "mach"))(t))
		want := fmt.Sprint([]Tree{
			{Name: "machines/m1", Path: d.Path("machines/m1")},
			{Name: "machines/m2", Path: d.Path("machines/m2"), ReadOnly: true},
		}, []Tree{{Name: "templates/x", Path: d.Path("templates/x"), ReadOnly: true}}, []Tree{})
		if got != want {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		if all := must(d.List(ctx, ""))(t); len(all) != 3 || all[0].Parent != "templates/x" {
			t.Errorf("all trees are %+v", all)
		}
		for _, limit := range []int64{5 << 20, 9 << 20, 0} {
			if limit != 5<<20 {
				if err := d.SetLimit(ctx, "machines/m1", limit); err != nil {
					t.Fatal(err)
				}
			}
			if _, got, err := d.Usage(ctx, "machines/m1"); err != nil || got != limit {
				t.Errorf("limit is %d, %v; want %d", got, err, limit)
			}
		}
	})
}

func TestRemoveCopesWithHostileTrees(t *testing.T) {
	forEachDriver(t, func(t *testing.T, d *Disk) {
		ctx := t.Context()
		outside := t.TempDir()
		writeFile(t, outside+"/keep", "x")
		tree := must(d.Create(ctx, "bad"))(t).Path
		deep := must(os.Open(tree))(t)
		for range 3000 { // longer than any path may be
			if err := unix.Mkdirat(int(deep.Fd()), "dddd", 0o700); err != nil {
				t.Fatal(err)
			}
			next := must(openDirAt(deep, "dddd"))(t)
			deep.Close()
			deep = next
		}
		deep.Close()
		if err := os.Symlink(outside, tree+"/link"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(tree+"/fixed", 0); err != nil {
			t.Fatal(err)
		}
		writeFile(t, tree+"/fixed/file", "x")
		for _, path := range []string{"/fixed/file", "/fixed", ""} {
			f := must(os.Open(tree + path))(t)
			err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, unix.STATX_ATTR_IMMUTABLE)
			f.Close()
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Remove(ctx, "bad"); err != nil {
			t.Fatal(err)
		}
		if c, ok := d.driver.(*copyDriver); ok {
			await(t, "an empty trash", func() bool { return len(must(os.ReadDir(c.trash))(t)) == 0 })
		}
		if got := readFile(t, outside+"/keep"); got != "x" {
			t.Errorf("a file outside is %q", got)
		}
	})
}

// await waits for a condition and fails the test when it does not come.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s after 30 s", what)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	forEachDriver(t, func(t *testing.T, d *Disk) {
		ctx := t.Context()
		writeFile(t, must(d.Create(ctx, "base"))(t).Path+"/f", "x")
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 8 {
					// Shared parents come and go all the time.
					name := fmt.Sprintf("deep/er/%d", i)
					tree, err := d.Clone(ctx, "base", name, CloneOptions{LimitBytes: 1 << 20})
					if err != nil {
						t.Errorf("round %d: %v", j, err)
						return
					}
					if _, err := os.Stat(tree.Path + "/f"); err != nil {
						t.Error(err)
					}
					if err := d.Remove(ctx, name); err != nil {
						t.Error(err)
					}
				}
			})
		}
		won := make(chan int, 8)
		for i := range 8 {
			wg.Go(func() {
				if _, err := d.Clone(ctx, "base", "same", CloneOptions{}); err == nil {
					won <- i
				} else if !errors.Is(err, os.ErrExist) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Errorf("%d clones took the same name", len(won))
		}
		if trees := must(d.List(ctx, ""))(t); len(trees) != 2 {
			t.Errorf("left: %+v", trees)
		}
	})
}

func TestReopenFindsTrees(t *testing.T) {
	for _, driver := range []string{"btrfs", "copy"} {
		for _, unmount := range []bool{true, false} {
			t.Run(fmt.Sprint(driver, unmount), func(t *testing.T) {
				dir := t.TempDir()
				cfg := Config{Dir: dir, PoolSizeBytes: 1 << 30, Driver: driver}
				d := must(Open(t.Context(), cfg))(t)
				path := must(d.Create(t.Context(), "a"))(t).Path
				writeFile(t, path+"/f", "x")
				must(d.Folder("kept/empty"))(t)
				// As a killed process leaves them.
				left := filepath.Join(d.root, "trees", "staging", "x")
				if err := os.MkdirAll(left, 0o711); err != nil {
					t.Fatal(err)
				}
				if _, err := Open(t.Context(), cfg); !errors.Is(err, ErrInUse) {
					t.Errorf("second open: %v", err)
				}
				if err := d.Close(unmount); err != nil {
					t.Fatal(err)
				}
				if _, err := d.List(t.Context(), ""); !errors.Is(err, ErrClosed) {
					t.Errorf("list after close: %v", err)
				}
				cfg.Driver = "auto"
				d = must(Open(context.Background(), cfg))(t)
				if readFile(t, path+"/f") != "x" || d.Features().Driver != driver {
					t.Errorf("after opening again with %+v", d.Features())
				}
				if _, err := os.Stat(filepath.Dir(left)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("a directory without trees is still there: %v", err)
				}
				if got := must(d.Folders("kept"))(t); !slices.Equal(got, []string{"kept/empty"}) {
					t.Errorf("there are the folders %v", got)
				}
				if err := d.Close(true); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

func TestFallsBackToCopies(t *testing.T) {
	dir := t.TempDir()
	// A pool that is too small for a file system stands for a host that cannot.
	d := must(Open(t.Context(), Config{Dir: dir, PoolSizeBytes: 1 << 20}))(t)
	if f := d.Features(); f.Driver != "copy" {
		t.Errorf("features are %+v", f)
	}
	if _, err := os.Stat(filepath.Join(dir, poolFileName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pool file is left: %v", err)
	}
	if err := d.Close(true); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Dir: t.TempDir(), PoolSizeBytes: 1 << 20, Driver: "btrfs"}); err == nil {
		t.Error("btrfs was asked for and not had, without an error")
	}
}
