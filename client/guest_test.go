package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/client/doortest"
	"github.com/atoll-cloud/atoll/wire/filesystem"
)

func TestMain(m *testing.M) { doortest.Main(m) }

// guest is the real daemon, reached through the fake edge.
func guest(t testing.TB) *client.Guest {
	d := doortest.New(t, doortest.StartGuest(t))
	d.Add(client.Sandbox{SandboxID: "i1"})
	return d.Client(t).Guest(client.Sandbox{SandboxID: "i1"}).As("root")
}

// synced is a buffer that a test may look at while it is written.
type synced struct {
	mu  sync.Mutex
	buf bytes.Buffer
	ch  chan struct{}
}

func (s *synced) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		select {
		case s.ch <- struct{}{}:
		default:
		}
	}()
	return s.buf.Write(p)
}

// await waits until the buffer holds a text.
func (s *synced) await(t *testing.T, text string) {
	t.Helper()
	for {
		s.mu.Lock()
		found := strings.Contains(s.buf.String(), text)
		s.mu.Unlock()
		if found {
			return
		}
		select {
		case <-s.ch:
		case <-t.Context().Done():
			t.Fatalf("%q did not come", text)
		}
	}
}

func TestProcessStreamsAndExit(t *testing.T) {
	g := guest(t)
	if err := g.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		script, stdin  string
		stdout, stderr string
		code           int
		dir            string
		env            map[string]string
	}{
		{script: "echo out; echo err >&2; exit 3", stdout: "out\n", stderr: "err\n", code: 3},
		{script: "cat; echo done", stdin: strings.Repeat("0123456789", 100000), stdout: strings.Repeat("0123456789", 100000) + "done\n"},
		{script: "pwd; echo $A", dir: "/tmp", env: map[string]string{"A": "b c"}, stdout: "/tmp\nb c\n"},
		{script: "kill -KILL $$", code: 137},
		{script: "kill -TERM $$", code: 143},
		{script: "head -c 3000000 /dev/zero | tr '\\0' x", stdout: strings.Repeat("x", 3000000)},
	} {
		p, err := g.Start(t.Context(), client.Command{Path: "sh", Args: []string{"-c", tc.script}, Dir: tc.dir, Env: tc.env, Stdin: true})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if client.Feed(t.Context(), strings.NewReader(tc.stdin), p.Write) == nil {
				p.CloseStdin(t.Context())
			}
		}()
		var out, errw bytes.Buffer
		exit, err := p.Copy(&out, &errw)
		if err != nil || exit.Code != tc.code || out.String() != tc.stdout || errw.String() != tc.stderr {
			t.Errorf("%s: exit %+v, %v; %d bytes out, %q", tc.script, exit, err, out.Len(), errw.String())
		}
	}
}

func TestProcessThatCannotStart(t *testing.T) {
	g := guest(t)
	for _, c := range []client.Command{{Path: "no-such-program"}, {Path: "/etc"}, {Path: ""}, {Path: "true", Dir: "/nowhere"}} {
		if _, err := g.Start(t.Context(), c); err == nil {
			t.Errorf("%+v starts", c)
		}
	}
}

func TestSignalAttachAndTerminal(t *testing.T) {
	g, ctx := guest(t), t.Context()
	p, err := g.Start(ctx, client.Command{Path: "sh", Args: []string{"-c", "stty size; read l; stty size; echo got $l; trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.05; done"},
		PTY: &client.Size{Cols: 91, Rows: 31}})
	if err != nil {
		t.Fatal(err)
	}
	first := &synced{ch: make(chan struct{}, 1)}
	go p.Copy(first, io.Discard)
	first.await(t, "31 91")
	if err := p.Resize(ctx, client.Size{Cols: 120, Rows: 40}); err != nil {
		t.Fatal(err)
	}
	// A second connection sees the same program.
	q, err := g.Attach(ctx, p.PID)
	if err != nil {
		t.Fatal(err)
	}
	second := &synced{ch: make(chan struct{}, 1)}
	exit := make(chan client.Exit, 1)
	go func() {
		e, err := q.Copy(second, io.Discard)
		if err != nil {
			t.Error(err)
		}
		exit <- e
	}()
	if err := p.Type(ctx, []byte("hello\r")); err != nil {
		t.Fatal(err)
	}
	second.await(t, "got hello")
	second.await(t, "40 120")
	second.await(t, "ready")
	if err := q.Signal(ctx, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if e := <-exit; e.Code != 9 {
		t.Errorf("exit %+v", e)
	}
	if _, err := g.Attach(ctx, p.PID); !client.IsNotFound(err) {
		t.Errorf("attach to one that ended: %v", err)
	}
}

func TestEndOfContextCutsTheConnection(t *testing.T) {
	g := guest(t)
	ctx, cancel := context.WithCancel(t.Context())
	p, err := g.Start(ctx, client.Command{Path: "sleep", Args: []string{"30"}})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := p.Copy(io.Discard, io.Discard); err == nil {
		t.Error("Copy says that it ended well")
	}
	if err := p.Signal(t.Context(), syscall.SIGKILL); err != nil {
		t.Errorf("the program itself should go on: %v", err)
	}
}

func TestFilesOfAnySize(t *testing.T) {
	g, ctx, dir := guest(t), t.Context(), t.TempDir()
	for _, size := range []int64{0, 1, 1 << 20, 64<<20 + 7} {
		path := filepath.Join(dir, "new folder", fmt.Sprintf("f ü %d?&#", size))
		sent, got := sha256.New(), sha256.New()
		src := io.TeeReader(io.LimitReader(rand.New(rand.NewSource(size)), size), sent)
		if err := g.Upload(ctx, path, src); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() != size {
			t.Fatalf("%v, %v", info, err)
		}
		r, n, err := g.Download(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(got, r); err != nil || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
			t.Errorf("%d bytes came back different (%d announced), %v", size, n, err)
		}
		r.Close()
	}
	if _, _, err := g.Download(ctx, filepath.Join(dir, "none")); !client.IsNotFound(err) {
		t.Errorf("download of what is not there: %v", err)
	}
}

func TestFolders(t *testing.T) {
	g, ctx, dir := guest(t), t.Context(), t.TempDir()
	deep := filepath.Join(dir, "a", "b")
	for range 2 { // the second time it is there
		if err := g.MakeDir(ctx, deep); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Upload(ctx, filepath.Join(deep, "f"), strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	e, err := g.Stat(ctx, deep)
	if err != nil || e.GetType() != filesystem.FileType_FILE_TYPE_DIRECTORY {
		t.Fatalf("%v, %v", e, err)
	}
	all, err := g.List(ctx, dir, 3)
	if err != nil || len(all) != 3 {
		t.Errorf("%v, %v", all, err)
	}
	if err := g.Remove(ctx, filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Stat(ctx, deep); !client.IsNotFound(err) {
		t.Errorf("after Remove: %v", err)
	}
}

func TestSecureGuestWantsItsToken(t *testing.T) {
	d := doortest.New(t, doortest.StartGuest(t))
	c := d.Client(t)
	s, err := c.Create(t.Context(), client.NewSandbox{TemplateID: "base", Secure: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Guest(s).As("root").MakeDir(t.Context(), t.TempDir()); err != nil {
		t.Error(err)
	}
	s.EnvdAccessToken = ""
	if err := c.Guest(s).As("root").MakeDir(t.Context(), t.TempDir()); client.Status(err) != 401 {
		t.Errorf("without the token: %v", err)
	}
}

func TestEdgeSaysThatASandboxIsGone(t *testing.T) {
	c := doortest.New(t, "").Client(t)
	g := c.Guest(client.Sandbox{SandboxID: "gone"})
	_, start := g.Start(t.Context(), client.Command{Path: "true"})
	_, stat := g.Stat(t.Context(), "/")
	_, _, download := g.Download(t.Context(), "/x")
	for _, err := range []error{start, stat, download, g.Upload(t.Context(), "/x", strings.NewReader("x"))} {
		if client.Status(err) != 502 || !strings.Contains(err.Error(), "The sandbox was not found") {
			t.Errorf("got %v", err)
		}
	}
}
