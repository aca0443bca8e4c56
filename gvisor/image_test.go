package gvisor

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// sleeper boots a guest, pauses it and returns its image.
func (h *harness) sleeper(id string, args ...string) (Spec, string) {
	h.t.Helper()
	s := h.spec(id, args...)
	h.must(h.Boot(h.t.Context(), s))
	h.said(id, "ready")
	h.must(h.Pause(h.t.Context(), id))
	image := filepath.Join(h.dir, "image-"+id)
	h.checkpoint(h.t.Context(), id, image)
	return s, image
}

// copyImage makes a copy to be damaged.
func (h *harness) copyImage(from, name string) string {
	h.t.Helper()
	to := filepath.Join(h.dir, name)
	h.must(os.RemoveAll(to))
	h.must(os.CopyFS(to, os.DirFS(from)))
	return to
}

// damages are ways in which a file can be spoilt.
var damages = map[string]func(path string, size int64) error{
	"first byte":  func(path string, _ int64) error { return flip(path, 0) },
	"middle byte": func(path string, size int64) error { return flip(path, size/2) },
	"last byte":   func(path string, size int64) error { return flip(path, size-1) },
	"shorter":     func(path string, size int64) error { return os.Truncate(path, size-1) },
	"half":        func(path string, size int64) error { return os.Truncate(path, size/2/4096*4096) },
	"longer":      func(path string, size int64) error { return os.Truncate(path, size+4096) },
	"empty":       func(path string, _ int64) error { return os.Truncate(path, 0) },
	"missing":     func(path string, _ int64) error { return os.Remove(path) },
	"directory":   func(path string, _ int64) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	"link": func(path string, _ int64) error {
		return errors.Join(os.Rename(path, path+"x"), os.Symlink(path+"x", path))
	},
}

func flip(path string, at int64) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[at] ^= 0x10
	return os.WriteFile(path, b, 0o600)
}

func imageNames(t *testing.T, image string) []string {
	t.Helper()
	entries, err := os.ReadDir(image)
	if err != nil || len(entries) != 4 {
		t.Fatalf("image has %v, %v", entries, err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Whatever is wrong with an image, a guest that is woken from it ends as
// ErrDamaged, without a program of it having run, and leaves nothing.
func TestDamagedImageIsRefused(t *testing.T) {
	h := newHarness(t)
	a, image := h.sleeper("a", "count")
	for _, name := range imageNames(t, image) {
		for what, damage := range damages {
			spoilt := h.copyImage(image, "spoilt")
			info, err := os.Stat(filepath.Join(spoilt, name))
			h.must(err)
			h.must(damage(filepath.Join(spoilt, name), info.Size()))
			s := h.twin("b", a)
			s.Paused = true
			if err := h.Restore(t.Context(), s, spoilt); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s of %s: %v", what, name, err)
				h.must(h.Destroy(t.Context(), "b"))
			}
			h.nothingOf("b")
			if b, err := os.ReadFile(s.LogFile); err == nil && len(b) != 0 {
				t.Errorf("%s of %s: the guest said %q", what, name, b)
			}
		}
	}
	h.wakes("b", image, a)
}

// twin is a guest with a copy of the other's root as it is now.
func (h *harness) twin(id string, of Spec) Spec {
	h.t.Helper()
	s := of
	s.ID, s.Hostname = id, id
	s.Rootfs, s.LogFile = filepath.Join(h.dir, "root-"+id), filepath.Join(h.dir, id+".log")
	h.must(os.RemoveAll(s.Rootfs))
	h.must(os.RemoveAll(s.LogFile))
	h.must(os.CopyFS(s.Rootfs, os.DirFS(of.Rootfs)))
	return s
}

// wakes checks that a good image restores.
func (h *harness) wakes(id, image string, of Spec) {
	h.t.Helper()
	s := h.twin(id, of)
	s.Paused = true
	h.must(h.Restore(h.t.Context(), s, image))
	h.must(h.Resume(h.t.Context(), id))
	h.counts(id, h.count(id))
	h.must(h.Destroy(h.t.Context(), id))
}

// Without looking at checksums gVisor may not see the damage; where it does, it
// ends in an error, soon, and neither worker nor guests suffer.
func TestDamagedImageWithoutChecksHurtsNobody(t *testing.T) {
	h := newHarness(t)
	a, image := h.sleeper("a", "count")
	for _, name := range imageNames(t, image) {
		for what, damage := range damages {
			spoilt := h.copyImage(image, "spoilt")
			info, err := os.Stat(filepath.Join(spoilt, name))
			h.must(err)
			h.must(damage(filepath.Join(spoilt, name), info.Size()))
			err = h.Restore(t.Context(), h.twin("b", a), spoilt)
			t.Logf("%s of %s: %v", what, name, err)
			if err != nil && !errors.Is(err, ErrDamaged) {
				t.Errorf("%s of %s: %v", what, name, err)
			}
			h.must(h.Destroy(t.Context(), "b"))
			h.nothingOf("b")
		}
	}
	h.wakes("b", image, a)
	h.must(h.Resume(t.Context(), "a"))
	h.counts("a", h.count("a"))
}

func TestFailedCheckpointLeavesNothing(t *testing.T) {
	h := newHarness(t)
	s, image := h.sleeper("a", "count")
	if _, err := h.Checkpoint(t.Context(), "a", image); err == nil {
		t.Error("a checkpoint was overwritten")
	}
	if _, err := h.Checkpoint(t.Context(), "a", filepath.Join(h.dir, "missing", "image")); err == nil {
		t.Error("a checkpoint was written into a missing directory")
	}
	if err := h.Seal(t.Context(), filepath.Join(h.dir, "missing")); err == nil {
		t.Error("a missing image was sealed")
	}
	entries, err := os.ReadDir(h.dir)
	h.must(err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("left behind: %s", e.Name())
		}
	}
	// It can be tried again, and the guest goes on.
	h.checkpoint(t.Context(), "a", image+"2")
	h.must(h.Seal(t.Context(), image+"2"))
	h.must(h.Seal(t.Context(), image+"2"))
	h.must(h.Resume(t.Context(), s.ID))
	h.counts("a", h.count("a"))
}

// A large memory is still being loaded when its guest wakes, and may go to sleep
// again meanwhile. Not a byte of it is wrong at any time.
func TestLargeMemoryIsLoadedWhileTheGuestRuns(t *testing.T) {
	h := newHarness(t)
	s := h.spec("a", "fill", "256", "16", "again")
	h.must(h.Boot(t.Context(), s))
	h.said("a", "memory is")
	h.must(h.Pause(t.Context(), "a"))
	image := filepath.Join(h.dir, "image")
	h.checkpoint(t.Context(), "a", image)
	h.must(h.Destroy(t.Context(), "a"))
	for i := range 5 {
		b := h.twin(fmt.Sprint("b", i), s)
		b.Paused = true
		h.must(h.Restore(t.Context(), b, image))
		next := image
		if i%2 == 1 { // it slept before it ran
			next = fmt.Sprint(image, i)
			h.checkpoint(t.Context(), b.ID, next)
		}
		h.must(h.Resume(t.Context(), b.ID))
		if i > 2 {
			h.must(h.Pause(t.Context(), b.ID))
			next = fmt.Sprint(image, i, "again")
			h.checkpoint(t.Context(), b.ID, next)
			h.must(h.Resume(t.Context(), b.ID))
		}
		image = next
		h.said(b.ID, "memory is")
		if b, err := os.ReadFile(b.LogFile); err != nil || bytes.Contains(b, []byte("changed")) {
			t.Errorf("after %d sleeps: %s, %v", i, b, err)
		}
		h.must(h.Destroy(t.Context(), b.ID))
	}
}

// An image tells its size, and has none of the memory that is zero, even if it
// was written to once.
func TestZeroPagesAreNotStored(t *testing.T) {
	h := newHarness(t)
	s := h.spec("a", "fill", "8", "64")
	h.must(h.Boot(t.Context(), s))
	h.said("a", "memory is")
	h.must(h.Pause(t.Context(), "a"))
	dir := filepath.Join(h.dir, "image")
	image, err := h.Checkpoint(t.Context(), "a", dir)
	h.must(err)
	if image.Key != h.ImageKey() || image.Bytes < 8<<20 || image.Bytes > 24<<20 {
		t.Errorf("Checkpoint = %+v", image)
	}
	pages, err := os.ReadFile(filepath.Join(dir, "pages.img"))
	h.must(err)
	zero := make([]byte, 4096)
	for at := 0; at < len(pages); at += len(zero) {
		if bytes.Equal(pages[at:min(at+len(zero), len(pages))], zero) {
			t.Fatalf("the page at %d is zero", at)
		}
	}
}

func TestImageOfAnotherVersionOrProcessor(t *testing.T) {
	h := newHarness(t)
	a, image := h.sleeper("a", "count")
	version, cpu := cutKey(h.ImageKey())
	for _, c := range []struct{ key, want string }{
		{"v0-" + cpu, "gVisor v0, and this is gVisor " + version},
		{version + "-amd64-0123456789ab", "other features (amd64-0123456789ab) than this one has (" + cpu + ")"},
		{"nonsense", "gVisor nonsense"},
	} {
		other := h.copyImage(image, "other")
		read, err := protocol.ReadImage(other)
		h.must(err)
		read.Key = c.key
		h.must(protocol.WriteImage(other, read))
		s := h.twin("b", a)
		s.Paused = true
		err = h.Restore(t.Context(), s, other)
		if !errors.Is(err, ErrIncompatible) || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.key, err)
		}
		h.nothingOf("b")
	}
}

// TestVersionsSideBySide is an upgrade: guests of the version before stay on it,
// through sleep and a change of daemons, and new ones use the new one.
func TestVersionsSideBySide(t *testing.T) {
	h := newHarness(t)
	older := filepath.Join(h.dir, "older")
	t.Setenv("ATOLL_SNAPSHOT_LEVEL", "0")
	run("./build.sh", older)
	newer := h.cfg.BinDir
	h.must(h.Close())
	h.cfg.BinDir = older
	h.open()
	oldKey := h.ImageKey()
	a, image := h.sleeper("a", "count")
	root := []Spec{h.twin("root0", a), h.twin("root1", a)}
	h.must(h.Resume(t.Context(), "a"))
	h.must(h.Close())

	h.cfg.BinDir = newer // the upgrade
	h.open()
	if key, err := h.ImageKeyOf(older); err != nil || key != oldKey || key == h.ImageKey() {
		t.Errorf("ImageKeyOf the older = %q, %v, want %q; the current is %q", key, err, oldKey, h.ImageKey())
	}
	if l := h.List(t.Context()); len(l) != 1 || !l[0].Alive {
		t.Fatalf("List = %+v", l)
	}
	h.counts("a", h.count("a"))
	h.must(h.Pause(t.Context(), "a"))
	again, err := h.Checkpoint(t.Context(), "a", image+"-again")
	if err != nil || again.Key != oldKey {
		t.Errorf("Checkpoint = %+v, %v", again, err)
	}
	root[1] = h.twin("root1", a)
	h.must(h.Resume(t.Context(), "a"))

	b := h.twin("b", root[0])
	b.Paused = true
	if err := h.Restore(t.Context(), b, image); !errors.Is(err, ErrIncompatible) || !strings.Contains(err.Error(), "gVisor v") {
		t.Errorf("on the newer version: %v", err)
	}
	b.Paused = false // gVisor itself refuses
	if err := h.Restore(t.Context(), b, image); !errors.Is(err, ErrIncompatible) {
		t.Errorf("on the newer version, unpaused: %v", err)
	}
	h.nothingOf("b")
	for i, from := range []string{image, image + "-again"} {
		s := h.twin(fmt.Sprint("b", i), root[i])
		s.BinDir, s.Paused = older, true
		h.must(h.Restore(t.Context(), s, from))
		h.must(h.Resume(t.Context(), s.ID))
		h.counts(s.ID, h.count(s.ID))
	}
	h.must(h.Boot(t.Context(), h.spec("c", "count")))
	h.counts("c", 1)
	// Its workers end when nobody needs them, and start again.
	old := h.helpers[older]
	control, worker := old.control, <-old.pool.idle
	old.pool.idle <- worker
	old.rest()
	<-control.gone
	<-worker.gone
	h.must(h.Pause(t.Context(), "a"))
	h.must(h.Resume(t.Context(), "a"))
	// With the version gone its guests can be talked to, but not be put to sleep.
	h.must(h.Close())
	h.must(os.RemoveAll(older))
	h.open()
	h.must(h.Pause(t.Context(), "a"))
	if _, err := h.Checkpoint(t.Context(), "a", image+"-late"); !errors.Is(err, ErrIncompatible) {
		t.Errorf("a checkpoint without its version: %v", err)
	}
	s := h.twin("d", root[0])
	s.BinDir, s.Paused = older, true
	if err := h.Restore(t.Context(), s, image); !errors.Is(err, ErrIncompatible) {
		t.Errorf("a restore without its version: %v", err)
	}
	if _, err := os.Stat(image + "-late"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
