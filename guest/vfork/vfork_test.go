package vfork_test

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/guest/vfork"
)

// run starts a shell script and returns what it wrote to descriptors 1 and 2.
func run(t *testing.T, p vfork.Program, script string) string {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	p.Path, p.Args = "/bin/sh", []string{"a shell", "-c", script}
	if p.Files == nil {
		p.Files = []uintptr{null.Fd(), write.Fd(), write.Fd()}
	} else {
		p.Files[1] = write.Fd()
	}
	pid, err := vfork.Start(p)
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if _, err := read.WriteTo(&out); err != nil {
		t.Error(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status.ExitStatus() != 0 {
		t.Errorf("%s: ended with %v, %v", script, status, err)
	}
	return strings.TrimSpace(out.String())
}

func TestProgramsGetWhatWasAskedFor(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, script, want string
		p                  vfork.Program
	}{
		{"name", "echo $0", "a shell", vfork.Program{}},
		{"environment", "echo $A$B", "onetwo", vfork.Program{Env: []string{"A=one", "B=two"}}},
		{"no environment", "echo ${HOME:-none}", "none", vfork.Program{}},
		{"folder", "pwd", dir, vfork.Program{Dir: dir}},
		{"error output", "echo out; echo err >&2", "out\nerr", vfork.Program{}},
		{"its descriptors alone", `ls -l /proc/$$/fd | grep -cF $(readlink /proc/$$/fd/1)`, "2", vfork.Program{}},
		{"a session of its own", `set -- $(cat /proc/$$/stat); [ $6 = $$ ] && echo yes`, "yes", vfork.Program{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := run(t, c.p, c.script); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestProgramsRunAsTheirUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root")
	}
	user := &syscall.Credential{Uid: 4711, Gid: 4712, Groups: []uint32{4713, 4714}}
	if got := run(t, vfork.Program{User: user}, "id -u; id -G"); got != "4711\n4712 4713 4714" {
		t.Errorf("%q", got)
	}
	if got := run(t, vfork.Program{User: &syscall.Credential{Uid: 4711, Gid: 4712}}, "id -G"); got != "4712" {
		t.Errorf("without further groups: %q", got)
	}
}

// A signal that this process handles must not be handled, ignored or blocked in
// programs that it starts.
func TestSignalsAreAsUsual(t *testing.T) {
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, syscall.SIGTERM, syscall.SIGUSR1)
	defer signal.Stop(taken)
	own, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	got := run(t, vfork.Program{}, "exec cat /proc/self/status")
	for _, want := range []string{
		"SigBlk:\t0000000000000000\n",
		"SigCgt:\t0000000000000000\n",
		regexp.MustCompile("SigIgn:.*\n").FindString(string(own)), // what this one was told to ignore
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
	// And still are in this one.
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	<-taken
}

func TestDescriptorsMaySwapPlaces(t *testing.T) {
	file := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(file, []byte("input\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	// What is this process's descriptor 2 becomes the program's 0, and what is
	// its 0 becomes 2.
	saved := map[int]int{}
	for _, fd := range []int{0, 2} {
		if saved[fd], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := unix.Dup3(saved[fd], fd, 0); err != nil {
				t.Error(err)
			}
			unix.Close(saved[fd])
		}()
	}
	if err := unix.Dup3(int(in.Fd()), 2, 0); err != nil {
		t.Fatal(err)
	}
	if got := run(t, vfork.Program{Files: []uintptr{2, 0, 0}}, "cat"); got != "input" {
		t.Errorf("%q", got)
	}
}

func TestErrorsAreThoseOfTheCallThatFailed(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		p    vfork.Program
		want syscall.Errno
	}{
		"no such program":   {vfork.Program{Path: "/no/such"}, syscall.ENOENT},
		"not executable":    {vfork.Program{Path: "/etc/passwd"}, syscall.EACCES},
		"not a program":     {vfork.Program{Path: text}, syscall.ENOEXEC},
		"no such folder":    {vfork.Program{Path: "/bin/true", Dir: "/no/such"}, syscall.ENOENT},
		"closed descriptor": {vfork.Program{Path: "/bin/true", Files: []uintptr{1 << 20}}, syscall.EBADF},
		"no terminal":       {vfork.Program{Path: "/bin/true", Files: []uintptr{closedPipe(t)}, Terminal: true}, syscall.ENOTTY},
		"too long":          {vfork.Program{Path: "/bin/true", Args: []string{strings.Repeat("x", 1<<20)}}, syscall.E2BIG},
		"NUL in the path":   {vfork.Program{Path: "/bin/\x00true"}, syscall.EINVAL},
		"NUL in the folder": {vfork.Program{Path: "/bin/true", Dir: "/\x00"}, syscall.EINVAL},
		"NUL in the args":   {vfork.Program{Path: "/bin/true", Args: []string{"\x00"}}, syscall.EINVAL},
		"NUL in a variable": {vfork.Program{Path: "/bin/true", Env: []string{"A=\x00"}}, syscall.EINVAL},
	} {
		if _, err := vfork.Start(c.p); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("children are left: %v", err)
	}
}

func closedPipe(t *testing.T) uintptr {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close() })
	write.Close()
	return read.Fd()
}

// Stacks that grow and memory that is collected meanwhile do no harm.
func TestManyAtOnce(t *testing.T) {
	stop := make(chan struct{})
	var busy, all sync.WaitGroup
	busy.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	for range 8 {
		all.Go(func() {
			for range 25 {
				if got := run(t, vfork.Program{Env: []string{"A=" + strings.Repeat("a", 1000)}, Dir: "/"}, "echo ${#A} $PWD"); got != "1000 /" {
					t.Errorf("%q", got)
				}
			}
		})
	}
	all.Wait()
	close(stop)
	busy.Wait()
}
