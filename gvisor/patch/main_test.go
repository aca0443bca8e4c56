package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A newer gVisor that reads otherwise must not be built as if it were patched.
func TestEveryEditFindsItsOnePlace(t *testing.T) {
	anchors := edits[0].after + edits[1].after
	for name, c := range map[string]struct{ source, want string }{
		"there": {anchors, ""},
		"gone":  {edits[1].after, "has 0 places"},
		"twice": {anchors + edits[1].after, "has 2 places"},
	} {
		module, dir := t.TempDir(), t.TempDir()
		path := filepath.Join(module, edits[0].source)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(c.source), 0o444); err != nil { // as in the module cache
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(module, "runsc/other.go"), []byte("other"), 0o444); err != nil {
			t.Fatal(err)
		}
		err := write(module, dir)
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, edits[0].source))
		if err != nil || !strings.Contains(string(b), edits[0].after+edits[0].text) || !strings.Contains(string(b), edits[1].text) {
			t.Errorf("%s: %v\n%s", name, err, b)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "runsc/other.go")); err != nil || string(b) != "other" {
			t.Errorf("a source that is not changed: %q, %v", b, err)
		}
	}
}
