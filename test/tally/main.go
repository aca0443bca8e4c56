// Command tally reads what "go test -json" says, shows what failed with all
// that it said, and ends with one line that counts the tests.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// event is one line of go test's.
type event struct {
	Action      string
	Package     string
	Test        string
	Output      string
	Elapsed     float64
	ImportPath  string
	FailedBuild string
}

// key names a test, or a package where test is empty.
type key struct{ pkg, test string }

// tally is what has been seen so far.
type tally struct {
	out     io.Writer
	output  map[key][]string // of what has not ended
	parents map[key]bool     // tests that are only the frame of others
	ended   map[key]string
	passed  int
	failed  int
	skipped int
}

func main() {
	began := time.Now()
	t := &tally{out: os.Stdout, output: map[key][]string{}, parents: map[key]bool{}, ended: map[key]string{}}
	if err := t.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}
	t.count()
	if t.skipped > 0 {
		fmt.Fprintf(t.out, "%d skipped\n", t.skipped)
	}
	fmt.Fprintf(t.out, "took %s\n%d passed, %d failed\n", time.Since(began).Round(time.Second), t.passed, t.failed)
	if t.failed > 0 || t.passed == 0 {
		os.Exit(1)
	}
}

func (t *tally) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil || e.Action == "" {
				fmt.Fprint(t.out, string(line)) // from a compiler or a crash
			} else {
				t.note(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// note takes in one event.
func (t *tally) note(e event) {
	k := key{e.Package, e.Test}
	switch e.Action {
	case "output":
		t.output[k] = append(t.output[k], e.Output)
	case "build-output":
		fmt.Fprint(t.out, e.Output)
	case "run":
		for test := e.Test; ; {
			i := strings.LastIndexByte(test, '/')
			if i < 0 {
				break
			}
			test = test[:i]
			t.parents[key{e.Package, test}] = true
		}
	case "pass", "fail", "skip":
		t.ended[k] = e.Action
		if e.Action == "fail" {
			t.show(k)
		} else if e.Test == "" {
			fmt.Fprintf(t.out, "ok    %-58s %6.1fs\n", e.Package, e.Elapsed)
		}
		delete(t.output, k)
	}
}

// show prints all that a failed test or package has said.
func (t *tally) show(k key) {
	fmt.Fprintf(t.out, "FAIL  %s %s\n", k.pkg, k.test)
	for _, o := range t.output[k] {
		if !strings.HasPrefix(o, "=== ") {
			fmt.Fprint(t.out, "      ", o)
		}
	}
}

// count adds up the tests; a frame counts only if it failed by itself, and a
// package only if none of its tests tells why it failed.
func (t *tally) count() {
	told := map[string]bool{}
	for k, how := range t.ended {
		if k.test == "" || t.parents[k] {
			continue
		}
		switch how {
		case "pass":
			t.passed++
		case "fail":
			t.failed++
			told[k.pkg] = true
		case "skip":
			t.skipped++
		}
	}
	for k, how := range t.ended {
		if how == "fail" && !told[k.pkg] && (k.test == "" || t.parents[k]) {
			t.failed++
			told[k.pkg] = true
		}
	}
}
