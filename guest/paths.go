package guest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// errBadPath is reported for paths that cannot name a file.
var errBadPath = errors.New("invalid path")

// resolvePath makes a client's path absolute: relative paths and "~" begin at
// the user's home, or at base when it is not empty.
func resolvePath(path, base string, user *account) (string, error) {
	if strings.ContainsRune(path, 0) {
		return "", fmt.Errorf("%w: it holds a NUL byte", errBadPath)
	}
	if path == "~" || strings.HasPrefix(path, "~/") {
		return filepath.Join(user.home, path[1:]), nil
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	if base == "" {
		base = user.home
	}
	return filepath.Join(base, path), nil
}

// makeDirs creates a directory and its missing parents; those that it creates
// belong to the user.
func makeDirs(path string, user *account) error {
	info, err := os.Stat(path)
	if err == nil {
		if info.IsDir() {
			return nil
		}
		return fmt.Errorf("%w: %q exists and is not a directory", errBadPath, path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if parent := filepath.Dir(path); parent != path {
		if err := makeDirs(parent, user); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil // somebody else was faster
		}
		return err
	}
	return os.Lchown(path, int(user.uid), int(user.gid))
}

// readBounded returns at most limit bytes of a small system file, "" if it
// cannot be read.
func readBounded(path string, limit int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, limit))
	return string(data)
}
