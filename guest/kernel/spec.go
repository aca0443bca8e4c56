package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// specDirs are where Jupyter looks for kernelspecs; the first wins.
var specDirs = []string{"usr/local/share/jupyter/kernels", "usr/share/jupyter/kernels"}

const (
	// maxSpec bounds a kernel.json, in bytes.
	maxSpec = 1 << 20
	// fallbackLanguage is what runs when a client names none.
	fallbackLanguage = "python"
)

// errUnknownLanguage is reported for languages without a kernel.
var errUnknownLanguage = errors.New("no kernel for the language")

// spec says how to start the kernel of a language: Jupyter's kernel.json.
type spec struct {
	language string
	dir      string
	Argv     []string          `json:"argv"`
	Env      map[string]string `json:"env"`
	// Kind is the language that the kernel says it is for.
	Kind string `json:"language"`
	// InterruptMode is "signal" (the default) or "message".
	InterruptMode string `json:"interrupt_mode"`
	Metadata      struct {
		// Transport is "ipc" or "tcp".
		Transport string `json:"transport"`
		// Atoll has code to run silently: Start in every kernel that has
		// started, Warm in those that start with the machine, before a
		// snapshot of them is kept.
		Atoll struct {
			Start string `json:"start"`
			Warm  string `json:"warm"`
		} `json:"atoll"`
	} `json:"metadata"`
}

// overUnixSocket reports that the kernel takes a Unix socket, which is quicker
// and needs no port: those made with ipykernel do.
func (s *spec) overUnixSocket() bool {
	switch s.Metadata.Transport {
	case "ipc":
		return true
	case "tcp":
		return false
	}
	return s.language == "python" || s.language == "bash"
}

// interruptedByMessage reports that a signal is not how the kernel is
// interrupted. Deno's would end, with all variables, whatever its kernelspec says.
func (s *spec) interruptedByMessage() bool {
	return s.InterruptMode == "message" || filepath.Base(s.Argv[0]) == "deno"
}

// publishesLate reports that the kernel may publish a result after it has said
// that it is idle: Deno's does not wait for its own message.
func (s *spec) publishesLate() bool {
	return s.language == "javascript" || s.language == "typescript"
}

// aliases are other names for languages; those with two have the first that
// there is a kernel for.
var aliases = map[string][]string{
	"py": {"python"}, "python3": {"python"}, "ipython": {"python"},
	"js": {"javascript"}, "node": {"javascript"}, "nodejs": {"javascript"}, "deno": {"typescript", "javascript"},
	"ts": {"typescript"},
	"sh": {"bash"}, "shell": {"bash"},
	"rlang": {"r"}, "ir": {"r"},
	"jshell": {"java"},
}

// folders are names of kernelspecs as packages install them.
var folders = map[string]string{"python3": "python", "ir": "r", "tslab": "typescript", "jslab": "javascript"}

// advice says what brings the kernel of a language that is missing.
var advice = map[string]string{
	"python":     "install ipykernel",
	"javascript": "install Deno and run 'deno jupyter --install', or the npm package tslab",
	"typescript": "install Deno and run 'deno jupyter --install', or the npm package tslab",
	"bash":       "install the PyPI package bash_kernel",
	"r":          "install R and IRkernel (Debian: r-cran-irkernel)",
	"java":       "install a JDK (Debian: default-jdk-headless), and as root the PyPI package jjava",
}

// specs are the languages of this machine.
type specs map[string]*spec

// findSpecs reads the kernelspecs below root.
func findSpecs(root string) specs {
	found := specs{}
	for _, dir := range specDirs {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil {
			continue // no such folder: no kernels in it
		}
		for _, entry := range entries {
			s, err := readSpec(filepath.Join(root, dir, entry.Name()))
			if err != nil {
				continue // not a kernelspec
			}
			s.language = strings.ToLower(entry.Name())
			if language, ok := folders[s.language]; ok {
				s.language = language
			}
			if found[s.language] == nil {
				found[s.language] = s
			}
		}
	}
	return found
}

func readSpec(dir string) (*spec, error) {
	f, err := os.Open(filepath.Join(dir, "kernel.json"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSpec))
	if err != nil {
		return nil, err
	}
	s := &spec{dir: dir}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if len(s.Argv) == 0 || s.Argv[0] == "" {
		return nil, fmt.Errorf("%s names no program", f.Name())
	}
	return s, nil
}

// find returns the kernel of a language, by its name or another.
func (s specs) find(language string) (*spec, error) {
	name := strings.ToLower(strings.TrimSpace(language))
	if name == "" {
		name = fallbackLanguage
	}
	if found := s[name]; found != nil {
		return found, nil
	}
	for _, other := range aliases[name] {
		if found := s[other]; found != nil {
			return found, nil
		}
		name = other
	}
	if how, ok := advice[name]; ok {
		return nil, fmt.Errorf("%w %q in this template: %s in the template, so that there is a kernelspec /usr/local/share/jupyter/kernels/%s. This sandbox has: %s",
			errUnknownLanguage, name, how, name, s.names())
	}
	if len(name) > 64 {
		name = name[:64]
	}
	return nil, fmt.Errorf("%w %q. This sandbox has: %s", errUnknownLanguage, name, s.names())
}

func (s specs) names() string {
	names := make([]string, 0, len(s))
	for name := range s {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// startList returns the languages whose kernels start with the machine.
func startList(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which kernels to start: %w", err)
	}
	var list struct {
		Start []string `json:"start"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("read which kernels to start: %s: %w", path, err)
	}
	return list.Start, nil
}
