package sprites

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/observe"
	"github.com/atoll-cloud/atoll/wire"
)

// problem is an error with the status that it is answered with. Its fields are
// those that clients of the Sprites API read.
type problem struct {
	status int
	plain  bool // answered as text, as those of checkpoints and policies are

	Code       string `json:"error"`
	Message    string `json:"message"`
	Limit      int    `json:"limit,omitempty"`
	Current    int    `json:"current_count,omitempty"`
	Window     int    `json:"window_seconds,omitempty"`
	RetryAfter int    `json:"retry_after_seconds,omitempty"`
}

func (p *problem) Error() string { return p.Message }

func fail(status int, code, format string, args ...any) *problem {
	return &problem{status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *problem {
	return fail(http.StatusBadRequest, "invalid_request", format, args...)
}

// asText has an error answered as text.
func asText(err error) error {
	if err == nil {
		return nil
	}
	p := *problemOf(err)
	p.plain = true
	if p.status == http.StatusInternalServerError && p.Message == "" {
		return &textual{err}
	}
	return &p
}

// textual is an error that is not meant for users, and answered as text.
type textual struct{ error }

func (t *textual) Unwrap() error { return t.error }

// statuses translates errors of the rooms below. The first that matches counts.
var statuses = []struct {
	err    error
	status int
	code   string
}{
	{machine.ErrNotFound, http.StatusNotFound, "not_found"},
	{machine.ErrInvalid, http.StatusBadRequest, "invalid_request"},
	{wire.ErrSpriteName, http.StatusBadRequest, "invalid_name"},
	{machine.ErrLimit, http.StatusTooManyRequests, codeTooMany},
	{machine.ErrConflict, http.StatusConflict, "conflict"},
	{machine.ErrPaused, http.StatusConflict, "conflict"},
	{machine.ErrDamaged, http.StatusConflict, "damaged"},
	{machine.ErrIncompatible, http.StatusConflict, "incompatible"},
	{machine.ErrUnavailable, http.StatusServiceUnavailable, "unavailable"},
	{account.ErrNotFound, http.StatusNotFound, "not_found"},
	{account.ErrInvalid, http.StatusBadRequest, "invalid_request"},
	{context.DeadlineExceeded, http.StatusGatewayTimeout, "timeout"},
	{context.Canceled, statusClientGone, "canceled"},
}

const (
	// statusClientGone is logged for requests whose client left before the answer.
	statusClientGone = 499
	// codeTooMany is what clients know the limit of a team's sprites by.
	codeTooMany = "concurrent_sprite_limit_exceeded"
)

// problemOf decides how an error is answered. What the rooms below did not
// mean for users is not shown to them.
func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	if refused, ok := errors.AsType[*door.Refusal](err); ok {
		return fail(refused.Status, codeOf(refused.Status), "%s", refused.Message)
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return &problem{status: s.status, Code: s.code, Message: strings.ReplaceAll(door.Sentence(err, s.err), "machine ", "sprite ")}
		}
	}
	return &problem{status: http.StatusInternalServerError, Code: "internal_error"}
}

// codeOf is the code of a request whose body is refused.
func codeOf(status int) string {
	if status == http.StatusRequestEntityTooLarge {
		return "request_too_large"
	}
	return "invalid_request"
}

// byName has an error call a sprite by its name where the rooms below, which
// know machines, use its id.
func byName(err error, m machine.Machine) error {
	if err == nil {
		return nil
	}
	if p := *problemOf(err); m.Name != "" && strings.Contains(p.Message, m.ID) {
		p.Message = strings.ReplaceAll(p.Message, m.ID, m.Name)
		return &p
	}
	return err
}

// explain is problemOf with a message in any case: what the server failed at
// goes to its log.
func (d *Door) explain(ctx context.Context, what string, err error) *problem {
	p := *problemOf(err)
	var text *textual
	p.plain = p.plain || errors.As(err, &text)
	if p.Message == "" {
		id := observe.RequestID(ctx)
		d.log.Error("request failed", "request", id, "what", door.Clip(what), "error", err)
		p.Message = "the server failed to do this; its log tells why"
		if id != "" {
			p.Message += " under request id " + id
		}
	}
	return &p
}

func (d *Door) writeError(w http.ResponseWriter, r *http.Request, err error) {
	p := d.explain(r.Context(), r.Method+" "+r.URL.Path, err)
	h := w.Header()
	if p.status == http.StatusTooManyRequests && p.Limit > 0 {
		h.Set("X-RateLimit-Limit", strconv.Itoa(p.Limit))
		h.Set("X-RateLimit-Remaining", strconv.Itoa(max(p.Limit-p.Current, 0)))
	}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfter))
		h.Set("X-RateLimit-Reset", strconv.FormatInt(d.now().Unix()+int64(p.RetryAfter), 10))
	}
	if p.plain {
		http.Error(w, p.Message, p.status)
		return
	}
	door.WriteJSON(w, p.status, p)
}
