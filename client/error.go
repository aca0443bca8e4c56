package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"connectrpc.com/connect"
)

// Error is an answer of the server that was not a success.
type Error struct {
	Status  int    `json:"code"`                 // HTTP status
	Code    string `json:"error_code,omitempty"` // the server's machine-readable code, often empty
	Message string `json:"message"`              // a sentence for the user
}

func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("the server answered %d %s", e.Status, http.StatusText(e.Status))
	}
	return e.Message
}

// ErrUnreachable wraps failures to talk to the server at all.
var ErrUnreachable = errors.New("cannot reach the server")

func unreachable(u *url.URL, err error) error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e // it was reached, and said this
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	// url.Error repeats method and address; its cause is what a person needs.
	if ue := (*url.Error)(nil); errors.As(err, &ue) {
		err = ue.Err
	}
	return fmt.Errorf("%w at %s: %w", ErrUnreachable, u, err)
}

// Status returns the HTTP status that err carries, or 0. Errors of the guest's
// RPC services are given the status that says the same.
func Status(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	var ce *connect.Error
	if errors.As(err, &ce) {
		switch ce.Code() {
		case connect.CodeNotFound:
			return http.StatusNotFound
		case connect.CodeUnauthenticated:
			return http.StatusUnauthorized
		case connect.CodePermissionDenied:
			return http.StatusForbidden
		case connect.CodeInvalidArgument:
			return http.StatusBadRequest
		case connect.CodeAlreadyExists:
			return http.StatusConflict
		case connect.CodeResourceExhausted:
			return http.StatusTooManyRequests
		case connect.CodeUnimplemented:
			return http.StatusNotImplemented
		case connect.CodeUnavailable:
			return http.StatusBadGateway
		case connect.CodeDeadlineExceeded:
			return http.StatusGatewayTimeout
		}
	}
	return 0
}

// IsNotFound reports whether err says that what was asked for does not exist.
func IsNotFound(err error) bool { return Status(err) == http.StatusNotFound }

// readError turns an answer into an *Error. It understands the doors' shapes
// ({code, message, error_code}, and {error, message} of sprites) and plain
// text; anything else stays unread.
func readError(res *http.Response) error {
	e := &Error{Status: res.StatusCode}
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return e
	}
	var shape struct {
		Message   string `json:"message"`
		ErrorCode string `json:"error_code"`
		Error     string `json:"error"`
	}
	switch {
	case json.Unmarshal(b, &shape) == nil && first(shape.Message, shape.Error) != "":
		e.Message, e.Code = first(shape.Message, shape.Error), first(shape.ErrorCode, shape.Error)
	case strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain"):
		e.Message = strings.TrimSpace(string(b))
	}
	return e
}

// first is the first text that is not empty.
func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
