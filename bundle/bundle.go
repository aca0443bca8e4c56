// Package bundle carries the helper binaries inside the one binary that a
// person runs, and lays them out on disk for the runtime and the templates.
package bundle

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed files
var files embed.FS

// Names of the binaries in the bundle.
const (
	Guest   = "atoll-guest"   // first process of every machine
	Sandbox = "atoll-sandbox" // gVisor: sentry, gofer and worker in one
	Prewarm = "atoll-prewarm" // starts the sentry with less to do
)

// GuestDir is the folder, below the one that Extract returns, with the guest
// daemon alone.
const GuestDir = "guest"

// open opens a binary of the bundle. They are large: nobody reads one whole.
func open(name string) (fs.File, error) {
	f, err := files.Open("files/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("this atoll was built without %s: build it with make build", name)
	}
	return f, err
}

// digest returns the first 16 hexadecimal digits of the SHA-256 over the named
// binaries: the version of what a snapshot depends on.
func digest(names ...string) (string, error) {
	h := sha256.New()
	for _, name := range names {
		f, err := open(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, name)
		_, err = io.Copy(h, f)
		f.Close() // read only
		if err != nil {
			return "", fmt.Errorf("read %s: %w", name, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// Extract writes the binaries below dir, in a folder named by their digest,
// and returns that folder: its name is the version of all three. The guest
// daemon lies alone in the folder GuestDir of it, which machines get to see.
// Folders of older versions stay: guests that outlived their server still run
// from them.
func Extract(dir string) (string, error) {
	version, err := digest(Sandbox, Prewarm, Guest)
	if err != nil {
		return "", err
	}
	target := filepath.Join(dir, version)
	if _, err := os.Stat(target); err == nil {
		return target, nil
	}
	staging, err := os.MkdirTemp(dir, "staging-")
	if err != nil {
		return "", fmt.Errorf("make room for the binaries: %w", err)
	}
	defer os.RemoveAll(staging)
	if err := os.Mkdir(filepath.Join(staging, GuestDir), 0o755); err != nil {
		return "", fmt.Errorf("make room for the guest daemon: %w", err)
	}
	for name, to := range map[string]string{Sandbox: Sandbox, Prewarm: Prewarm, Guest: filepath.Join(GuestDir, Guest)} {
		if err := write(filepath.Join(staging, to), name); err != nil {
			return "", fmt.Errorf("write %s: %w", name, err)
		}
	}
	if err := os.Chmod(staging, 0o755); err != nil {
		return "", err
	}
	if err := os.Rename(staging, target); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("put the binaries in place: %w", err)
	}
	return target, nil
}

// write writes a binary of the bundle to a new file.
func write(path, name string) error {
	from, err := open(name)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}
