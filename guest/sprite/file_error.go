package sprite

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"syscall"
)

// fileError is a file operation's error as clients read it.
type fileError struct {
	Text   string `json:"error"`
	Code   string `json:"code"`
	Path   string `json:"path,omitempty"`
	status int
	err    error
}

func (e *fileError) Error() string { return e.Text }
func (e *fileError) Unwrap() error { return e.err }

// invalid is an error of the request itself.
func invalid(path string, err error) *fileError {
	return &fileError{err.Error(), "EINVAL", path, http.StatusBadRequest, err}
}

// fileCodes are the codes that clients know, by what the system says.
var fileCodes = []struct {
	is     error
	code   string
	status int
}{
	{fs.ErrNotExist, "ENOENT", http.StatusNotFound},
	{syscall.ENOTDIR, "ENOTDIR", http.StatusBadRequest},
	{syscall.EISDIR, "EISDIR", http.StatusBadRequest},
	{syscall.ENOTEMPTY, "ENOTEMPTY", http.StatusBadRequest},
	{fs.ErrExist, "EEXIST", http.StatusBadRequest},
	{syscall.EPERM, "EPERM", http.StatusBadRequest},
	{fs.ErrPermission, "EACCES", http.StatusBadRequest},
	{syscall.EROFS, "EACCES", http.StatusBadRequest},
	{syscall.EINVAL, "EINVAL", http.StatusBadRequest},
	{syscall.ELOOP, "EINVAL", http.StatusBadRequest},
	{syscall.ENAMETOOLONG, "EINVAL", http.StatusBadRequest},
	{syscall.EXDEV, "EINVAL", http.StatusBadRequest},
	{syscall.ENOSPC, "EIO", http.StatusInsufficientStorage},
	{syscall.EDQUOT, "EIO", http.StatusInsufficientStorage},
}

// describe gives an error of the system the path that the client named.
func describe(path string, err error) *fileError {
	var known *fileError
	if errors.As(err, &known) {
		return known
	}
	text := err.Error()
	var inner *fs.PathError
	if errors.As(err, &inner) && inner.Path == path {
		text = inner.Err.Error() + ": " + path
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		text = link.Err.Error() + ": " + path
	}
	for _, c := range fileCodes {
		if errors.Is(err, c.is) {
			return &fileError{text, c.code, path, c.status, err}
		}
	}
	return &fileError{text, "EIO", path, http.StatusInternalServerError, err}
}

// writeFileError answers a file request with an error.
func writeFileError(w http.ResponseWriter, err *fileError) { writeJSON(w, err.status, err) }
