package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
)

// maxCompose bounds the body of a compose request, in bytes.
const maxCompose = 1 << 20

// composeRequest asks for files to be joined.
type composeRequest struct {
	SourcePaths []string `json:"source_paths"`
	Destination string   `json:"destination"`
	Username    string   `json:"username"`
}

// composeFiles serves POST /files/compose: it joins files into one and removes
// them.
func (s *Server) composeFiles(w http.ResponseWriter, r *http.Request) {
	var request composeRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxCompose)).Decode(&request); err != nil {
		writeError(w, withStatus(http.StatusBadRequest, fmt.Errorf("decode the compose request: %w", err)))
		return
	}
	user, err := s.composeUser(r, request.Username)
	if err != nil {
		writeError(w, err)
		return
	}
	path, err := s.compose(request, user)
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, writtenFile{Path: path, Name: filepath.Base(path), Type: "file"})
}

func (s *Server) composeUser(r *http.Request, name string) (*account, error) {
	if name != "" {
		return s.userOrDefault(name)
	}
	return s.requestUser(r.Header)
}

// compose writes the sources into a temporary file beside the destination, so
// that a failure leaves everything as it was.
func (s *Server) compose(request composeRequest, user *account) (string, error) {
	if len(request.SourcePaths) == 0 || request.Destination == "" {
		return "", withStatus(http.StatusBadRequest, errors.New("source_paths and destination are required"))
	}
	destination, err := resolvePath(request.Destination, "", user)
	if err != nil {
		return "", err
	}
	sources, err := composeSources(request.SourcePaths, user)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(destination); err == nil && !info.Mode().IsRegular() {
		return "", withStatus(http.StatusBadRequest, fmt.Errorf("path '%s' is not a regular file", destination))
	}
	if err := makeDirs(filepath.Dir(destination), user); err != nil {
		return "", fmt.Errorf("error creating the directories of '%s': %w", destination, err)
	}
	if err := joinFiles(sources, destination, user); err != nil {
		return "", fmt.Errorf("error composing '%s': %w", destination, err)
	}
	for _, source := range sources {
		if source == destination {
			continue
		}
		s.metadata.forget(source)
		if err := os.Remove(source); err != nil && !os.IsNotExist(err) {
			return "", fmt.Errorf("error removing '%s' after composing: %w", source, err)
		}
	}
	return destination, nil
}

func composeSources(names []string, user *account) ([]string, error) {
	sources := make([]string, 0, len(names))
	for _, name := range names {
		path, err := resolvePath(name, "", user)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, describeOpen(path, err)
		}
		if !info.Mode().IsRegular() {
			return nil, withStatus(http.StatusBadRequest, fmt.Errorf("path '%s' is not a regular file", path))
		}
		if slices.Contains(sources, path) {
			return nil, withStatus(http.StatusBadRequest, fmt.Errorf("path '%s' is named twice", path))
		}
		sources = append(sources, path)
	}
	return sources, nil
}

func joinFiles(sources []string, destination string, user *account) (err error) {
	mode := os.FileMode(0o644)
	if info, err := os.Stat(destination); err == nil {
		mode = info.Mode().Perm()
	}
	temporary, err := os.CreateTemp(filepath.Dir(destination), ".compose-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			temporary.Close()
			os.Remove(temporary.Name())
		}
	}()
	for _, source := range sources {
		if err := appendFile(temporary, source); err != nil {
			return err
		}
	}
	if err := temporary.Chown(int(user.uid), int(user.gid)); err != nil {
		return err
	}
	if err := temporary.Chmod(mode); err != nil {
		return err
	}
	if err := temporary.Close(); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), destination)
}

// appendFile lets the kernel move the bytes where it can.
func appendFile(to *os.File, path string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	_, err = io.Copy(to, from)
	return err
}
