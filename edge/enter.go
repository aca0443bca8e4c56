package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/observe"
)

// maxEnters bounds how often a request enters a machine that is paused again
// before the request is on its way.
const maxEnters = 3

// enter wakes a machine for one request, keeps it awake, and returns the way
// to it. leave must be called once, when the request is over.
func (e *Edge) enter(ctx context.Context, n *entry) (up *upstream, leave func(), err error) {
	for range maxEnters {
		leave, err = e.engine.Enter(ctx, n.id)
		if err != nil {
			return nil, nil, err
		}
		if up, err = e.machines.upstream(n); err == nil {
			return up, leave, nil
		}
		leave()
		if errors.Is(err, errClosing) {
			break
		}
		// Paused between the two: entering again tells whether this request may
		// wake it.
	}
	return nil, nil, fmt.Errorf("%w: reaching machine %s: %w", machine.ErrUnavailable, n.id, err)
}

// answerNotEntered answers a request whose machine could not be entered.
func (e *Edge) answerNotEntered(w http.ResponseWriter, r *http.Request, to *route, err error) {
	t := to.target
	if r.Context().Err() != nil {
		w.WriteHeader(statusClientGone)
		return
	}
	p := problemOfEnter(t, err)
	if p == nil {
		e.log.Error("entering the machine of a request failed", "request", observe.RequestID(r.Context()),
			"machine", t.id, "error", err)
		p = problemUnavailable(t)
	}
	e.log.Debug("a request did not wake its guest", "request", observe.RequestID(r.Context()),
		"machine", t.id, "port", t.port, "error", err)
	if mayAnswerPreflight(r, t, p) {
		answerPreflight(w, r)
		return
	}
	to.answer(w, r, p)
}

// problemOfEnter translates what Engine.Enter fails with; nil for what it
// should not fail with.
func problemOfEnter(t target, err error) *problem {
	switch {
	case errors.Is(err, machine.ErrNotFound):
		return problemNotFound(t)
	case errors.Is(err, machine.ErrPaused):
		return problemPaused(t)
	case errors.Is(err, machine.ErrDamaged):
		return problemImage(t, err, machine.ErrDamaged)
	case errors.Is(err, machine.ErrIncompatible):
		return problemImage(t, err, machine.ErrIncompatible)
	case errors.Is(err, machine.ErrLimit):
		return problemLimit(t, err)
	case errors.Is(err, machine.ErrUnavailable):
		return problemUnavailable(t)
	}
	return nil
}

// maxHeld bounds the bodies, in bytes, that are read before a machine wakes.
const maxHeld = 32 << 10

// holdBody reads a short body before the wait for a machine to wake: of an
// HTTP/1 connection the server notices the client's leaving only once the body
// is read. Longer bodies stay where they are, and such a client's leaving is
// noticed when the machine is awake.
func holdBody(r *http.Request) error {
	if r.ProtoMajor != 1 || r.ContentLength <= 0 || r.ContentLength > maxHeld || r.Header.Get("Expect") != "" {
		return nil
	}
	b := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, b); err != nil {
		return fmt.Errorf("reading the request's body: %w", err)
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(b), r.Body}
	return nil
}
