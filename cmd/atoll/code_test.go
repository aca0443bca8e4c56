package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/atoll-cloud/atoll/client/doortest"
)

// withKernel is a command line whose sandboxes have the fake interpreter.
func withKernel(t *testing.T) (cli, *doortest.Door, *doortest.Kernel) {
	d, k := doortest.New(t, ""), doortest.NewKernel()
	d.Kernel = k
	return at(t, d), d, k
}

func TestRunCode(t *testing.T) {
	c, d, k := withKernel(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "result-1.png"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := c.run("run", "-e", "A=1", "--save", dir, "--language", "r", "--code", "out a\nerr b\nshow\ntext 42")
	if got.out != "a\n42\n" || got.code != 0 || !strings.Contains(got.err, "b\n") || !strings.Contains(got.err, "result-2.png (8 B)") {
		t.Errorf("%+v", got)
	}
	for name, want := range map[string]string{"result-1.png": "mine", "result-2.png": "\x89PNG\r\n\x1a\n", "result-3.svg": "<svg/>"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if len(d.IDs()) != 0 || d.Created()[0].TemplateID != interpreterTemplate {
		t.Errorf("left %v, made %+v", d.IDs(), d.Created())
	}
	if ran := k.Ran()[0]; ran.Env["A"] != "1" || ran.Language != "r" {
		t.Errorf("%+v", ran)
	}
}

func TestRunCodeThatFails(t *testing.T) {
	c, d, _ := withKernel(t)
	c.in = "out a\nraise no"
	if got, want := c.run("run", "--code", "-"), (result{"a\n", "Traceback:\nOops: no\n", 1}); got != want || len(d.IDs()) != 0 {
		t.Errorf("%+v, left %v", got, d.IDs())
	}
	if got := c.run("run", "--language", "cobol", "--code", "1"); got.code != codeOurs || !strings.Contains(got.err, "no kernel for the language") || len(d.IDs()) != 0 {
		t.Errorf("%+v, left %v", got, d.IDs())
	}
	for _, args := range [][]string{
		{"run", "--code", "1", "--", "true"}, {"run", "--json", "--", "true"}, {"run", "--code", "1", "-u", "root"}, {"run", "--language", "r", "--", "true"},
	} {
		if got := c.run(args...); got.code != codeUsage {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

func TestRunCodeAsJSON(t *testing.T) {
	c, _, k := withKernel(t)
	t.Chdir(t.TempDir())
	got := c.run("run", "--json", "-w", "/tmp", "--code", "out a\nshow\nraise no")
	var all struct {
		Results []map[string]any
		Logs    struct{ Stdout, Stderr []string }
		Error   struct{ Name, Value, Traceback string }
		Count   int `json:"execution_count"`
	}
	if err := json.Unmarshal([]byte(got.out), &all); err != nil || got.code != 1 || got.err != "" {
		t.Fatalf("%v, %+v", err, got)
	}
	if all.Results[0]["png"] != doortest.Picture || all.Logs.Stdout[0] != "a\n" || all.Logs.Stderr == nil || all.Error.Name != "Oops" || all.Count != 1 {
		t.Errorf("%+v", all)
	}
	if k.Ran()[0].ContextID != "c1" {
		t.Errorf("-w made no context: %+v", k.Ran())
	}
	if left, err := os.ReadDir("."); err != nil || len(left) != 0 {
		t.Errorf("--json saved %v, %v", left, err)
	}
}

func TestInterruptEndsRunOfCode(t *testing.T) {
	c, d, k := withKernel(t)
	done := make(chan result, 1)
	go func() { done <- c.run("run", "--code", "wait") }()
	<-k.Waiting
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.code != 130 || len(d.IDs()) != 0 {
		t.Errorf("%+v, left %v", got, d.IDs())
	}
	<-k.Interrupted
}
