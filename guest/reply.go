package guest

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"syscall"

	"connectrpc.com/connect"
)

// httpError is an error with the status that an HTTP client should see.
type httpError struct {
	status int
	err    error
}

func (e *httpError) Error() string { return e.err.Error() }
func (e *httpError) Unwrap() error { return e.err }

func withStatus(status int, err error) error { return &httpError{status, err} }

// writeJSON answers with a JSON body.
func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(data) // the client left: nobody to tell
}

// writeError answers in the shape that SDKs read: {"code":…,"message":…}.
func writeError(w http.ResponseWriter, err error) {
	status := httpStatus(err)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	writeJSON(w, status, struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}{status, err.Error()})
}

func httpStatus(err error) int {
	var h *httpError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &h):
		return h.status
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case isDiskFull(err):
		return http.StatusInsufficientStorage
	case errors.Is(err, fs.ErrNotExist):
		return http.StatusNotFound
	case errors.Is(err, errUnknownUser):
		return http.StatusUnauthorized
	case isBadPath(err):
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

// rpcError gives an error the code that SDKs turn into their exceptions.
func rpcError(err error) error {
	var c *connect.Error
	code := connect.CodeInternal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &c):
		return err
	case errors.Is(err, fs.ErrNotExist):
		code = connect.CodeNotFound
	case errors.Is(err, fs.ErrExist):
		code = connect.CodeAlreadyExists
	case errors.Is(err, errUnknownUser):
		code = connect.CodeUnauthenticated
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		code = connect.CodePermissionDenied
	case isDiskFull(err), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM):
		code = connect.CodeResourceExhausted
	case isBadPath(err):
		code = connect.CodeInvalidArgument
	}
	return connect.NewError(code, err)
}

func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// isBadPath reports errors that the caller mends by naming another path.
func isBadPath(err error) bool {
	for _, target := range []error{errBadPath, syscall.ENOTDIR, syscall.EISDIR, syscall.ENAMETOOLONG, syscall.ELOOP, syscall.ENOTEMPTY, syscall.EXDEV, syscall.EINVAL} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
