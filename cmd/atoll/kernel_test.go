package main

import (
	"bufio"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/creack/pty"

	"github.com/atoll-cloud/atoll/client"
)

func TestBlocksEndWhereAPersonWouldSay(t *testing.T) {
	for _, tc := range []struct {
		language, code string
		want           []string // pieces; the rest is still open
	}{
		{"", "x = 1\nx", []string{"x = 1", "x"}},
		{"", "def f():\n  return 1\n\nf()", []string{"def f():\n  return 1", "f()"}},
		{"", "f(1,\n2)\n", []string{"f(1,\n2)"}},
		{"", "s = '''a\nb'''", []string{"s = '''a\nb'''"}},
		{"", "a = 1 + \\\n2", []string{"a = 1 + \\\n2"}},
		{"", "'(' # [\n2", []string{"'(' # [", "2"}},
		{"", "f(\n\n", []string{"f("}},
		{"", "@d\ndef f(): pass\n\n", []string{"@d\ndef f(): pass"}},
		{"", "'don", []string{"'don"}},
		{"javascript", "f({\n a: 1 // (\n})\n1", []string{"f({\n a: 1 // (\n})", "1"}},
		{"javascript", "`a\nb`", []string{"`a\nb`"}},
		{"bash", "echo 'a\nb'", []string{"echo 'a\nb'"}},
	} {
		b, got := &block{language: tc.language}, []string(nil)
		for line := range strings.SplitSeq(tc.code, "\n") {
			if b.add(line, false) {
				got = append(got, b.take())
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%q: %q, want %q", tc.code, got, tc.want)
		}
	}
}

func FuzzBlock(f *testing.F) {
	f.Add("", "a\\\n'''\"(`#//")
	f.Add("bash", "'\n\\")
	f.Fuzz(func(t *testing.T, language, code string) {
		b := &block{language: language}
		for line := range strings.SplitSeq(code, "\n") {
			b.wants(line)
			b.add(line, false)
		}
		b.last()
		if got := b.take(); len(got) > len(code) {
			t.Errorf("%q became %q", code, got)
		}
	})
}

func TestKernelReadsAScript(t *testing.T) {
	c, d, k := withKernel(t)
	d.Add(client.Sandbox{SandboxID: "box1"})
	c.in = "out a\nif x:\n  out b\n\n  out c\nelse:\n  d\ntext 42\nraise no\nout never\n"
	got := c.run("kernel", "box")
	if want := (result{"a\n42\n", "Traceback:\nOops: no\n", 1}); got != want {
		t.Errorf("%+v", got)
	}
	var ran []string
	for _, r := range k.Ran() {
		ran = append(ran, r.Code)
	}
	if want := []string{"out a", "if x:\n  out b\n\n  out c\nelse:\n  d", "text 42", "raise no"}; !slices.Equal(ran, want) {
		t.Errorf("ran %q", ran)
	}
	c.in = "out 1\n\nout 2"
	if got := c.run("kernel", "--new", "--language", "bash", "box1"); got.out != "1\n2\n" || got.code != 0 {
		t.Errorf("%+v", got)
	}
	if last := k.Ran()[4]; last.ContextID != "c1" || last.Code != c.in {
		t.Errorf("%+v", last)
	}
	d.Kernel = nil
	if got := c.run("kernel", "box1"); got.code != codeOurs || !strings.Contains(got.err, "has no code interpreter") {
		t.Errorf("%+v", got)
	}
}

// TestKernelInATerminal types as a person does.
func TestKernelInATerminal(t *testing.T) {
	c, d, k := withKernel(t)
	d.Add(client.Sandbox{SandboxID: "box1"})
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	if err := pty.Setsize(slave, &pty.Winsize{Rows: 24, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	done := make(chan int, 1)
	go func() {
		done <- run([]string{"kernel", "box1"}, slave, slave, slave, func(k string) string { return c.env[k] })
	}()
	screen := bufio.NewReader(master)
	expect := func(text string) {
		t.Helper()
		var seen strings.Builder
		for !strings.HasSuffix(seen.String(), text) {
			b, err := screen.ReadByte()
			if err != nil {
				t.Fatalf("waiting for %q: %v after %q", text, err, seen.String())
			}
			seen.WriteByte(b)
		}
	}
	typed := func(text string) {
		if _, err := io.WriteString(master, text); err != nil {
			t.Fatal(err)
		}
	}
	expect("python [1]: ")
	typed("out a\r")
	expect("a\r\n")
	expect("python [2]: ")
	typed("given up\x03")
	expect("^C\r\n")
	expect("python [2]: ")
	typed("if x:\r")
	expect("...: ")
	typed("  text 42\r\r")
	expect("python [3]: ")
	typed("wait\r")
	<-k.Waiting
	// What the terminal would send: it is not this test's.
	p, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-k.Interrupted
	expect("interrupted\r\n")
	expect("]: ")
	typed("out b\r")
	expect("]: ")
	typed("\x1b[A\r") // the same again
	expect("]: ")
	typed("\x04")
	if code := <-done; code != 0 {
		t.Errorf("exit code %d", code)
	}
	if ran := k.Ran(); len(ran) != 5 || ran[1].Code != "if x:\n  text 42" || ran[4].Code != "out b" {
		t.Errorf("%+v", ran)
	}
}
