package observe

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// serve runs one request through the middleware and returns the answer and the log.
func serve(t *testing.T, m *Metrics, h http.HandlerFunc, r *http.Request) (*http.Response, string) {
	t.Helper()
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w := httptest.NewRecorder()
	func() {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				t.Errorf("panic %v leaves the middleware; only http.ErrAbortHandler may", p)
			}
		}()
		Middleware(h, m, logger).ServeHTTP(w, r)
	}()
	return w.Result(), log.String()
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler(func(*http.Request) bool { return true }).ServeHTTP(w, httptest.NewRequest("GET", "/admin/metrics", nil))
	b, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("scrape: %d %v", w.Code, err)
	}
	return string(b)
}

func TestRequestIDIsAcceptedOrMade(t *testing.T) {
	for _, c := range []struct {
		name, given string
		kept        bool
	}{
		{"none", "", false},
		{"usual", "5f0c7b9e-63e1-4b8a-9a31-000000000000", true},
		{"too short", "abc", false},
		{"too long", strings.Repeat("a", 65), false},
		{"line break", "aaaaaaaa\nlevel=error", false},
		{"quotes", `aaaaaaaa"x`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			if c.given != "" {
				r.Header[RequestIDHeader] = []string{c.given}
			}
			var inside string
			res, _ := serve(t, NewMetrics(), func(_ http.ResponseWriter, r *http.Request) { inside = RequestID(r.Context()) }, r)
			got := res.Header.Get(RequestIDHeader)
			if got != inside || !validID(got) {
				t.Errorf("answer has %q, handler saw %q; want the same valid id", got, inside)
			}
			if (got == c.given) != c.kept {
				t.Errorf("given %q, got %q; kept should be %v", c.given, got, c.kept)
			}
		})
	}
}

func TestLogHoldsNoSecrets(t *testing.T) {
	r := httptest.NewRequest("GET", "/files?path=/x&signature=v1_SECRET", nil)
	r.Header.Set("Authorization", "Bearer SECRET")
	r.Header.Set("X-Access-Token", "SECRET")
	_, log := serve(t, NewMetrics(), func(w http.ResponseWriter, r *http.Request) {
		SetRoute(r.Context(), "edge", "files")
		SetMachine(r.Context(), "imachine")
	}, r)
	if strings.Contains(log, "SECRET") {
		t.Errorf("the log tells a secret: %s", log)
	}
	for _, want := range []string{`"path":"/files"`, `"machine":"imachine"`, `"door":"edge"`, `"status":200`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s: %s", want, log)
		}
	}
	_, log = serve(t, NewMetrics(), func(w http.ResponseWriter, r *http.Request) { HidePath(r.Context()) },
		httptest.NewRequest("GET", "/hook/SECRET", nil))
	if strings.Contains(log, "SECRET") {
		t.Errorf("the log tells a hidden path: %s", log)
	}
}

func TestRequestsAreCounted(t *testing.T) {
	m := NewMetrics()
	serve(t, m, func(w http.ResponseWriter, r *http.Request) {
		SetRoute(r.Context(), "e2b", "create")
		w.WriteHeader(http.StatusCreated)
	}, httptest.NewRequest("POST", "/sandboxes", nil))
	serve(t, m, func(w http.ResponseWriter, r *http.Request) {
		SetRoute(r.Context(), "edge", "port")
		w.WriteHeader(799)
	}, httptest.NewRequest("GET", "/", nil))
	_, log := serve(t, m, func(w http.ResponseWriter, r *http.Request) { panic("a bug") }, httptest.NewRequest("GET", "/", nil))
	if !strings.Contains(log, "a bug") || !strings.Contains(log, "goroutine") {
		t.Errorf("a panic is logged without its words or stack: %s", log)
	}
	text := scrape(t, m)
	for _, want := range []string{
		`atoll_http_requests_total{door="e2b",route="create",status="201"} 1`,
		`atoll_http_requests_total{door="edge",route="port",status="7xx"} 1`,
		`atoll_http_requests_total{door="none",route="none",status="aborted"} 1`,
		`atoll_http_requests_in_flight{proto="h1"} 0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestSeriesAreBounded(t *testing.T) {
	m := NewMetrics()
	for i := range 3 * maxRoutes {
		m.done(Route{Door: "x", Class: strings.Repeat("y", i)}, 200, 0)
	}
	if n := strings.Count(scrape(t, m), "atoll_http_requests_total{"); n > maxRoutes+1 {
		t.Errorf("%d series of routes, want at most %d", n, maxRoutes+1)
	}
}

func TestMetricsNeedTheAdmin(t *testing.T) {
	w := httptest.NewRecorder()
	NewMetrics().Handler(func(*http.Request) bool { return false }).ServeHTTP(w, httptest.NewRequest("GET", "/admin/metrics", nil))
	if w.Code != http.StatusUnauthorized || strings.Contains(w.Body.String(), "atoll_") {
		t.Errorf("answered %d %s, want 401 and no metric", w.Code, w.Body)
	}
}

func TestMachineMetrics(t *testing.T) {
	m := NewMetrics()
	s := m.NewMachines(func() MachineCounts {
		return MachineCounts{ByState: map[string]int{"running": 3}, Pool: 2, PoolTarget: 4}
	})
	s.Created(true, 4*time.Millisecond, nil)
	s.Created(false, time.Second, errors.New("no room"))
	s.Ended("timeout")
	text := scrape(t, m)
	for _, want := range []string{
		`atoll_machines{state="running"} 3`, `atoll_pool_machines 2`, `atoll_pool_target 4`,
		`atoll_machine_creates_total{outcome="ok",start="warm"} 1`,
		`atoll_machine_creates_total{outcome="failed",start="cold"} 1`,
		`atoll_machine_create_seconds_count{start="warm"} 1`,
		`atoll_machine_ends_total{reason="timeout"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}
