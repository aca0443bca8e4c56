package admin

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/observe"
)

type fakeEngine struct{ asked machine.EventQuery }

func (f *fakeEngine) PastEvents(_ context.Context, q machine.EventQuery, each func(machine.Event) error) error {
	f.asked = q
	for _, state := range []machine.State{machine.Running, machine.Ended} {
		if err := each(machine.Event{Machine: "i1", To: state}); err != nil {
			return err
		}
	}
	return nil
}

func TestEvents(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		name, path, token string
		code              int
		asked             machine.EventQuery
	}{
		{"no token", "/admin/events", "", http.StatusUnauthorized, machine.EventQuery{}},
		{"a wrong token", "/admin/events", "wrong", http.StatusUnauthorized, machine.EventQuery{}},
		{"all", "/admin/events", "right", http.StatusOK, machine.EventQuery{Limit: defaultEvents}},
		{"selected", "/admin/events?machine=i1&limit=5&since=2026-01-02T03:04:05Z", "right", http.StatusOK,
			machine.EventQuery{Machine: "i1", Limit: 5, Since: since}},
		{"a limit that is none", "/admin/events?limit=-1", "right", http.StatusBadRequest, machine.EventQuery{}},
		{"a time that is none", "/admin/events?since=yesterday", "right", http.StatusBadRequest, machine.EventQuery{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			engine := &fakeEngine{}
			h := New(Config{Engine: engine, Metrics: observe.NewMetrics(), Logger: slog.New(slog.DiscardHandler),
				IsAdmin: func(token string) bool { return token == "right" }})
			r := httptest.NewRequest(http.MethodGet, c.path, nil)
			if c.token != "" {
				r.Header.Set("Authorization", "Bearer "+c.token)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.code || engine.asked != c.asked {
				t.Errorf("status %d, asked for %+v", w.Code, engine.asked)
			}
			if c.code == http.StatusOK && strings.Count(w.Body.String(), "\n") != 2 {
				t.Errorf("answered %q", w.Body)
			}
		})
	}
}
