package gvisor

import (
	"path/filepath"
	"testing"
	"time"
)

// A guest that fills its memory is put to sleep as well as others, and is held
// to its limit again when it goes on.
func TestRoomForACheckpoint(t *testing.T) {
	h := newHarness(t)
	s := h.spec("a", "fill", "200")
	s.MemoryBytes = 256 << 20
	h.must(h.Boot(t.Context(), s))
	h.said("a", "memory is")
	limit := s.MemoryBytes + MemoryOverhead(s.MemoryBytes)
	limits := func(want func(int64) bool) bool {
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			if n, err := h.cgroups.memory("a"); err == nil && want(n) {
				return true
			}
		}
		return false
	}
	for _, image := range []string{"image", "image2"} {
		h.must(h.Pause(t.Context(), "a"))
		h.checkpoint(t.Context(), "a", filepath.Join(h.dir, image))
		if !limits(func(n int64) bool { return n >= limit+200<<20 }) {
			t.Error("there was no room")
		}
		h.must(h.Resume(t.Context(), "a"))
		if !limits(func(n int64) bool { return n > 0 && n <= limit }) {
			t.Error("the limit stays raised")
		}
	}
	if u, err := h.Usage("a"); err != nil || u.OOMKilled {
		t.Errorf("Usage = %+v, %v", u, err)
	}
	b := h.twin("b", s)
	b.Paused = true
	h.must(h.Restore(t.Context(), b, filepath.Join(h.dir, "image2")))
	h.must(h.Resume(t.Context(), "b"))
}
