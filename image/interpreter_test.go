package image

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func interpreterFolder(t *testing.T) fs.FS {
	files, err := fs.Sub(interpreterFiles, "interpreter")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestInterpreterRecipe(t *testing.T) {
	recipe := InterpreterRecipe()
	for _, p := range basePackages {
		if !slices.Contains(recipe.Packages, p) {
			t.Errorf("%s of the base template is missing", p)
		}
	}
	for what, change := range map[string]func(*Recipe){
		"a package": func(r *Recipe) { r.Packages = append(slices.Clone(r.Packages), "more") },
		"a file":    func(r *Recipe) { r.Files = hashFiles(fstest.MapFS{"x": {Data: []byte("y")}}) },
		"the suite": func(r *Recipe) { r.Suite = "trixie" },
	} {
		other := InterpreterRecipe()
		change(&other)
		if other.Key() == recipe.Key() {
			t.Errorf("another key was expected with %s changed", what)
		}
	}
	if recipe.Key() == BaseRecipe().Key() {
		t.Error("it has the key of the base template")
	}
}

func TestHashOfFiles(t *testing.T) {
	hash := func(files map[string]string) string {
		m := fstest.MapFS{}
		for name, text := range files {
			m[name] = &fstest.MapFile{Data: []byte(text)}
		}
		return hashFiles(m)
	}
	one := hash(map[string]string{"a": "1", "b": "2"})
	for _, other := range []map[string]string{{"a": "1"}, {"a": "1", "b": "3"}, {"a": "1", "c": "2"}, {"a": "1b 1\n2"}} {
		if hash(other) == one {
			t.Errorf("%v has the same hash", other)
		}
	}
}

func TestInterpreterFilesAreInPlace(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // again, over what is there
		if err := finishInterpreter(dir, interpreterFolder(t)); err != nil {
			t.Fatal(err)
		}
	}
	var started struct{ Start []string }
	readJSON(t, filepath.Join(dir, startedKernels), &started)
	for _, language := range []string{"python", "javascript", "typescript", "bash", "r"} {
		var spec struct {
			Argv          []string
			DisplayName   string `json:"display_name"`
			Language      string
			InterruptMode string `json:"interrupt_mode"`
		}
		readJSON(t, filepath.Join(dir, kernelsFolder, language, "kernel.json"), &spec)
		if !slices.Contains(spec.Argv, "{connection_file}") || !strings.HasPrefix(spec.Argv[0], "/") || spec.DisplayName == "" || spec.InterruptMode == "" {
			t.Errorf("%s: %+v", language, spec)
		}
	}
	if !slices.Contains(started.Start, "python") {
		t.Errorf("started: %v", started.Start)
	}
	for _, name := range []string{pythonFolder + "/atoll_interpreter/__init__.py", pythonFolder + "/atoll_interpreter/charts.py", ipythonConfig, denoConfig, denoStart, rStart} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// TestPackagesAreFixed: what is fetched from registries has a version and a hash.
func TestPackagesAreFixed(t *testing.T) {
	text, err := fs.ReadFile(interpreterFolder(t), "requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if count++; !strings.Contains(line, "==") || !strings.Contains(line, " --hash=sha256:") {
			t.Errorf("not fixed: %s", line)
		}
	}
	if count < 50 || pythonPackages(interpreterFolder(t)) != count {
		t.Errorf("%d packages, counted as %d", count, pythonPackages(interpreterFolder(t)))
	}
	var lock struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	text, err = fs.ReadFile(interpreterFolder(t), "deno/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &lock); err != nil {
		t.Fatal(err)
	}
	for name, p := range lock.Packages {
		if name != "" && (p.Version == "" || p.Integrity == "") {
			t.Errorf("not fixed: %s", name)
		}
	}
}

func TestInstallerGetsSettings(t *testing.T) {
	settings := registrySettings(func(name string) (string, bool) {
		value, ok := map[string]string{"PIP_INDEX_URL": "https://near.example/simple", "HTTPS_PROXY": "a\nPATH=/x", "HOME": "/x"}[name]
		return value, ok
	})
	if settings != "PIP_INDEX_URL=https://near.example/simple\n" {
		t.Errorf("%q", settings)
	}
	certificates := filepath.Join(t.TempDir(), "ca")
	if err := os.WriteFile(certificates, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", certificates)
	program, err := placeInstaller(t.TempDir(), interpreterFolder(t))
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(program); err != nil || st.Mode().Perm() != 0o755 {
		t.Error(st, err)
	}
	if text, err := os.ReadFile(filepath.Join(filepath.Dir(program), "ca.pem")); err != nil || string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
}
