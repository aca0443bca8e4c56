package test

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

//go:embed programs
var programs embed.FS

// program is the text of one that runs in sandboxes.
func program(t testing.TB, name string) string {
	t.Helper()
	b, err := programs.ReadFile("programs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// run starts a program in the sandbox, leaves it to itself, and waits until it
// listens on a port.
func (b sandbox) run(name string, port int) {
	b.s.t.Helper()
	interpreter := "python3"
	if strings.HasSuffix(name, ".mjs") {
		interpreter = "node"
	}
	b.put("/root/answer.py", program(b.s.t, "answer.py"))
	b.put("/root/"+name, program(b.s.t, name))
	b.start(fmt.Sprintf("cd /root && exec %s %s >/tmp/%s.out 2>&1", interpreter, name, name))
	probe := fmt.Sprintf("python3 -c \"import socket; socket.create_connection(('127.0.0.1', %d), 1)\"", port)
	b.must(fmt.Sprintf("for i in $(seq 200); do %s 2>/dev/null && exit 0; sleep 0.05; done; cat /tmp/%s.out >&2; exit 1", probe, name))
}

// check asks a program whether all is well with it.
func (b sandbox) check(when string) {
	b.s.t.Helper()
	code, body, err := b.get(8000, "/")
	if err != nil || code != 200 {
		b.s.t.Errorf("%s, in %s: %d %s %v", when, b.SandboxID, code, body, err)
	}
}

// strained are programs that a checkpoint is hard on.
var strained = []string{
	"mapped.py", "notify.py", "pipes.py", "pool.py", "sockets.py", "tls.py", "unlinked.py", "wal.py", "workers.mjs",
}

// TestProgramsGoOn lets programs that a checkpoint is hard on sleep in every
// depth, wake, and be copied, and asks them each time whether they lost anything.
func TestProgramsGoOn(t *testing.T) {
	s := up(t, "--linger", "500ms")
	for _, name := range strained {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			strain(s.in(t), name)
		})
	}
}

func strain(s *server, name string) {
	b := s.create(time.Hour)
	defer b.kill()
	b.run(name, 8000)
	b.check("from the start")
	b.pause()
	b.resume() // most likely while its memory lingers
	b.check("after a short sleep")
	for i := range 2 {
		b.sleepOnDisk()
		b.resume()
		b.check(fmt.Sprintf("after %d long sleeps", i+1))
	}
	copies := b.fork(2)
	for _, c := range append(copies, b) {
		c.check("after a fork")
	}
	copies[0].kill()
	copies[1].sleepOnDisk()
	b.kill()
	copies[1].resume()
	copies[1].check("a copy after its sleep")
	copies[1].kill()
}

// sleepOnDisk pauses the sandbox and waits until nothing of it is in memory.
func (b sandbox) sleepOnDisk() {
	b.s.t.Helper()
	b.pause()
	until(b.s.t, "its memory to be given back", func() bool {
		return !slices.ContainsFunc(cgroups(b.s.t), func(path string) bool { return strings.Contains(path, b.SandboxID) })
	})
}
