package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/client/doortest"
)

// asAtoll is the variable that makes the test's binary the program itself.
const asAtoll = "ATOLL_TEST_AS_ATOLL"

func TestMain(m *testing.M) {
	if os.Getenv(asAtoll) != "" {
		main()
	}
	doortest.Main(m)
}

// withGuest is a command line whose sandboxes are the real guest daemon, and one
// sandbox, box1.
func withGuest(t *testing.T) (cli, *doortest.Door) {
	d := doortest.New(t, doortest.StartGuest(t))
	d.Add(client.Sandbox{SandboxID: "box1", EnvdAccessToken: doortest.GuestToken})
	return at(t, d), d
}

func TestExecPassesEverythingThrough(t *testing.T) {
	c, _ := withGuest(t)
	c.env["PASSED"] = "on"
	c.in = "from stdin\n"
	got := c.run("exec", "-u", "root", "-e", "A=1", "-e", "PASSED", "-w", "/tmp", "box", "--", "sh", "-c", "cat; echo $A $PASSED $PWD; echo err >&2; exit 7")
	if want := (result{"from stdin\n1 on /tmp\n", "err\n", 7}); got != want {
		t.Errorf("%+v", got)
	}
	for script, code := range map[string]int{"exit 0": 0, "kill -KILL $$": 137, "exit 125": 125} {
		if got := c.run("exec", "-u", "root", "box1", "--", "sh", "-c", script); got.code != code || got.err != "" {
			t.Errorf("%s: %+v", script, got)
		}
	}
	if got := c.run("exec", "-u", "root", "box1", "--", "no-such-program"); got.code != codeNotFound || !strings.Contains(got.err, "hint: is \"no-such-program\" installed") {
		t.Errorf("%+v", got)
	}
	if got := c.run("exec", "-u", "root", "box1", "--", "/etc/passwd"); got.code != codeNotExecutable {
		t.Errorf("%+v", got)
	}
	if got := c.run("exec", "-u", "root", "box1", "--", "ls", "--json"); got.code != 2 || !strings.Contains(got.err, "--json") {
		t.Errorf("a flag after -- is the program's: %+v", got)
	}
}

func TestRunMakesAndRemoves(t *testing.T) {
	c, d := withGuest(t)
	got := c.run("run", "-v", "-u", "root", "--", "sh", "-c", "echo hi; exit 4")
	if got.out != "hi\n" || got.code != 4 || len(d.IDs()) != 1 {
		t.Errorf("%+v, left: %v", got, d.IDs())
	}
	for _, step := range []string{"create sandbox", "run program", "remove sandbox", " ms"} {
		if !strings.Contains(got.err, step) {
			t.Errorf("-v does not tell of %q: %s", step, got.err)
		}
	}
	if got := c.run("run", "-u", "root", "--", "no-such-program"); got.code != codeNotFound || len(d.IDs()) != 1 {
		t.Errorf("%+v, left: %v", got, d.IDs())
	}
	if got := c.run("run", "-u", "root", "--rm=false", "--", "true"); got.code != 0 || len(d.IDs()) != 2 || !strings.Contains(got.err, "atoll kill") {
		t.Errorf("%+v, left: %v", got, d.IDs())
	}
}

func TestSignalsGoToTheProgram(t *testing.T) {
	c, d := withGuest(t)
	r, w := io.Pipe()
	type answer struct {
		code int
		err  string
	}
	done := make(chan answer, 1)
	go func() {
		var errw bytes.Buffer
		code := run([]string{"run", "-u", "root", "--", "sh", "-c", "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"},
			strings.NewReader(""), w, &errw, func(k string) string { return c.env[k] })
		w.Close()
		done <- answer{code, errw.String()}
	}()
	buf := make([]byte, 6)
	if _, err := io.ReadFull(r, buf); err != nil {
		t.Fatal(err)
	}
	// To this process, as a terminal would send it.
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err != nil || string(rest) != "caught\n" {
		t.Errorf("then came %q, %v", rest, err)
	}
	if got := <-done; got.code != 5 || len(d.IDs()) != 1 {
		t.Errorf("%+v, left: %v", got, d.IDs())
	}
}

func TestSessionOutlivesItsConnection(t *testing.T) {
	c, d := withGuest(t)
	stop := filepath.Join(t.TempDir(), "stop")
	r, w := io.Pipe()
	done := make(chan int, 1)
	var errw bytes.Buffer
	go func() {
		done <- run([]string{"exec", "box1", "--", "sh", "-c", "while :; do echo tick; sleep 0.02; test -e " + stop + " && exit 3; done"},
			strings.NewReader(""), w, &errw, func(k string) string { return c.env[k] })
		w.Close()
	}()
	tick := make([]byte, 5)
	for n := range 20 {
		if _, err := io.ReadFull(r, tick); err != nil || string(tick) != "tick\n" {
			t.Fatalf("%q, %v", tick, err)
		}
		if n%7 == 6 {
			d.Break()
		}
	}
	if err := os.WriteFile(stop, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	if code := <-done; code != 3 || !strings.Contains(errw.String(), "the connection broke and is back") {
		t.Errorf("exit code %d, %s", code, errw.String())
	}
}

func TestDemo(t *testing.T) {
	_, d := withGuest(t)
	var out bytes.Buffer
	err := demo(t.Context(), &out, d.Client(t), credentials{APIKey: "e2b_1", APIURL: d.URL})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"20! = 2432902008176640000", "hello from inside", "create sandbox", "run python3 demo.py", "remove sandbox", "export E2B_API_KEY=e2b_1\n", "export E2B_SANDBOX_URL=" + d.URL} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
	if len(d.IDs()) != 1 {
		t.Errorf("left: %v", d.IDs())
	}
}

func TestOutputThatNobodyReadsEndsTheProgram(t *testing.T) {
	c, d := withGuest(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	code := run([]string{"run", "--", "yes"}, strings.NewReader(""), w, io.Discard, func(k string) string { return c.env[k] })
	if code != codeSignal+int(syscall.SIGPIPE) || len(d.IDs()) != 1 {
		t.Errorf("exit code %d, left: %v", code, d.IDs())
	}
}

func TestShellFollowsTheTerminal(t *testing.T) {
	c, _ := withGuest(t)
	c.env["TERM"] = "vt100"
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	if err := pty.Setsize(slave, &pty.Winsize{Rows: 33, Cols: 101}); err != nil {
		t.Fatal(err)
	}
	before, err := term.GetState(int(slave.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	screen := &screen{changed: make(chan struct{}, 1)}
	go io.Copy(screen, master)
	done := make(chan int, 1)
	go func() {
		done <- run([]string{"exec", "-t", "-u", "root", "box1", "--", "sh"}, slave, slave, slave, func(k string) string { return c.env[k] })
	}()
	typed := func(s string) {
		if _, err := master.WriteString(s); err != nil {
			t.Fatal(err)
		}
	}
	screen.await(t, "# ")
	typed("stty size; echo $TERM; tty -s && echo is-tty\r")
	screen.await(t, "33 101")
	screen.await(t, "vt100")
	screen.await(t, "is-tty")
	if err := pty.Setsize(slave, &pty.Winsize{Rows: 50, Cols: 140}); err != nil {
		t.Fatal(err)
	}
	syscall.Kill(os.Getpid(), syscall.SIGWINCH)
	typed("until [ \"$(stty size)\" = '50 140' ]; do sleep 0.05; done; echo re''sized\r")
	screen.await(t, "resized")
	// Ctrl-C is the program's: it must end that and not the session.
	typed("sh -c 'trap \"exit 0\" INT; echo asl\"\"eep; while :; do sleep 0.05; done'\r")
	screen.await(t, "asleep\r\n")
	typed("\x03")
	screen.await(t, "^C")
	typed("echo still-''here\r")
	screen.await(t, "still-here")
	typed("exit 6\r")
	if code := <-done; code != 6 {
		t.Errorf("exit code %d", code)
	}
	after, err := term.GetState(int(slave.Fd()))
	if err != nil || *before != *after {
		t.Errorf("the terminal was not put back: %v", err)
	}
}

// screen is what a terminal shows.
type screen struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{}
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return s.buf.Write(p)
}

// await waits until the terminal shows a text.
func (s *screen) await(t *testing.T, text string) {
	t.Helper()
	for {
		s.mu.Lock()
		found := strings.Contains(s.buf.String(), text)
		s.mu.Unlock()
		if found {
			return
		}
		select {
		case <-s.changed:
		case <-time.After(20 * time.Second):
			t.Fatalf("%q did not come; the screen shows:\n%s", text, s.buf.String())
		}
	}
}

func TestCopyFiles(t *testing.T) {
	c, _ := withGuest(t)
	here, there := t.TempDir(), t.TempDir()
	src := filepath.Join(here, "tool.sh")
	if err := os.WriteFile(src, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(src, 0o751); err != nil {
		t.Fatal(err)
	}
	ok := func(args ...string) result {
		t.Helper()
		got := c.run(append([]string{"cp", "-u", "root"}, args...)...)
		if got.code != 0 || got.err != "" {
			t.Fatalf("cp %v: %+v", args, got)
		}
		return got
	}
	is := func(path, content string, mode os.FileMode) {
		t.Helper()
		b, err := os.ReadFile(path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || string(b) != content || info.Mode().Perm() != mode {
			t.Errorf("%s: %q %v, %v", path, b, info, err)
		}
	}
	ok(src, "box1:"+there) // into a folder
	is(filepath.Join(there, "tool.sh"), "#!/bin/sh\n", 0o751)
	ok(src, "box1:"+filepath.Join(there, "new", "name")) // under a name, in a folder that is made
	is(filepath.Join(there, "new", "name"), "#!/bin/sh\n", 0o751)
	ok("box1:"+filepath.Join(there, "tool.sh"), filepath.Join(here, "back"))
	is(filepath.Join(here, "back"), "#!/bin/sh\n", 0o751)
	if got := ok("box1:"+filepath.Join(there, "tool.sh"), "-"); got.out != "#!/bin/sh\n" {
		t.Errorf("to standard output: %+v", got)
	}
	c.in = "piped"
	ok("-", "box1:"+filepath.Join(there, "piped"))
	is(filepath.Join(there, "piped"), "piped", 0o644)
	ok("box1:"+filepath.Join(there, "piped"), "/dev/null")
	if got := c.run("cp", "-u", "root", "box1:"+filepath.Join(there, "none"), here); got.code != 1 || !strings.HasPrefix(got.err, "atoll: ") {
		t.Errorf("of what is not there: %+v", got)
	}
}
