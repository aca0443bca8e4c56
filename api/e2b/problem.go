package e2b

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/observe"
)

// problem is an error with the status that it is answered with.
type problem struct {
	status  int
	code    string // error_code; may be empty
	message string
}

func (p *problem) Error() string { return p.message }

func fail(status int, format string, args ...any) error {
	return &problem{status: status, message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return fail(http.StatusBadRequest, format, args...)
}

// statuses translates errors of the rooms below. The first that matches counts.
var statuses = []struct {
	err    error
	status int
}{
	{machine.ErrNotFound, http.StatusNotFound},
	{machine.ErrInvalid, http.StatusBadRequest},
	{machine.ErrLimit, http.StatusTooManyRequests},
	{machine.ErrConflict, http.StatusConflict},
	{machine.ErrPaused, http.StatusConflict},
	{machine.ErrDamaged, http.StatusConflict},
	{machine.ErrIncompatible, http.StatusConflict},
	{machine.ErrUnavailable, http.StatusServiceUnavailable},
	{account.ErrNotFound, http.StatusNotFound},
	{account.ErrInvalid, http.StatusBadRequest},
	{context.DeadlineExceeded, http.StatusGatewayTimeout},
	{context.Canceled, statusClientGone},
}

// statusClientGone is logged for requests whose client left before the answer.
const statusClientGone = 499

// problemOf decides how an error is answered. What the rooms below did not
// mean for users is not shown to them.
func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	if refused, ok := errors.AsType[*door.Refusal](err); ok {
		return &problem{status: refused.Status, message: refused.Message}
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return &problem{status: s.status, message: door.Sentence(err, s.err)}
		}
	}
	return &problem{status: http.StatusInternalServerError, code: "internal_server_error"}
}

// errorBody is the shape of all errors of this API.
type errorBody struct {
	Code      int    `json:"code"`
	ErrorCode string `json:"error_code,omitempty"`
	Message   string `json:"message"`
}

func (p *problem) body() errorBody {
	return errorBody{Code: p.status, ErrorCode: p.code, Message: p.message}
}

// explain is problemOf with a message in any case: what the server failed at
// goes to its log.
func (d *Door) explain(r *http.Request, err error) *problem {
	p := problemOf(err)
	if p.status == http.StatusInternalServerError && p.message == "" {
		id := observe.RequestID(r.Context())
		d.logger.Error("request failed", "request", id, "method", r.Method, "path", door.Clip(r.URL.Path), "error", err)
		p.message = "the server failed to do this; its log tells why"
		if id != "" {
			p.message = fmt.Sprintf("the server failed to do this; its log tells why under request id %s", id)
		}
	}
	return p
}

func (d *Door) writeError(w http.ResponseWriter, r *http.Request, err error) {
	p := d.explain(r, err)
	if p.status == http.StatusTooManyRequests {
		// Waiting does not help against a limit of concurrent sandboxes.
		w.Header().Set("Should-Retry", "false")
	}
	door.WriteJSON(w, p.status, p.body())
}
