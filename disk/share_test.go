package disk

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	testBase = File{"templates/x", "pages.img"}
	testFile = File{"memories", "m/pages.img"}
)

// openShare makes a base of 8 MiB and a file of the content given.
func openShare(t testing.TB, content []byte) (d *Disk, base []byte, path string) {
	t.Helper()
	d = openTest(t, "btrfs")
	ctx := t.Context()
	base = noise(1, 8<<20)
	tree := must(d.Create(ctx, testBase.Tree))(t)
	memories := must(d.Create(ctx, testFile.Tree))(t)
	path = memories.Path + "/" + testFile.Path
	if content == nil {
		content = mixed(base)
	}
	err := errors.Join(os.WriteFile(tree.Path+"/pages.img", base, 0o600), d.Seal(ctx, testBase.Tree),
		os.Mkdir(memories.Path+"/m", 0o700), os.WriteFile(path, content, 0o600), d.Sync(ctx, testBase.Tree, testFile.Tree))
	if err != nil {
		t.Fatal(err)
	}
	return d, base, path
}

// mixed is what a memory image looks like beside its template's: runs of the
// same pages at other offsets, pages of its own in between, an odd end.
func mixed(base []byte) []byte {
	return slices.Concat(base[:2<<20], noise(2, 300<<10), base[3<<20:6<<20], make([]byte, 1<<20),
		noise(3, 1<<20), base[1<<20:1<<20+4*blockSize], noise(4, 40<<10), base[:1<<20], noise(5, 1000))
}

func TestShareStoresOnlyWhatDiffers(t *testing.T) {
	d, base, path := openShare(t, nil)
	ctx := t.Context()
	want := mixed(base)
	size := int64(len(want))
	before := must(d.Stored(ctx, File{"memories", "m"}))(t)
	if before.Own < size || before.Own > size+64<<10 || before.All < size {
		t.Errorf("a file of %d bytes has %+v", size, before)
	}
	s := must(d.Share(ctx, testFile, testBase))(t)
	t.Logf("%+v", s)
	own := size - 7<<20
	if s.Size != size || s.Base != 6<<20 || s.Zero != 1<<20 || s.Copied < own-16<<10 || s.Copied > own {
		t.Errorf("shared %+v of %d", s, size)
	}
	check := func() Stored {
		t.Helper()
		if !bytes.Equal([]byte(readFile(t, path)), want) {
			t.Fatal("content has changed")
		}
		return must(d.Stored(ctx, File{"memories", "m"}))(t)
	}
	after := check()
	if after.Own < own || after.Own > own+32<<10 || after.All < size-1<<20 || after.All > size-1<<20+32<<10 {
		t.Errorf("%d bytes of its own are in %+v", own, after)
	}
	if base := must(d.Stored(ctx, File{testBase.Tree, "."}))(t); base.All != 8<<20 || base.Own >= 8<<20 {
		t.Errorf("the base has %+v", base)
	}
	// Once more there is nothing to do.
	if s := must(d.Share(ctx, testFile, testBase))(t); s.Copied > 0 {
		t.Errorf("second time: %+v", s)
	}
	if got := check(); got != after {
		t.Errorf("second time: %+v became %+v", after, got)
	}
	// What is shared lives as long as its last user.
	if err := d.Remove(ctx, testBase.Tree); err != nil {
		t.Fatal(err)
	}
	pokeCleaner(t, d.driver.(*btrfsDriver))
	dropPages(t, path)
	check()
}

// dropPages forgets what is in memory of a file.
func dropPages(t testing.TB, path string) {
	t.Helper()
	f := must(os.Open(path))(t)
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}

func TestShareLeavesWhatIsNotWorthIt(t *testing.T) {
	d, base, path := openShare(t, noise(9, 1<<20))
	for _, content := range [][]byte{
		noise(9, 1<<20), {}, noise(9, 100), // nothing in common
		slices.Concat(noise(9, 1<<20), base[:128<<10]),                               // too little
		slices.Concat(noise(9, 8<<20), base[:512<<10]),                               // too small a part
		slices.Concat(noise(9, 100), base[:4<<20]),                                   // no block of it in the same bounds
		slices.Repeat(slices.Concat(base[:3*blockSize], noise(9, 2*blockSize)), 100), // short runs
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s := must(d.Share(t.Context(), testFile, testBase))(t)
		if s != (Shared{Size: int64(len(content))}) {
			t.Errorf("shared %+v", s)
		}
	}
}

// TestShareEndsAnywhere cuts it short after any number of steps, under readers.
func TestShareEndsAnywhere(t *testing.T) {
	d, base, path := openShare(t, nil)
	want := mixed(base)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- func() error {
			for {
				select {
				case <-stop:
					return nil
				default:
				}
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
					return errors.Join(err, errors.New("a reader sees other content"))
				}
			}
		}()
	}()
	complete := false
	for steps := 0; !complete; steps++ {
		ctx := &stepContext{Context: t.Context(), left: steps}
		_, err := d.Share(ctx, testFile, testBase)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		complete = err == nil
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if s := must(d.Stored(t.Context(), testFile))(t); s.Own > int64(len(want))-7<<20+64<<10 {
		t.Errorf("in the end %+v of %d is stored", s, len(want))
	}
}

// stepContext is cancelled after it has been asked some times.
type stepContext struct {
	context.Context
	left int
}

func (c *stepContext) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestShareRefuses(t *testing.T) {
	d, _, path := openShare(t, nil)
	ctx := t.Context()
	if err := errors.Join(os.Symlink("pages.img", path[:len(path)-len("pages.img")]+"inside"),
		os.Symlink("../../../../../templates/x/@/pages.img", path[:len(path)-len("pages.img")]+"outside"),
		unix.Mkfifo(path[:len(path)-len("pages.img")]+"pipe", 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, f := range []File{{"memories", "none"}, {"none", "f"}, {"memories", "m/outside"}, {"memories", "m/pipe"}, {"memories", "m"},
		{"memories", "../../templates/x/@/pages.img"}, {"..", "f"}, testBase} {
		if s, err := d.Share(ctx, f, testBase); err == nil {
			t.Errorf("shared %v: %+v", f, s)
		}
		if f == testBase || f.Path == "m" {
			continue
		}
		if s, err := d.Stored(ctx, f); err == nil && s != (Stored{}) {
			t.Errorf("measured %v: %+v", f, s)
		}
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := d.Share(cancelled, testFile, testBase); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	c := openTest(t, "copy")
	writeFile(t, must(c.Create(ctx, "a"))(t).Path+"/f", "x")
	if _, err := c.Share(ctx, File{"a", "f"}, File{"a", "f"}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("copy driver: %v", err)
	}
	if s, err := c.Stored(ctx, File{"a", "."}); err != nil || s.Own != blockSize || s.All != blockSize {
		t.Errorf("copy driver: %+v, %v", s, err)
	}
}

func TestPlanShare(t *testing.T) {
	base := newBlockTable([]uint64{1, 2, 3, 4, 5, 9, 9, 1, 2, 3, 4, 5, 6, 7, 0})
	for _, c := range []struct {
		name string
		file []uint64
		want []piece
	}{
		{"empty", nil, []piece{{pieceOwn, 0, 1, 0}}},
		{"nothing", []uint64{8, 8}, []piece{{pieceOwn, 0, 3, 0}}},
		{"short run", []uint64{1, 2, 8}, []piece{{pieceOwn, 0, 4, 0}}},
		{"run", []uint64{8, 3, 4, 5, 8}, []piece{{pieceOwn, 0, 1, 0}, {pieceBase, 1, 3, 2}, {pieceOwn, 4, 2, 0}}},
		{"to the end", []uint64{5, 9, 9}, []piece{{pieceBase, 0, 3, 4}, {pieceOwn, 3, 1, 0}}},
		{"goes on where it was", []uint64{9, 9, 1, 8, 3, 4, 5, 6}, []piece{{pieceBase, 0, 3, 5}, {pieceOwn, 3, 1, 0}, {pieceBase, 4, 4, 9}, {pieceOwn, 8, 1, 0}}},
		{"the base's first", []uint64{8, 1, 2, 3}, []piece{{pieceOwn, 0, 1, 0}, {pieceBase, 1, 3, 0}, {pieceOwn, 4, 1, 0}}},
		{"zeros", []uint64{7, 0, 0, 0, 0, 7, 0}, []piece{{pieceOwn, 0, 1, 0}, {pieceZero, 1, 4, 0}, {pieceOwn, 5, 3, 0}}},
	} {
		if got := planShare(c.file, base, 3); !slices.Equal(got, c.want) {
			t.Errorf("%s:\ngot  %v\nwant %v", c.name, got, c.want)
		}
	}
}

func FuzzPlanShare(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0, 0, 0}, []byte{3, 1, 2, 3}, uint8(2))
	f.Fuzz(func(t *testing.T, file, base []byte, least uint8) {
		hashes := func(b []byte) (h []uint64) {
			for _, c := range b {
				h = append(h, uint64(c))
			}
			return h
		}
		have, want := newBlockTable(hashes(base)), hashes(file)
		at := 0
		for _, p := range planShare(want, have, int(least)+1) {
			if p.start != at || p.blocks < 1 || p.kind != pieceOwn && p.blocks <= int(least) {
				t.Fatalf("piece %+v at %d", p, at)
			}
			at += p.blocks
			for i := range p.blocks {
				if p.kind == pieceBase && want[p.start+i] != have.hashes[p.base+i] || p.kind == pieceZero && want[p.start+i] != zeroHash {
					t.Fatalf("block %d of %+v is not that", i, p)
				}
			}
		}
		if at != len(want)+1 {
			t.Fatalf("%d of %d blocks", at, len(want)+1)
		}
	})
}

func TestBaseTablesAreBounded(t *testing.T) {
	var c baseCache
	for i := range 3 * maxTables {
		c.keep(fileID{ino: uint64(i)}, newBlockTable([]uint64{1}))
	}
	if len(c.tables) != maxTables || c.find(fileID{ino: 0}) != nil || c.find(fileID{ino: 3*maxTables - 5}) == nil {
		t.Errorf("%d tables are kept", len(c.tables))
	}
	if c.tables[0].id.ino != 3*maxTables-5 {
		t.Errorf("the last used is not the first: %+v", c.tables[0].id)
	}
	half := make([]uint64, maxTableBlocks/2)
	for i := range 3 {
		c.keep(fileID{size: int64(i)}, &blockTable{hashes: half})
	}
	if len(c.tables) != 2 {
		t.Errorf("%d tables of half the bound each are kept", len(c.tables))
	}
	c.keep(fileID{}, &blockTable{hashes: make([]uint64, maxTableBlocks+1)})
	if len(c.tables) != 0 {
		t.Errorf("a table beyond the bound is kept with %d others", len(c.tables)-1)
	}
}
