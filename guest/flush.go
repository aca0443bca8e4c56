package guest

import (
	"context"
	"net/http"
)

// heldWriter is the answer of a stream of events whose last ones need no packet
// of their own: each packet wakes the guest's kernel, the host and the client,
// which on a few processors costs as much as what a short command does.
type heldWriter struct {
	http.ResponseWriter
	held bool // used by the handler's goroutine alone
}

// Flush sends what was written, unless the answer is about to end: the server
// then sends it together with the end.
func (w *heldWriter) Flush() {
	if !w.held {
		http.NewResponseController(w.ResponseWriter).Flush()
	}
}

// Unwrap is for http.ResponseController.
func (w *heldWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type heldKey struct{}

// holdable lets a handler hold back the end of its answer.
func holdable(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		held := &heldWriter{ResponseWriter: w}
		next.ServeHTTP(held, r.WithContext(context.WithValue(r.Context(), heldKey{}, held)))
	})
}

// hold tells that the answer ends with what is sent from now on.
func hold(ctx context.Context) {
	if w, ok := ctx.Value(heldKey{}).(*heldWriter); ok {
		w.held = true
	}
}
