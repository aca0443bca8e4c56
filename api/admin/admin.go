// Package admin is the operator's own door: metrics and the lifecycle events
// of all teams, for whoever holds the admin token.
package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/observe"
)

// Limits of one answer with events.
const (
	defaultEvents = 1000
	maxEvents     = 100_000
)

// Engine is what the door needs of the machine engine.
type Engine interface {
	// PastEvents calls f for recorded events, oldest first.
	PastEvents(ctx context.Context, q machine.EventQuery, f func(machine.Event) error) error
}

// Config is what New needs.
type Config struct {
	Engine  Engine
	Metrics *observe.Metrics
	// IsAdmin reports whether a token is the operator's.
	IsAdmin func(token string) bool
	Logger  *slog.Logger
}

// New returns the handler of the paths below /admin/:
//
//	GET /admin/metrics  Prometheus metrics
//	GET /admin/events   lifecycle events, one JSON object a line; query
//	                    parameters: since (RFC 3339), machine, limit
//
// The token comes as "Authorization: Bearer …" or "X-Admin-Token: …".
func New(c Config) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /admin/metrics", c.Metrics.Handler(c.allowed))
	mux.HandleFunc("GET /admin/events", c.events)
	return mux
}

func (c Config) allowed(r *http.Request) bool {
	return c.IsAdmin(door.Bearer(r)) || c.IsAdmin(r.Header.Get("X-Admin-Token"))
}

func (c Config) events(w http.ResponseWriter, r *http.Request) {
	observe.SetRoute(r.Context(), "admin", "events")
	if !c.allowed(r) {
		refuse(w, http.StatusUnauthorized, "send the admin token of credentials.json as a bearer token")
		return
	}
	q, err := eventQuery(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	err = c.Engine.PastEvents(r.Context(), q, func(e machine.Event) error { return out.Encode(e) })
	if err != nil && r.Context().Err() == nil {
		c.Logger.Error("read the event log", "error", err)
		panic(http.ErrAbortHandler) // the answer has begun and must not look whole
	}
}

func eventQuery(r *http.Request) (machine.EventQuery, error) {
	in := r.URL.Query()
	q := machine.EventQuery{Machine: in.Get("machine"), Limit: defaultEvents}
	if text := in.Get("since"); text != "" {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return q, fmt.Errorf("since %q is not a time such as 2026-01-02T15:04:05Z", text)
		}
		q.Since = t
	}
	if text := in.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxEvents {
			return q, fmt.Errorf("limit %q is not a number from 1 to %d", text, maxEvents)
		}
		q.Limit = n
	}
	return q, nil
}

func refuse(w http.ResponseWriter, code int, message string) {
	door.WriteJSON(w, code, map[string]any{"code": code, "message": message})
}
