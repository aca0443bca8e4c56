package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// bundleName is what folders of helper binaries are called, see package bundle.
var bundleName = regexp.MustCompile(`^[0-9a-f]{16}$`)

// removeOldBundles removes versions of the helper binaries on which no machine
// runs and which no memory image needs.
func (e *Engine) removeOldBundles() error {
	needed := map[string]bool{e.config.Bundle: true}
	for _, m := range e.all() {
		record := m.record()
		needed[record.Bundle] = true
		if record.Image != nil {
			needed[record.Image.Bundle] = true
		}
		for _, c := range m.checkpoints() {
			if c.Image != nil {
				needed[c.Image.Bundle] = true
			}
		}
	}
	for _, t := range e.Snapshots(SnapshotQuery{}) {
		needed[t.Snapshot.Image.Bundle] = true
	}
	entries, err := os.ReadDir(e.config.LibDir)
	if err != nil {
		return fmt.Errorf("list the versions of the helper binaries: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		if name := entry.Name(); bundleName.MatchString(name) && !needed[name] {
			errs = append(errs, os.RemoveAll(filepath.Join(e.config.LibDir, name)))
		}
	}
	return errors.Join(errs...)
}
