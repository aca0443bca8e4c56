package e2b

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
)

const (
	historyStep = 30 * time.Second
	historyLen  = 2880 // steps that are kept: a day
)

// history remembers, in steps of time, how many sandboxes each team had and
// started. It lives in memory: a restarted server begins anew.
type history struct {
	mu    sync.Mutex
	teams map[string]*teamHistory
}

type teamHistory struct {
	steps  []historyPoint // oldest first, at most historyLen
	starts int            // since the newest step
}

type historyPoint struct {
	at         time.Time
	concurrent int
	perSecond  float64 // sandboxes started
}

func newHistory() *history { return &history{teams: map[string]*teamHistory{}} }

// Run keeps the teams' metrics until ctx ends.
func (d *Door) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan error, 1)
	go func() { events <- d.engine.Events(ctx, d.history.count) }()
	defer func() { cancel(); <-events }()
	tick := time.NewTicker(historyStep)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.history.step(d.now(), d.running())
		case err := <-events:
			events <- nil
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// running counts the sandboxes of each team, without paused ones.
func (d *Door) running() map[string]int {
	counts := map[string]int{}
	for _, m := range d.engine.List("") {
		if runs(&m) {
			counts[m.Team]++
		}
	}
	return counts
}

// count takes note of a sandbox that started.
func (h *history) count(e machine.Event) {
	if e.Kind != "" || e.To != machine.Running || e.From != machine.Creating {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.team(e.Team).starts++
}

// team returns a team's history; mu is held.
func (h *history) team(id string) *teamHistory {
	t := h.teams[id]
	if t == nil {
		t = &teamHistory{}
		h.teams[id] = t
	}
	return t
}

// step closes a step of time. Teams of which nothing is left are forgotten.
func (h *history) step(now time.Time, running map[string]int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id := range running {
		h.team(id)
	}
	for id, t := range h.teams {
		if running[id] > 0 || t.starts > 0 || t.last() > 0 {
			t.steps = append(t.steps, historyPoint{at: now, concurrent: running[id], perSecond: float64(t.starts) / historyStep.Seconds()})
			t.starts = 0
		}
		old := now.Add(-historyLen * historyStep)
		t.steps = slices.DeleteFunc(t.steps, func(p historyPoint) bool { return p.at.Before(old) })
		if len(t.steps) == 0 {
			delete(h.teams, id)
		}
	}
}

// last is the count of the newest step: a zero after it is worth a point.
func (t *teamHistory) last() int {
	if len(t.steps) == 0 {
		return 0
	}
	return t.steps[len(t.steps)-1].concurrent
}

// span returns a team's points in a span of time, with the present as the last.
func (h *history) span(team string, from, to, now time.Time, running int) []historyPoint {
	h.mu.Lock()
	defer h.mu.Unlock()
	var points []historyPoint
	present := historyPoint{at: now, concurrent: running}
	if t := h.teams[team]; t != nil {
		points = append(points, t.steps...)
		present.perSecond = float64(t.starts) / historyStep.Seconds()
	}
	points = append(points, present)
	return slices.DeleteFunc(points, func(p historyPoint) bool { return p.at.Before(from) || p.at.After(to) })
}

type teamMetric struct {
	Timestamp           stamp   `json:"timestamp"`
	TimestampUnix       int64   `json:"timestampUnix"`
	ConcurrentSandboxes int     `json:"concurrentSandboxes"`
	SandboxStartRate    float64 `json:"sandboxStartRate"`
}

func (d *Door) teamMetrics(w http.ResponseWriter, r *http.Request, c caller) error {
	points, err := d.teamPoints(r, c)
	if err != nil {
		return err
	}
	points = thin(points, maxPoints)
	out := make([]teamMetric, 0, len(points))
	for _, p := range points {
		out = append(out, teamMetric{
			Timestamp: stamp(p.at), TimestampUnix: p.at.Unix(),
			ConcurrentSandboxes: p.concurrent, SandboxStartRate: p.perSecond,
		})
	}
	return door.WriteJSON(w, http.StatusOK, out)
}

type maxTeamMetric struct {
	Timestamp     stamp   `json:"timestamp"`
	TimestampUnix int64   `json:"timestampUnix"`
	Value         float64 `json:"value"`
}

func (d *Door) teamMetricsMax(w http.ResponseWriter, r *http.Request, c caller) error {
	value := func(p historyPoint) float64 { return float64(p.concurrent) }
	switch metric := r.URL.Query().Get("metric"); metric {
	case "concurrent_sandboxes":
	case "sandbox_start_rate":
		value = func(p historyPoint) float64 { return p.perSecond }
	default:
		return invalid(`metric is %q: give "concurrent_sandboxes" or "sandbox_start_rate"`, door.Clip(metric))
	}
	points, err := d.teamPoints(r, c)
	if err != nil {
		return err
	}
	now := d.now()
	best := maxTeamMetric{Timestamp: stamp(now), TimestampUnix: now.Unix()}
	for i, p := range points {
		if i == 0 || value(p) > best.Value {
			best = maxTeamMetric{Timestamp: stamp(p.at), TimestampUnix: p.at.Unix(), Value: value(p)}
		}
	}
	return door.WriteJSON(w, http.StatusOK, best)
}

// teamPoints reads the span that is asked for, by default the last day.
func (d *Door) teamPoints(r *http.Request, c caller) ([]historyPoint, error) {
	if r.PathValue("teamID") != c.team.ID {
		return nil, fail(http.StatusForbidden, "these credentials are for another team")
	}
	now := d.now()
	from, to, err := querySpan(r, now.Add(-historyLen*historyStep), now)
	if err != nil {
		return nil, err
	}
	return d.history.span(c.team.ID, from, to, now, d.running()[c.team.ID]), nil
}
