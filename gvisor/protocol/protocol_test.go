package protocol

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (a, b *Conn, raw *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	extra, err := unix.Dup(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	raw = os.NewFile(uintptr(extra), "raw")
	if a, err = NewConn(os.NewFile(uintptr(fds[0]), "a")); err != nil {
		t.Fatal(err)
	}
	if b, err = NewConn(os.NewFile(uintptr(fds[1]), "b")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close(); raw.Close() })
	return a, b, raw
}

func TestMessagesAndFilesArriveTogether(t *testing.T) {
	a, b, raw := pair(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	env := strings.Repeat("x", 1<<20) // more than a socket holds at once
	sent := make(chan error)
	go func() {
		err := a.Send(Request{Seq: 1, Create: &Create{Env: []string{env}}}, r)
		r.Close()
		sent <- errors.Join(err, a.Send(Request{Seq: 2}))
	}()
	var first, second Request
	files, err := b.Receive(&first)
	if err != nil || len(files) != 1 || first.Create.Env[0] != env {
		t.Fatalf("files %v, error %v", files, err)
	}
	defer files[0].Close()
	if more, err := b.Receive(&second); err != nil || len(more) != 0 || second.Seq != 2 {
		t.Fatalf("second: %+v, %v, %v", second, more, err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("hi"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2)
	if _, err := io.ReadFull(files[0], got); err != nil || string(got) != "hi" {
		t.Errorf("through the file came %q, %v", got, err)
	}
	a.Close()
	raw.Close()
	if _, err := b.Receive(&first); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func TestTooLargeAndGarbledMessagesAreRefused(t *testing.T) {
	a, _, _ := pair(t)
	if err := a.Send(strings.Repeat("x", MaxMessage)); err == nil {
		t.Error("a message was sent that is too large")
	}
	for name, bytes := range map[string]string{
		"too large": "\xff\xff\xff\xff", "not JSON": "\x00\x00\x00\x01x", "cut off": "\x00\x00\x00\x09{}",
	} {
		_, b, raw := pair(t)
		if _, err := raw.WriteString(bytes); err != nil {
			t.Fatal(err)
		}
		if err := unix.Shutdown(int(raw.Fd()), unix.SHUT_WR); err != nil {
			t.Fatal(err)
		}
		var v Request
		if _, err := b.Receive(&v); err == nil || errors.Is(err, io.EOF) && name != "cut off" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPausedIsNoted(t *testing.T) {
	dir := t.TempDir()
	if _, err := Paused(dir); err == nil {
		t.Error("read where nothing was noted")
	}
	for _, want := range []bool{false, true, true, false} {
		if err := SetPaused(dir, want); err != nil {
			t.Fatal(err)
		}
		if got, err := Paused(dir); err != nil || got != want {
			t.Errorf("noted %v, read %v, %v", want, got, err)
		}
	}
}
