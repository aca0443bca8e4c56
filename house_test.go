// Package atoll_test checks how the house is built: which room may know which,
// and that everything says why it is there.
package atoll_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/atoll-cloud/atoll"

// floors are the rooms and the floors that they are on. A room knows only
// rooms on lower floors.
var floors = map[string]int{
	"cmd/atoll":       7,
	"api/admin":       6,
	"api/e2b":         6,
	"api/usage":       6,
	"api/sprites":     6,
	"edge":            6,
	"mcp":             6, // a door for agents, through client
	"api/door":        5, // what the doors have in common
	"client":          5, // speaks to the doors from outside
	"machine":         3,
	"gvisor":          2,
	"network":         2,
	"disk":            2,
	"image":           2,
	"account":         2, // keeps its records in store
	"meter":           2, // as does this
	"store":           1,
	"gvisor/protocol": 0, // between gvisor and its worker
	"wire":            0,
	"bundle":          0,
	"observe":         0,
	"doctor":          0, // what rooms tell it; it itself is in cmd/atoll
}

// apart are the rooms that are binaries of their own, with all that they may know.
var apart = map[string][]string{
	"guest":             {"wire"},
	"cmd/atoll-guest":   {"guest", "wire"},
	"gvisor/worker":     {"gvisor/protocol", "wire"},
	"cmd/atoll-sandbox": {"gvisor/worker", "gvisor/protocol"},
	"client":            {"wire"},
	"test":              {"client", "wire"},
}

func TestEveryPackageSaysWhyItExists(t *testing.T) {
	for dir, files := range packages(t) {
		documented := false
		for _, f := range files {
			documented = documented || f.doc || f.generated
		}
		if !documented {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

func TestRoomsKnowOnlyLowerFloors(t *testing.T) {
	for dir, files := range packages(t) {
		room := roomOf(dir)
		for _, f := range files {
			if f.test {
				continue
			}
			for _, path := range f.imports {
				target := roomOf(path)
				if target == room || within(dir, room) && within(path, room) {
					continue
				}
				if allowed, ok := apart[room]; ok {
					if !contains(allowed, target) {
						t.Errorf("%s imports %s; it may know only %s", f.path, path, strings.Join(allowed, ", "))
					}
					continue
				}
				mine, known := floors[room]
				theirs, alsoKnown := floors[target]
				switch {
				case !known:
					t.Errorf("%s: the room %s has no floor; give it one here and in docs/ARCHITECTURE.md", f.path, room)
				case !alsoKnown && !strings.HasPrefix(target, room):
					t.Errorf("%s imports %s, which is not a room for others", f.path, path)
				case alsoKnown && theirs >= mine:
					t.Errorf("%s (floor %d) imports %s (floor %d)", f.path, mine, path, theirs)
				}
			}
		}
	}
}

func TestOnlyTheWorkerKnowsGVisor(t *testing.T) {
	for dir, files := range packages(t) {
		if within(dir, "gvisor/worker") || dir == "cmd/atoll-sandbox" {
			continue
		}
		for _, f := range files {
			for _, path := range f.foreign {
				if strings.HasPrefix(path, "gvisor.dev/") {
					t.Errorf("%s imports %s", f.path, path)
				}
			}
		}
	}
}

func TestDependenciesAreExplained(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	told, err := os.ReadFile("docs/DEPENDENCIES.md")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, files := range packages(t) {
		for _, f := range files {
			for _, path := range f.foreign {
				used[path] = true
			}
		}
	}
	for line := range strings.Lines(string(mod)) {
		fields := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(fields) < 2 || !strings.Contains(fields[0], ".") || !strings.HasPrefix(fields[1], "v") {
			continue
		}
		if direct(fields[0], used) && !strings.Contains(string(told), "`"+fields[0]+"`") {
			t.Errorf("docs/DEPENDENCIES.md does not explain %s", fields[0])
		}
	}
}

// direct reports whether a module's packages are imported by ours.
func direct(module string, used map[string]bool) bool {
	for path := range used {
		if within(path, module) {
			return true
		}
	}
	return false
}

type file struct {
	path string
	test bool
	doc  bool
	// generated source is documented where it is generated from.
	generated bool
	imports   []string // of ours, relative to the module
	foreign   []string // of others
}

// packages reads every Go file of the repository, by folder.
func packages(t *testing.T) map[string][]file {
	t.Helper()
	out := map[string][]file{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && path != "." && (strings.ContainsRune("._", rune(name[0])) || name == "node_modules" || name == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		f := file{path: path, test: strings.HasSuffix(path, "_test.go"), doc: parsed.Doc != nil, generated: ast.IsGenerated(parsed)}
		for _, i := range parsed.Imports {
			name := strings.Trim(i.Path.Value, `"`)
			if ours, ok := strings.CutPrefix(name, module+"/"); ok {
				f.imports = append(f.imports, ours)
			} else {
				f.foreign = append(f.foreign, name)
			}
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		out[dir] = append(out[dir], f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// roomOf returns the room that a package belongs to: the longest that is named.
func roomOf(path string) string {
	best := ""
	for room := range floors {
		if within(path, room) && len(room) > len(best) {
			best = room
		}
	}
	for room := range apart {
		if within(path, room) && len(room) > len(best) {
			best = room
		}
	}
	if best == "" {
		return path
	}
	return best
}

// within reports whether a path is a folder or lies below it.
func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}
