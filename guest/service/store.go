package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// store keeps definitions in a folder, one file for each service. A write that
// returned is on the disk, and a file is whole or not there.
type store struct{ folder string }

const (
	definitionEnd = ".json"
	// unfinished begins the names of files that are being written.
	unfinished = ".new-"
)

// load reads all definitions; what cannot be one is told and passed over.
func (s store) load(complain func(name string, err error)) (map[string]record, error) {
	entries, err := os.ReadDir(s.folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the services: %w", err)
	}
	found := map[string]record{}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), unfinished) {
			os.Remove(filepath.Join(s.folder, entry.Name())) // of a write that did not return
			continue
		}
		name, ok := strings.CutSuffix(entry.Name(), definitionEnd)
		if !ok || !entry.Type().IsRegular() {
			continue
		}
		if len(found) == maxServices {
			complain(name, fmt.Errorf("there are more than %d services", maxServices))
			break
		}
		r, err := s.read(name)
		if err != nil {
			complain(name, err)
			continue
		}
		found[name] = r
	}
	return found, nil
}

func (s store) read(name string) (record, error) {
	if err := checkName(name); err != nil {
		return record{}, err
	}
	f, err := os.Open(s.path(name))
	if err != nil {
		return record{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDefinition+1))
	if err != nil {
		return record{}, err
	}
	if len(data) > maxDefinition {
		return record{}, fmt.Errorf("the file is larger than %d bytes", maxDefinition)
	}
	return parseRecord(data)
}

func (s store) path(name string) string { return filepath.Join(s.folder, name+definitionEnd) }

// write keeps a definition.
func (s store) write(name string, r record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode service %s: %w", name, err)
	}
	if err := writeFile(s.path(name), append(data, '\n'), 0o644, true); err != nil {
		return fmt.Errorf("keep service %s: %w", name, err)
	}
	return nil
}

// remove forgets a definition.
func (s store) remove(name string) error {
	if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove service %s: %w", name, err)
	}
	return syncFolder(s.folder)
}

// writeFile replaces a file at once. If it must last it returns when it is on
// the disk.
func writeFile(path string, data []byte, mode os.FileMode, lasts bool) (err error) {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, unfinished)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode))
	if lasts {
		err = errors.Join(err, f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil || !lasts {
		return err
	}
	return syncFolder(folder)
}

func syncFolder(folder string) error {
	f, err := os.Open(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
