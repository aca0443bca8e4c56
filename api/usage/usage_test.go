package usage

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/meter"
	"github.com/atoll-cloud/atoll/store"
)

// house is a door with two teams, of which each had a machine for an hour.
type house struct {
	http.Handler
	t           *testing.T
	mine, yours account.Team
	key, admin  string
	began       time.Time
}

func open(t *testing.T) *house {
	ctx := context.Background()
	h := &house{t: t, began: time.Date(2026, 5, 10, 12, 0, 0, 0, time.UTC)}
	s, err := store.Open(ctx, store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	accounts, err := account.Open(ctx, account.Config{Store: s, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(accounts.Close)
	if _, err := accounts.Bootstrap(ctx, func(f account.FirstSecrets) error {
		h.key, h.admin = f.APIKey, f.AdminToken
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	h.mine = accounts.Teams()[0]
	if h.yours, err = accounts.CreateTeam(ctx, "others"); err != nil {
		t.Fatal(err)
	}
	now := meter.Instant{Wall: h.began, Uptime: time.Hour, Boot: "b"}
	m, err := meter.Open(ctx, meter.Config{Store: s, Logger: slog.New(slog.DiscardHandler), Now: func() meter.Instant { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	m.Awake(meter.Machine{ID: "i1", Team: h.mine.ID, Name: "web", CPUs: 2, MemoryMB: 1024}, meter.Reading{At: now, Life: 1, Memory: 1e9})
	m.Awake(meter.Machine{ID: "i2", Team: h.yours.ID, CPUs: 2, MemoryMB: 1024}, meter.Reading{At: now, Life: 2})
	end := meter.Instant{Wall: now.Wall.Add(time.Hour), Uptime: 2 * time.Hour, Boot: "b"}
	m.End("i1", meter.Reading{At: end, Life: 1, CPU: time.Hour, Memory: 1e9, Disk: 0})
	m.End("i2", meter.Reading{At: end, Life: 2, CPU: 2 * time.Hour, Disk: 0})
	now = end
	h.Handler = New(Config{Meter: m, Accounts: accounts, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return end.Wall }})
	return h
}

// ask sends a request with a header and decodes the answer.
func (h *house) ask(path, header, value string, out any) int {
	h.t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if header != "" {
		r.Header.Set(header, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if out != nil {
		if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
			h.t.Fatalf("%s: %v: %s", path, err, w.Body)
		}
	}
	return w.Code
}

func TestTeamsSeeTheirOwn(t *testing.T) {
	h := open(t)
	for header, value := range map[string]string{"X-API-Key": h.key, "Authorization": "Bearer " + h.key} {
		var got answer
		if code := h.ask("/usage?by=machine", header, value, &got); code != 200 || len(got.Rows) != 1 || got.Rows[0].Machine != "i1" {
			t.Errorf("%s: %d %+v", header, code, got)
		}
	}
	var got answer
	h.ask("/usage?by=team,day&team="+h.mine.ID, "X-API-Key", h.key, &got)
	if len(got.Rows) != 1 || got.Rows[0].TeamName != "default" || got.Rows[0].Day != "2026-05-10" || got.Plan != "sprites" || got.Basis != "used" ||
		got.From != time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC) || got.Total.Usage.CPUSeconds != 3600 || got.Currency != "USD" {
		t.Errorf("%+v", got)
	}
	// A CPU for an hour and a GB for an hour, as published.
	if c := got.Total.Cost; c.Total < 0.11374 || c.Total > 0.11376 || c.CPU < 0.0699 || c.CPU > 0.0701 {
		t.Errorf("costs %+v, want 0.07 and 0.04375", c)
	}
	h.ask("/usage?plan=e2b", "X-API-Key", h.key, &got)
	// As E2B's own example reckons: two CPUs and a GiB, for an hour.
	if c := got.Total.Cost; c.Total < 0.11699 || c.Total > 0.11701 {
		t.Errorf("costs %+v, want 0.1008 and 0.0162", c)
	}
}

func TestTheOperatorSeesAll(t *testing.T) {
	h := open(t)
	for header, value := range map[string]string{"X-Admin-Token": h.admin, "Authorization": "bearer " + h.admin} {
		var got answer
		if code := h.ask("/usage?by=team", header, value, &got); code != 200 || len(got.Rows) != 2 || got.Rows[0].TeamName != "others" {
			t.Errorf("%s: %d %+v", header, code, got)
		}
	}
	var got answer
	h.ask("/usage?by=machine&team="+h.yours.ID, "X-Admin-Token", h.admin, &got)
	if len(got.Rows) != 1 || got.Rows[0].Machine != "i2" || got.Total.Usage.CPUSeconds != 7200 {
		t.Errorf("%+v", got)
	}
}

func TestWrongQuestions(t *testing.T) {
	h := open(t)
	for _, c := range []struct {
		path, header, value string
		code                int
		says                string
	}{
		{"/usage", "", "", 401, "X-API-Key"},
		{"/usage", "X-API-Key", "e2b_" + strings.Repeat("0", 40), 401, "X-API-Key"},
		{"/usage", "X-Admin-Token", h.key, 401, "X-API-Key"},
		{"/usage/plans", "", "", 401, "X-API-Key"},
		{"/usage?team=" + h.yours.ID, "X-API-Key", h.key, 403, "another team"},
		{"/usage?from=yesterday", "X-API-Key", h.key, 400, "from: \"yesterday\" is neither a day"},
		{"/usage?to=2026-13-01", "X-API-Key", h.key, 400, "to: "},
		{"/usage?from=2026-05-02&to=2026-05-01", "X-API-Key", h.key, 400, "ends before it begins"},
		{"/usage?from=0001-01-01", "X-API-Key", h.key, 400, "longer than"},
		{"/usage?by=week", "X-API-Key", h.key, 400, "team, machine or day"},
		{"/usage?plan=" + url.QueryEscape("\x00"), "X-API-Key", h.key, 400, "there are e2b, sprites"},
		{"/usage/else", "X-API-Key", h.key, 404, "GET /usage"},
	} {
		var got struct {
			Code    int
			Message string
		}
		if code := h.ask(c.path, c.header, c.value, &got); code != c.code || got.Code != c.code || !strings.Contains(got.Message, c.says) {
			t.Errorf("%s: %d %+v, want %d and %q", c.path, code, got, c.code, c.says)
		}
	}
}

// The table of prices that is answered can be given back as a file.
func TestPlansAreAFileOfPrices(t *testing.T) {
	h := open(t)
	var raw json.RawMessage
	if code := h.ask("/usage/plans", "X-API-Key", h.key, &raw); code != 200 {
		t.Fatal(code)
	}
	if p, err := meter.ParsePrices("answer", raw); err != nil || p.Default != "sprites" || len(p.Plans) != 2 {
		t.Errorf("%+v, %v", p, err)
	}
}
