package test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

const (
	// slack is how much the server's own memory may grow while a sandbox
	// does its worst; a multiple of it would have to be held for any of the
	// attacks below to be buffered.
	slack = 96 << 20
	// attackTime is how long an attack that does not end is watched.
	attackTime = 5 * time.Second
)

// attack is one thing that a hostile sandbox does.
type attack struct {
	name   string
	script string
	check  func(t *testing.T, bad sandbox) // what must hold for the attacker itself
}

func TestOnlyTheAttackerSuffers(t *testing.T) {
	s := up(t)
	good := s.create(30 * time.Minute)
	good.must("mkdir -p /work")
	rest := memory(t, s)
	free := available(t)
	for _, a := range []attack{
		{name: "fork bomb", script: `b() { b | b & }; b; wait`},
		{name: "fork bomb that keeps trying", script: `while :; do sleep 600 & done 2>/dev/null`},
		{name: "memory bomb", script: `python3 -c "
a = []
while True: a.append(bytearray(64 << 20))"`, check: func(t *testing.T, bad sandbox) {
			if used := free - available(t); used > int64(bad.MemoryMB)<<20+(512<<20) {
				t.Errorf("the host gave %d MiB for a sandbox of %d", used>>20, bad.MemoryMB)
			}
		}},
		{name: "memory in a file", script: `dd if=/dev/zero of=/dev/shm/fill bs=1M; dd if=/dev/zero of=/tmp/fill bs=1M count=4096`},
		{name: "every processor", script: `for i in $(seq 64); do (while :; do :; done) & done; wait`},
		{name: "ten thousand sockets", script: `python3 -c "
import socket
a = []
while True:
    try: a.append(socket.create_connection(('127.0.0.1', 49983)))
    except OSError: pass"`},
		{name: "a log of endless lines", script: `while :; do echo line > /proc/1/fd/1; done 2>/dev/null; yes > /dev/console`},
	} {
		t.Run(a.name, func(t *testing.T) {
			bad := s.create(30 * time.Minute)
			bad.start(a.script)
			end := time.Now().Add(attackTime)
			for n := 0; time.Now().Before(end); n++ {
				serves(t, good)
				if n == 0 {
					fresh := s.create(time.Minute)
					serves(t, fresh)
					remove(t, fresh)
				}
			}
			if a.check != nil {
				a.check(t, bad)
			}
			if now := memory(t, s); now > rest+slack {
				t.Errorf("the server's memory grew from %d to %d MiB", rest>>20, now>>20)
			}
			remove(t, bad)
		})
	}
}

func TestFullDisk(t *testing.T) {
	s := up(t)
	good, bad := s.create(30*time.Minute), s.create(30*time.Minute)
	out, err := bad.long(5*time.Minute, `dd if=/dev/zero of=/fill bs=4M 2>&1; df -B1 --output=avail / | tail -1`)
	if err != nil {
		t.Fatalf("the full sandbox does not answer: %v", err)
	}
	if !strings.Contains(out, "No space left") && !strings.Contains(out, "Disk quota exceeded") {
		t.Errorf("writing did not end for want of space: %s", out)
	}
	serves(t, good)
	good.must("dd if=/dev/zero of=/work-file bs=1M count=64 && rm /work-file")
	err = bad.guest().Upload(t.Context(), "/home/user/more", strings.NewReader(strings.Repeat("x", 32<<20)))
	if client.Status(err) != http.StatusInsufficientStorage {
		t.Errorf("an upload to a full disk: %v, want status 507", err)
	}
	bad.must("rm -f /fill /home/user/more")
	until(t, "room after removing", func() bool { _, err := bad.sh("dd if=/dev/zero of=/again bs=1M count=16"); return err == nil })
}

func TestMillionFiles(t *testing.T) {
	count := 1_000_000
	if testing.Short() {
		count = 50_000
	}
	s := up(t)
	good, bad := s.create(30*time.Minute), s.create(30*time.Minute)
	rest := memory(t, s)
	done := make(chan error, 1)
	go func() {
		out, err := bad.long(20*time.Minute, fmt.Sprintf(`python3 -c "
import os
made = 0
try:
    for i in range(%d):
        if i %% 1000 == 0: os.makedirs('/many/%%d' %% (i // 1000))
        os.close(os.open('/many/%%d/%%d' %% (i // 1000, i), os.O_CREAT | os.O_WRONLY))
        made += 1
except OSError as e:
    print(e)
print(made)"`, count))
		t.Logf("made %s of %d files", out, count)
		done <- err
	}()
	for finished := false; !finished; {
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the sandbox with many files: %v", err)
			}
			finished = true
		default:
			serves(t, good)
		}
	}
	bad.alive()
	if now := memory(t, s); now > rest+slack {
		t.Errorf("the server's memory grew from %d to %d MiB", rest>>20, now>>20)
	}
	began := time.Now()
	remove(t, bad)
	t.Logf("ending it took %v", time.Since(began))
}

// counter counts what is written to it.
type counter struct{ n atomic.Int64 }

func (c *counter) Write(p []byte) (int, error) { c.n.Add(int64(len(p))); return len(p), nil }

func TestGigabyteOfOutput(t *testing.T) {
	s := up(t)
	good, bad := s.create(30*time.Minute), s.create(30*time.Minute)
	rest := memory(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	p, err := bad.guest().Start(ctx, client.Command{Path: "/usr/bin/head", Args: []string{"-c", strconv.Itoa(1 << 30), "/dev/zero"}})
	if err != nil {
		t.Fatal(err)
	}
	var seen counter
	done := make(chan error, 1)
	go func() { _, err := p.Copy(&seen, &seen); done <- err }()
	for finished := false; !finished; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			finished = true
		default:
			serves(t, good)
			if now := memory(t, s); now > rest+slack {
				t.Fatalf("the server's memory grew from %d to %d MiB", rest>>20, now>>20)
			}
		}
	}
	if seen.n.Load() != 1<<30 {
		t.Errorf("%d bytes arrived", seen.n.Load())
	}
}

// TestOutputNobodyReads leaves a stream unread: the writer inside must wait,
// and nothing on the way may keep what it writes.
func TestOutputNobodyReads(t *testing.T) {
	s := up(t)
	b := s.create(30 * time.Minute)
	rest := memory(t, s)
	p, err := b.guest().Start(t.Context(), client.Command{Path: "/bin/bash", Args: []string{"-c", "while head -c 1048576 /dev/zero; do echo >> /tmp/blocks; done"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	blocks := func() string { out, _ := b.sh("wc -l < /tmp/blocks"); return out }
	last := ""
	until(t, "the writer to wait", func() bool {
		now := blocks()
		same := now == last && now != ""
		last = now
		if !same {
			return false
		}
		<-time.After(time.Second)
		return blocks() == now
	})
	if n, _ := strconv.Atoi(last); n > 200 {
		t.Errorf("%d MiB were taken though nobody reads", n)
	}
	if now := memory(t, s); now > rest+slack {
		t.Errorf("the server's memory grew from %d to %d MiB", rest>>20, now>>20)
	}
}

// serves is what a sandbox that does not suffer does: runs a command and
// writes a file.
func serves(t *testing.T, b sandbox) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := b.guest().Output(ctx, client.Command{Path: "/bin/echo", Args: []string{"fine"}}, 100)
	if err != nil || string(out) != "fine\n" {
		t.Fatalf("a sandbox that did nothing wrong: %q, %v", out, err)
	}
	if err := b.guest().Upload(ctx, "/home/user/small", strings.NewReader("small")); err != nil {
		t.Fatalf("a sandbox that did nothing wrong cannot write: %v", err)
	}
}

// remove ends a sandbox, which must always be possible.
func remove(t *testing.T, b sandbox) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.s.Client.Kill(ctx, b.SandboxID); err != nil && !client.IsNotFound(err) {
		t.Fatalf("end %s: %v", b.SandboxID, err)
	}
}

// memory is what the server itself holds, in bytes, without pages of files.
func memory(t testing.TB, s *server) int64 {
	t.Helper()
	return field(t, fmt.Sprintf("/proc/%d/status", s.PID()), "RssAnon:")
}

func available(t testing.TB) int64 {
	t.Helper()
	return field(t, "/proc/meminfo", "MemAvailable:")
}

// field reads one number of kilobytes from a file of /proc.
func field(t testing.TB, path, name string) int64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("%s has no %s", path, name)
	return 0
}
