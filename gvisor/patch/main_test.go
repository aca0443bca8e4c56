package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// writeModule makes a module whose sources read as the edits want, but for what
// change does to them.
func writeModule(t *testing.T, change func(source, text string) string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	texts := map[string]string{"runsc/other.go": "other"}
	for _, e := range edits {
		texts[e.source] += e.after
	}
	for source, text := range texts {
		path := filepath.Join(dir, source)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(change(source, text)), 0o444); err != nil { // as in the module cache
			t.Fatal(err)
		}
	}
	return dir
}

func TestPatchedModule(t *testing.T) {
	dir := t.TempDir()
	if err := write(writeModule(t, func(_, text string) string { return text }), dir); err != nil {
		t.Fatal(err)
	}
	for _, e := range edits {
		b, err := os.ReadFile(filepath.Join(dir, e.source))
		if err != nil || !strings.Contains(string(b), e.after+e.text) {
			t.Errorf("%s: %v\n%s", e.source, err, b)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "runsc/other.go")); err != nil || string(b) != "other" {
		t.Errorf("a source that is not changed: %q, %v", b, err)
	}
}

// A newer gVisor that reads otherwise must not be built as if it were patched.
func TestEveryEditFindsItsOnePlace(t *testing.T) {
	for _, e := range edits {
		for want, change := range map[string]func(string) string{
			"has 0 places": func(text string) string { return strings.Replace(text, e.after, "", 1) },
			"has 2 places": func(text string) string { return text + e.after },
		} {
			module := writeModule(t, func(source, text string) string {
				if source != e.source {
					return text
				}
				return change(text)
			})
			if err := write(module, t.TempDir()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", want, err)
			}
		}
	}
}

// The release of Go that builds Atoll is one whose runtime the edits fit; another
// builds too.
func TestRuntimeOfGo(t *testing.T) {
	dir := t.TempDir()
	if err := toolchain(dir); err != nil {
		t.Fatal(err)
	}
	var found struct{ Replace map[string]string }
	b, err := os.ReadFile(filepath.Join(dir, "overlay.json"))
	if err := errors.Join(err, json.Unmarshal(b, &found)); err != nil {
		t.Fatal(err)
	}
	if len(found.Replace) == 0 {
		t.Fatal("no edit fits the runtime of this release of Go")
	}
	for original, changed := range found.Replace {
		before, err := os.ReadFile(original)
		if err != nil {
			t.Error(err)
		}
		after, err := os.ReadFile(changed)
		if err != nil || bytes.Equal(before, after) {
			t.Errorf("%s is not another than %s: %v", changed, original, err)
		}
	}
	list := exec.Command(filepath.Join(dir, "go"), "list", "-f", "{{.Dir}}", "runtime")
	if out, err := list.Output(); err != nil || string(out) != filepath.Join(dir, "goroot", "src", "runtime")+"\n" {
		t.Errorf("it builds with the runtime in %s, %v", out, err)
	}

	known := runtimeEdits
	defer func() { runtimeEdits = known }()
	runtimeEdits = append([]edit{{source: "runtime/proc.go", after: "not in any release"}}, known...)
	if err := toolchain(dir); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "overlay.json")); err != nil || string(b) != `{"Replace":{}}` {
		t.Errorf("with an edit that does not fit: %s, %v", b, err)
	}
}
