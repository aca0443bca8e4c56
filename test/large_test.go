package test

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestMuchMemoryIsWhole wakes a sandbox with much memory and does the next thing
// to it at once, while its memory may still be on its way.
func TestMuchMemoryIsWhole(t *testing.T) {
	s := up(t, onDisk...)
	t.Cleanup(s.clearSnapshots)
	b := s.create(time.Hour)
	b.run("large.py", 8000)
	for _, next := range []struct {
		what string
		do   func()
	}{
		{"nothing", func() {}},
		{"pause", func() {
			for range 3 {
				b.pause()
				b.resume()
			}
		}},
		{"fork", func() {
			for _, c := range b.fork(2) {
				c.check("a copy")
				c.kill()
			}
		}},
		{"snapshot", func() {
			snapshot, err := s.Client.Snapshot(t.Context(), b.SandboxID, "")
			if err != nil {
				t.Fatal(err)
			}
			c := s.createOf(snapshot.SnapshotID)
			c.check("one of the snapshot")
			c.kill()
		}},
		{"the server's end", func() {
			s.Kill()
			s.start()
		}},
		{"the server's end, asleep", func() {
			b.pause()
			s.Kill()
			s.start()
			b.resume()
		}},
		{"an orderly restart", func() {
			s.end(syscall.SIGTERM)
			s.start()
		}},
	} {
		b.pause()
		b.resume()
		next.do()
		b.check("after " + next.what)
		if t.Failed() {
			return
		}
	}
}

// TestMuchDamagedMemoryIsRefused damages the image of much memory: a resume says
// so, and the sandbox is not lost over it.
func TestMuchDamagedMemoryIsRefused(t *testing.T) {
	s := up(t, onDisk...)
	b := s.create(time.Hour)
	b.put("/root/kept", "on the disk")
	b.run("large.py", 8000)
	b.pause()
	until(t, "its memory to be summed up", func() bool {
		manifest, err := os.ReadFile(filepath.Join(imageFolder(b.SandboxID), "image.json"))
		return err == nil && !bytes.Contains(manifest, []byte("unsummed"))
	})
	flip(t, b.SandboxID, "pages.img")
	b.refuses("one byte of much memory")
	flip(t, b.SandboxID, "pages.img")
	b.resume()
	b.check("with the byte mended")
	b.pause()
	b.reboot()
	if got := b.must("cat /root/kept"); got != "on the disk" {
		t.Errorf("from its disk it has %q", got)
	}
}
