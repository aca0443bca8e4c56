// Command patch makes the gVisor that we build: the released module with some
// sources changed (edits.go) and those in _added, and a go.mod for `go build -modfile`
// that takes it instead (-overlay refuses to change modules). It exists because a guest
// that is woken must not run before it is recorded as awake, and gVisor has no option for
// that, nor for most of what makes guests start and switch faster. The changes are small;
// each must find the one place it was made for, or the build fails.
//
// It also makes a Go with a runtime that wakes less often, for the programs of a
// sandbox. That saves time and nothing else, so a release of Go that reads
// otherwise is taken as it is.
package main

import (
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	log.SetFlags(0)
	path, err := run()
	if err != nil {
		log.Fatalf("patch gVisor: %v", err)
	}
	fmt.Println(path)
}

// run makes the patched module below bin, which git ignores, and returns the
// folder with a go.mod that takes it and a go that builds with it. Go writes the
// module's path into binaries, and equal sources shall give equal binaries: so the
// path says what is in it, and no more.
func run() (string, error) {
	released, err := sources()
	if err != nil {
		return "", fmt.Errorf("find its sources: %w", err)
	}
	news := make(map[string]string)
	if err := add(news); err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %q %q", filepath.Base(released), edits, news))
	dir := filepath.Join("bin", ".gvisor-"+hex.EncodeToString(sum[:4]))
	patched := filepath.Join(dir, "module")
	if _, err := os.Stat(filepath.Join(patched, "go.mod")); err != nil {
		os.RemoveAll(patched) // links to sources that are gone
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
		made, err := os.MkdirTemp(dir, "new-")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(made)
		if err := write(released, made); err != nil {
			return "", err
		}
		if err := os.Rename(made, patched); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err // if it exists, another build was faster
		}
	}
	return dir, errors.Join(
		toolchain(dir),
		copyFile("go.sum", filepath.Join(dir, "go.sum"), ""),
		copyFile("go.mod", filepath.Join(dir, "go.mod"), "\nreplace gvisor.dev/gvisor => ./"+patched+"\n"))
}

// toolchain makes dir/go, which is the Go of this build with the sources that
// runtimeEdits change. Where one does not fit Go's release, none is changed.
//
// Go refuses to change what lies in its module cache, where it also keeps releases that
// it fetched by itself. It looks at the path alone, so dir/goroot is a link to Go.
func toolchain(dir string) error {
	out, err := exec.Command("go", "env", "GOROOT", "GOVERSION").Output()
	if err != nil {
		return fmt.Errorf("find Go's sources: %w", err)
	}
	released, version, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	texts, err := edited(filepath.Join(released, "src"), runtimeEdits, true)
	if err != nil {
		log.Printf("the runtime of %s is taken as it is, so commands start a little slower: %v", version, err)
		texts = nil
	}
	root, list := filepath.Join(dir, "goroot"), filepath.Join(dir, "overlay.json")
	replace := make(map[string]string)
	for source, text := range texts {
		path := filepath.Join(dir, version, source)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := writeFile(path, []byte(text), 0o644); err != nil {
			return err
		}
		replace[filepath.Join(root, "src", source)] = path
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	script := fmt.Sprintf(`#!/bin/sh
export GOROOT='%[1]s' GOTOOLCHAIN=local GOFLAGS="$GOFLAGS '-overlay=%[2]s'"
exec '%[1]s/bin/go' "$@"
`, root, list)
	return errors.Join(linkTo(released, root), writeFile(list, b, 0o644), writeFile(filepath.Join(dir, "go"), []byte(script), 0o755))
}

// linkTo replaces a link at once: several builds may run.
func linkTo(to, path string) error {
	made, err := os.MkdirTemp(filepath.Dir(path), "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made)
	return errors.Join(os.Symlink(to, filepath.Join(made, "link")), os.Rename(filepath.Join(made, "link"), path))
}

// sources downloads gVisor's module, unless it is there, and returns its folder.
// (go list names the folder only of a module that is there.)
func sources() (string, error) {
	download := exec.Command("go", "mod", "download", "-json", "gvisor.dev/gvisor")
	download.Stderr = os.Stderr
	out, err := download.Output()
	var module struct{ Dir, Error string }
	if wrong := json.Unmarshal(out, &module); wrong == nil && module.Error != "" {
		return "", errors.New(module.Error)
	} else if err = cmp.Or(err, wrong); err != nil {
		return "", err
	}
	return module.Dir, nil
}

// copyFile replaces one file by another and more text.
func copyFile(from, to, more string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeFile(to, append(b, more...), 0o644)
}

// writeFile replaces a file at once: several builds may run.
func writeFile(path string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails if it was renamed
	_, err = f.Write(b)
	if err := errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// write makes a copy of the module, patched. What is not patched, and nor is
// anything below it, is a link to the original.
func write(module, dir string) error {
	texts, err := edited(module, edits, false)
	if err != nil {
		return err
	}
	if err := add(texts); err != nil {
		return err
	}
	dirs := map[string]bool{".": true} // that are not links themselves
	for source := range texts {
		for d := filepath.Dir(source); !dirs[d]; d = filepath.Dir(d) {
			dirs[d] = true
		}
	}
	for d := range dirs {
		if err := link(module, dir, d, dirs, texts); err != nil {
			return err
		}
	}
	for source, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, source), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

//go:embed all:_added
var added embed.FS

// add adds the sources below _added, by their paths.
func add(texts map[string]string) error {
	return fs.WalkDir(added, "_added", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := added.ReadFile(path)
		texts[strings.TrimPrefix(path, "_added/")] = string(b)
		return err
	})
}

// edited returns the sources below root that the edits change, by their paths,
// as they then read. The texts are put in the places, or behind them.
func edited(root string, edits []edit, instead bool) (texts map[string]string, err error) {
	texts = make(map[string]string)
	for _, e := range edits {
		if texts[e.source] == "" {
			b, err := os.ReadFile(filepath.Join(root, e.source))
			if err != nil {
				return nil, err
			}
			texts[e.source] = string(b)
		}
		if n := strings.Count(texts[e.source], e.after); n != 1 {
			return nil, fmt.Errorf("%s has %d places that read as follows, not one; look at what has changed there:\n%s", e.source, n, e.after)
		}
		by := e.after + e.text
		if instead {
			by = e.text
		}
		texts[e.source] = strings.Replace(texts[e.source], e.after, by, 1)
	}
	return texts, nil
}

// link makes the directory sub with links to what is in the original.
func link(module, dir, sub string, dirs map[string]bool, texts map[string]string) error {
	if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(module, sub))
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(sub, e.Name())
		if dirs[path] || texts[path] != "" {
			continue
		}
		if err := os.Symlink(filepath.Join(module, path), filepath.Join(dir, path)); err != nil {
			return err
		}
	}
	return nil
}
