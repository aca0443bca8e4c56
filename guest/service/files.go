package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/atoll-cloud/atoll/wire"
)

// maxPolicy bounds a network policy, in bytes.
const maxPolicy = 1 << 20

// writeFiles writes what a sprite is told of itself below /.sprite. A policy
// that is empty leaves the one that is there.
func (s *Server) writeFiles(in *wire.SpriteInit) error {
	var failed []error
	if !s.isSprite() {
		for _, folder := range []string{"services", filepath.Join("logs", "services"), "policy", "bin"} {
			failed = append(failed, os.MkdirAll(filepath.Join(s.folder, folder), 0o755))
		}
		failed = append(failed, s.linkTool())
	}
	if in.Policy != "" {
		failed = append(failed, s.writePolicy([]byte(in.Policy)))
	}
	return errors.Join(append(failed, s.writeFresh(in.Fresh))...)
}

// writePolicy replaces the copy of the network policy that users may read.
func (s *Server) writePolicy(text []byte) error {
	if !json.Valid(text) {
		return errors.New("the network policy is not JSON")
	}
	text = append(bytes.TrimSpace(text), '\n')
	return writeChanged(filepath.Join(s.folder, "policy", "network.json"), text, 0o444)
}

// takePolicy takes the policy from the host, when it has changed.
func (s *Server) takePolicy(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPolicy))
	if err == nil {
		err = s.writePolicy(text)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// askPolicy brings the copy up to date, since the policy may have changed while
// the machine slept.
func (s *Server) askPolicy() {
	ctx, cancel := context.WithTimeout(context.Background(), reportTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://host"+wire.CallPolicy, nil)
	if err != nil {
		return // the address is a constant
	}
	answer, err := s.calls.RoundTrip(r)
	if err != nil {
		return // asked again when the host connects anew
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxPolicy))
	if err == nil && answer.StatusCode == http.StatusOK {
		err = s.writePolicy(text)
	}
	if err != nil {
		s.config.Log("warn", "the copy of the network policy may be old", "error", err.Error())
	}
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
