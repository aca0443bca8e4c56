package service

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/atoll-cloud/atoll/wire"
)

// mountedCheckpoints is where the host shows checkpoints, as seen from the folder
// where users find them.
const mountedCheckpoints = "../.checkpoints"

// writeFiles writes what a sprite is told of itself below /.sprite. Fields that
// are empty leave what is there.
func (s *Server) writeFiles(in *wire.SpriteInit) error {
	var failed []error
	for _, folder := range []string{"services", filepath.Join("logs", "services"), "policy", "checkpoints", "bin"} {
		failed = append(failed, os.MkdirAll(filepath.Join(s.folder, folder), 0o755))
	}
	if in.Policy != "" {
		failed = append(failed, writeChanged(filepath.Join(s.folder, "policy", "network.json"), []byte(in.Policy+"\n"), 0o444))
	}
	failed = append(failed, s.writeFresh(in.Fresh), s.linkCheckpoints(in.Checkpoints), s.linkTool())
	return errors.Join(failed...)
}

// writeFresh leaves a note that the machine lost its memory; the next start that
// has nothing to tell removes it.
func (s *Server) writeFresh(why string) error {
	note := filepath.Join(s.folder, "fresh")
	if why == "" {
		if s.isSprite() {
			return nil
		}
		return removeIfThere(note)
	}
	s.config.Log("warn", "the machine started from its disk though it was asleep with its memory", "reason", why)
	text := fmt.Sprintf("%s started from disk, services started afresh: %s\n", time.Now().UTC().Format(time.RFC3339), why)
	return writeFile(note, []byte(text), 0o644, false)
}

// linkCheckpoints makes the names under which users find mounted checkpoints
// those that are given; with none given it only removes what leads nowhere.
func (s *Server) linkCheckpoints(ids []string) error {
	folder := filepath.Join(s.folder, "checkpoints")
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("list the links to checkpoints: %w", err)
	}
	var failed []error
	for _, entry := range entries {
		path := filepath.Join(folder, entry.Name())
		if entry.Type()&fs.ModeSymlink == 0 {
			continue
		}
		_, err := os.Stat(path)
		if len(ids) == 0 && err != nil || len(ids) > 0 && !slices.Contains(ids, entry.Name()) {
			failed = append(failed, removeIfThere(path))
		}
	}
	for _, id := range ids {
		if err := checkName(id); err != nil {
			failed = append(failed, fmt.Errorf("link checkpoint: %w", err))
			continue
		}
		err := os.Symlink(filepath.Join(mountedCheckpoints, id), filepath.Join(folder, id))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			failed = append(failed, fmt.Errorf("link checkpoint: %w", err))
		}
	}
	return errors.Join(failed...)
}

// linkTool makes sure that sprite-env is there, which is this program under
// another name.
func (s *Server) linkTool() error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	link := filepath.Join(s.folder, "bin", "sprite-env")
	if target, err := os.Readlink(link); err == nil && target == program {
		return nil
	}
	if err := removeIfThere(link); err != nil {
		return err
	}
	return os.Symlink(program, link)
}

// writeChanged writes a file if it is not so already.
func writeChanged(path string, data []byte, mode os.FileMode) error {
	if was, err := os.ReadFile(path); err == nil && bytes.Equal(was, data) {
		return nil
	}
	return writeFile(path, data, mode, false)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
