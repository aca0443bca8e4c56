package test

import (
	"bytes"
	"encoding/json"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

// imageFolder is where the memory of a paused sandbox is on the disk.
func imageFolder(id string) string {
	return filepath.Join(dataDir, "disks", "pool", "trees", "memories", "@", id)
}

// TestADamagedImageIsRefused changes what is on the disk of a paused sandbox's
// memory. A resume says so, the sandbox stays paused, and it wakes once the
// damage is mended, or from its disk alone.
func TestADamagedImageIsRefused(t *testing.T) {
	s := up(t, onDisk...)
	b := s.create(time.Hour)
	b.put("/root/kept", "on the disk")
	b.put("/dev/shm/kept", "in memory")
	for _, damage := range []struct {
		name string
		do   func([]byte) []byte
	}{
		{"a byte in the middle", func(c []byte) []byte { c[len(c)/2] ^= 1; return c }},
		{"the first byte", func(c []byte) []byte { c[0] ^= 0x80; return c }},
		{"the last byte", func(c []byte) []byte { c[len(c)-1] ^= 1; return c }},
		{"cut off at half", func(c []byte) []byte { return c[:len(c)/2] }},
		{"one byte too short", func(c []byte) []byte { return c[:len(c)-1] }},
		{"one byte too long", func(c []byte) []byte { return append(c, 0) }},
		{"empty", func([]byte) []byte { return nil }},
		{"zeros at the end", func(c []byte) []byte { clear(c[len(c)*3/4:]); return c }},
	} {
		t.Run(damage.name, func(t *testing.T) {
			b := sandbox{b.Sandbox, s.in(t)}
			b.pause()
			for _, file := range imageFiles(t, b.SandboxID) {
				intact, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				damaged := damage.do(bytes.Clone(intact))
				if bytes.Equal(intact, damaged) {
					continue
				}
				if err := os.WriteFile(file, damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				b.refuses(filepath.Base(file))
				if err := os.WriteFile(file, intact, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			b.resume()
			if got := b.must("cat /root/kept /dev/shm/kept"); got != "on the diskin memory" {
				t.Errorf("after the damage was mended it has %q", got)
			}
		})
	}
	t.Run("a file is missing", func(t *testing.T) {
		b := sandbox{b.Sandbox, s.in(t)}
		b.pause()
		for _, file := range imageFiles(t, b.SandboxID) {
			if err := os.Rename(file, file+".away"); err != nil {
				t.Fatal(err)
			}
			b.refuses(filepath.Base(file))
			if err := os.Rename(file+".away", file); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.RemoveAll(imageFolder(b.SandboxID)); err != nil {
			t.Fatal(err)
		}
		b.refuses("all of it")
		b.reboot()
		if got := b.must("cat /root/kept; test -e /dev/shm/kept || echo"); got != "on the disk" {
			t.Errorf("from its disk it has %q", got)
		}
		b.pause()
		b.resume()
		b.alive()
	})
}

// imageFiles are the files of a paused sandbox's memory, and all that is left of
// it: a guest that still lingered would be resumed without a look at them.
func imageFiles(t *testing.T, id string) []string {
	t.Helper()
	until(t, "its processes to end", func() bool { return killGuest(t, id) == 0 })
	files, err := filepath.Glob(filepath.Join(imageFolder(id), "*"))
	if err != nil || len(files) < 3 {
		t.Fatalf("the image of %s has the files %v: %v", id, files, err)
	}
	return files
}

// refuses fails the test unless a resume is refused with a sentence that says
// what can be done, and changes nothing.
func (b sandbox) refuses(what string) {
	b.s.t.Helper()
	err := b.tryResume(client.ResumeOptions{})
	if client.Status(err) != 409 || !bytes.Contains([]byte(err.Error()), []byte("reboot")) {
		b.s.t.Errorf("%s: a resume answers %d: %v", what, client.Status(err), err)
	}
	if now := b.now(); now.State != client.StatePaused {
		b.s.t.Errorf("%s: it is %s after a resume that failed", what, now.State)
	}
}

// TestAnImageOfAnotherVersionIsRefused gives the memory of a paused sandbox
// the key of another runtime.
func TestAnImageOfAnotherVersionIsRefused(t *testing.T) {
	s := up(t, onDisk...)
	b := s.create(time.Hour)
	b.put("/root/kept", "on the disk")
	b.pause()
	path := filepath.Join(imageFolder(b.SandboxID), "image.json")
	var manifest struct {
		Image json.RawMessage `json:"image"`
		CRC   uint32          `json:"crc32c"`
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &manifest); err != nil {
		t.Fatal(err)
	}
	image := bytes.Replace(manifest.Image, []byte(`"key":"v`), []byte(`"key":"w`), 1)
	if bytes.Equal(image, manifest.Image) {
		t.Fatalf("the manifest has no key: %s", content)
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	if crc32.Checksum(manifest.Image, table) != manifest.CRC {
		t.Fatalf("the manifest's checksum is not that of %s", manifest.Image)
	}
	manifest.Image, manifest.CRC = image, crc32.Checksum(image, table)
	if content, err = json.Marshal(manifest); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	b.refuses("another version")
	b.reboot()
	if got := b.must("cat /root/kept"); got != "on the disk" {
		t.Errorf("from its disk it has %q", got)
	}
}

// flip changes a byte in the middle of a file of a paused sandbox's memory.
func flip(t *testing.T, id, file string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(imageFolder(id), file), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], info.Size()/2); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], info.Size()/2); err != nil {
		t.Fatal(err)
	}
}
