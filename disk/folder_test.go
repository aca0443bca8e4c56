package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestAFolderStaysUntilItIsRemoved(t *testing.T) {
	forEachDriver(t, func(t *testing.T, d *Disk) {
		ctx := t.Context()
		folder := must(d.Folder("checkpoints/m"))(t)
		if again := must(d.Folder("checkpoints/m"))(t); again != folder {
			t.Errorf("it is at %s and then at %s", folder, again)
		}
		before := must(os.Stat(folder))(t)
		must(d.Create(ctx, "checkpoints/m/all/v1"))(t)
		writeFile(t, filepath.Join(folder, "all", "v1", "@", "f"), "x")
		for dir, mode := range map[string]fs.FileMode{folder: 0o755, folder + "/all": 0o711, folder + "/all/v1": 0o711} {
			if info := must(os.Stat(dir))(t); info.Mode().Perm() != mode {
				t.Errorf("%s has mode %v, want %v for a guest's users", dir, info.Mode(), mode)
			}
		}
		if err := d.Remove(ctx, "checkpoints/m/all/v1"); err != nil {
			t.Fatal(err)
		}
		if after, err := os.Stat(folder); err != nil || !os.SameFile(before, after) {
			t.Fatalf("without trees it is another or gone: %v", err)
		}
		must(d.Create(ctx, "checkpoints/m/all/v2"))(t)
		if err := os.Symlink("all/v2/@", folder+"/v2"); err != nil {
			t.Fatal(err)
		}
		must(d.Folder("checkpoints/n"))(t)
		if got := must(d.Folders("checkpoints"))(t); !slices.Equal(got, []string{"checkpoints/m", "checkpoints/n"}) {
			t.Errorf("there are the folders %v", got)
		}
		for range 2 {
			if err := d.RemoveFolder(ctx, "checkpoints/m"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is still there: %v", err)
		}
	})
}

func TestSwapChangesContentAndLimits(t *testing.T) {
	forEachDriver(t, func(t *testing.T, d *Disk) {
		ctx := t.Context()
		base := must(d.Create(ctx, "b"))(t)
		writeFile(t, base.Path+"/f", "base")
		a := must(d.Clone(ctx, "b", "machines/a", CloneOptions{LimitBytes: 1 << 20}))(t)
		b := must(d.Clone(ctx, "b", "staging/b", CloneOptions{LimitBytes: 2 << 20}))(t)
		writeFile(t, a.Path+"/f", "a")
		writeFile(t, b.Path+"/f", "b")
		if err := d.Swap(ctx, "machines/a", "staging/b"); err != nil {
			t.Fatal(err)
		}
		if got := readFile(t, a.Path+"/f") + readFile(t, b.Path+"/f"); got != "ba" {
			t.Errorf("after the swap they have %q", got)
		}
		_, limit, err := d.Usage(ctx, "machines/a")
		if err != nil || limit != 2<<20 && d.Features().Quota != "none" {
			t.Errorf("its limit is %d, %v", limit, err)
		}
		if err := d.Remove(ctx, "staging/b"); err != nil {
			t.Fatal(err)
		}
		if err := d.Swap(ctx, "machines/a", "staging/b"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a swap with nothing: %v", err)
		}
		if got := readFile(t, a.Path+"/f"); got != "b" {
			t.Errorf("a swap that failed left %q", got)
		}
	})
}
