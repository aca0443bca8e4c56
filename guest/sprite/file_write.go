package sprite

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/atoll-cloud/atoll/guest"
)

// written is the answer to a write.
type written struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
	Mode string `json:"mode"`
}

// writeFile serves the route that replaces a file by the body.
func (s *Server) writeFile(w http.ResponseWriter, r *http.Request) {
	answer, failed := fileArgs{s, r.URL.Query()}.write(r.Body, r.ContentLength)
	if failed != nil {
		writeFileError(w, failed)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// write replaces a file's content by a body of a size, -1 when it is not known.
// A file that exists keeps its owner, and its mode if none is given.
func (a fileArgs) write(body io.Reader, size int64) (*written, *fileError) {
	path, failed := a.path("path")
	if failed != nil {
		return nil, failed
	}
	mode, given, failed := a.mode()
	if failed != nil {
		return nil, failed
	}
	if dir := filepath.Dir(path); a.makesParents(path) {
		if err := a.server.guest.MakeDirs(dir, a.flag("asRoot")); err != nil {
			return nil, describe(path, notDirectory(dir, err))
		}
	}
	if err := guest.CheckSpace(path, size); err != nil {
		return nil, describe(path, err)
	}
	file, created, err := openToWrite(path)
	if err != nil {
		return nil, describe(path, err)
	}
	answer, err := a.fill(file, body, mode, given, created)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		if created {
			os.Remove(path) // half a file is worth nothing
		}
		return nil, describe(path, fmt.Errorf("write %s: %w", path, err))
	}
	answer.Path = path
	return answer, nil
}

// makesParents reports whether a write makes the directories above the file.
// Published clients make a directory by writing a file ".keep" into it, also when
// they ask for no parents: those are then the directory's.
func (a fileArgs) makesParents(path string) bool {
	if !a.values.Has("mkdirParents") && !a.values.Has("mkdir") || a.flag("mkdirParents", "mkdir") {
		return true
	}
	if filepath.Base(path) != ".keep" {
		return false
	}
	_, err := os.Stat(filepath.Dir(filepath.Dir(path)))
	return err == nil
}

// notDirectory gives the error for a parent that is a file the code that clients
// know.
func notDirectory(path string, err error) error {
	for ; path != "/"; path = filepath.Dir(path) {
		if info, statErr := os.Stat(path); statErr == nil && !info.IsDir() {
			return fmt.Errorf("%w: %s", syscall.ENOTDIR, path)
		}
	}
	return err
}

// openToWrite opens a regular file to be replaced, and says whether it is new.
func openToWrite(path string) (file *os.File, created bool, err error) {
	const flags = os.O_WRONLY | os.O_CREATE | syscall.O_NONBLOCK
	file, err = os.OpenFile(path, flags|os.O_EXCL, 0o644)
	if err == nil || !errors.Is(err, fs.ErrExist) {
		return file, err == nil, err
	}
	// Looked at before it is opened: opening some devices does something.
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist): // a link that leads nowhere makes its target
		file, err = os.OpenFile(path, flags, 0o644)
		return file, err == nil, err
	case err != nil:
		return nil, false, err
	case info.IsDir():
		return nil, false, fmt.Errorf("%w: %s", syscall.EISDIR, path)
	case !info.Mode().IsRegular():
		return nil, false, fmt.Errorf("%w: %s is not a regular file", syscall.EINVAL, path)
	}
	file, err = os.OpenFile(path, flags|os.O_TRUNC, 0o644)
	return file, false, err
}

var fileBuffers = sync.Pool{New: func() any { return new([proxyBuffer]byte) }}

func (a fileArgs) fill(file *os.File, body io.Reader, mode fs.FileMode, given, created bool) (*written, error) {
	if created {
		uid, gid, err := a.owner()
		if err != nil {
			return nil, err
		}
		if err := file.Chown(uid, gid); err != nil {
			return nil, err
		}
	}
	size, err := copyFile(file, body)
	if err != nil {
		return nil, err
	}
	if given {
		if err := file.Chmod(mode); err != nil {
			return nil, err
		}
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return &written{Size: size, Mode: octal(info.Mode())}, nil
}

// copyFile copies with few large calls.
func copyFile(to io.Writer, from io.Reader) (int64, error) {
	buffer := fileBuffers.Get().(*[proxyBuffer]byte)
	defer fileBuffers.Put(buffer)
	var total int64
	for {
		n, err := io.ReadFull(from, buffer[:])
		if n > 0 {
			written, err := to.Write(buffer[:n])
			total += int64(written)
			if err != nil {
				return total, err
			}
		}
		switch {
		case err == io.EOF:
			return total, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			// The last buffer, or a body that was cut short: the next read tells.
			if _, err := from.Read(buffer[:1]); err != io.EOF {
				return total, cut(err)
			}
			return total, nil
		case err != nil:
			return total, cut(err)
		}
	}
}

// cut describes a body that did not come whole.
func cut(err error) error {
	return invalid("", fmt.Errorf("read the body: %w", err))
}
