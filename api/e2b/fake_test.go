package e2b

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/network"
	"github.com/atoll-cloud/atoll/store"
)

// fakeEngine keeps machines in memory and does nothing else.
type fakeEngine struct {
	mu        sync.Mutex
	now       func() time.Time
	machines  []machine.Machine
	specs     []machine.CreateSpec
	reasons   []string
	templates []machine.Template
	logs      []machine.LogEntry
	query     machine.LogQuery
	samples   []machine.Sample
	max       time.Duration
	failWith  error
	createHit func() // called inside of Create
	resumeHit func(*machine.Machine)
	resumes   []machine.ResumeSpec
	damaged   func(*machine.Machine) bool
	wakeWith  error // of a Resume that is no reboot
	forkWith  error // of each copy
	forks     int
	snapshots int
	events    chan machine.Event
}

func (f *fakeEngine) Create(ctx context.Context, spec machine.CreateSpec) (machine.Machine, error) {
	f.mu.Lock()
	hit := f.createHit
	f.mu.Unlock()
	if hit != nil {
		hit()
	}
	t, err := f.Template(spec.Team, spec.Template)
	if err != nil {
		return machine.Machine{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.specs = append(f.specs, spec)
	if f.failWith != nil {
		return machine.Machine{}, f.failWith
	}
	if err := f.room(spec.Team, spec.MaxConcurrent); err != nil {
		return machine.Machine{}, err
	}
	now := f.now()
	m := machine.Machine{
		ID: fmt.Sprintf("i%04d", len(f.specs)), Team: spec.Team, TemplateID: t.ID, BuildID: t.BuildID,
		State: machine.Running, CPUs: 2, MemoryMB: 512, DiskMB: 1024, CreatedAt: now, StartedAt: now,
		Metadata: spec.Metadata, Env: spec.Env, AccessToken: spec.AccessToken, TrafficToken: spec.TrafficToken,
		Network: spec.Network, Door: spec.Door, Lifecycle: spec.Lifecycle, Timeout: spec.Timeout,
	}
	if len(t.Names) > 0 {
		m.Alias = t.Names[0]
	}
	if spec.Timeout > 0 {
		m.Deadline = now.Add(spec.Timeout)
	}
	f.machines = append(f.machines, m)
	return m, nil
}

// set changes what the fake does while it may be in use.
func (f *fakeEngine) set(change func(*fakeEngine)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeEngine) index(id string) int {
	return slices.IndexFunc(f.machines, func(m machine.Machine) bool { return m.ID == id })
}

func (f *fakeEngine) Get(id string) (machine.Machine, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.index(id)
	if i < 0 {
		return machine.Machine{}, fmt.Errorf("%w: no machine %q", machine.ErrNotFound, id)
	}
	return f.machines[i], nil
}

func (f *fakeEngine) List(team string) []machine.Machine {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []machine.Machine
	for _, m := range f.machines {
		if team == "" || m.Team == team {
			out = append(out, m)
		}
	}
	return out
}

func (f *fakeEngine) Kill(ctx context.Context, id, reason string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.index(id)
	if i < 0 {
		return fmt.Errorf("%w: no machine %q", machine.ErrNotFound, id)
	}
	f.machines = slices.Delete(f.machines, i, i+1)
	f.reasons = append(f.reasons, reason)
	return nil
}

func (f *fakeEngine) SetDeadline(ctx context.Context, id string, t time.Time, onlyLater bool) (machine.Machine, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.index(id)
	if i < 0 {
		return machine.Machine{}, fmt.Errorf("%w: no machine %q", machine.ErrNotFound, id)
	}
	m := &f.machines[i]
	if m.Paused {
		return machine.Machine{}, fmt.Errorf("%w: machine %q is paused", machine.ErrPaused, id)
	}
	if !onlyLater || !m.Deadline.IsZero() && (t.IsZero() || t.After(m.Deadline)) {
		m.Deadline = t
	}
	return *m, nil
}

func (f *fakeEngine) SetNetwork(ctx context.Context, id string, p network.Policy) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.machines[f.index(id)].Network = p
	return nil
}

func (f *fakeEngine) Samples(id string, from, to time.Time) ([]machine.Sample, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []machine.Sample
	for _, s := range f.samples {
		if !s.Time.Before(from) && !s.Time.After(to) {
			out = append(out, s)
		}
	}
	return out, nil
}

func (f *fakeEngine) Logs(ctx context.Context, team, id string, q machine.LogQuery) ([]machine.LogEntry, error) {
	m, err := f.Get(id)
	if err != nil || m.Team != team {
		return nil, fmt.Errorf("%w: no machine %q", machine.ErrNotFound, id)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.query = q
	return f.logs[:min(len(f.logs), q.Limit)], nil
}

func (f *fakeEngine) MaxTimeout() time.Duration { return f.max }

func (f *fakeEngine) Node() machine.Node {
	return machine.Node{ID: "node-1", StartedAt: f.now(), Version: "test", CPUs: 2, Machines: len(f.List(""))}
}

func (f *fakeEngine) Events(ctx context.Context, g func(machine.Event)) error {
	for {
		select {
		case e := <-f.events:
			g(e)
		case <-ctx.Done():
			return nil
		}
	}
}

// world is a door on a real HTTP server, with a fake engine and two teams.
type world struct {
	t        testing.TB
	engine   *fakeEngine
	door     *Door
	accounts *account.Accounts
	server   *httptest.Server
	key      string // of the team "default"
	otherKey string // of another team
	admin    string
	team     string
	other    string

	mu  sync.Mutex
	now time.Time
}

func newWorld(t testing.TB) *world {
	ctx := context.Background()
	w := &world{t: t, now: time.Now().Truncate(time.Millisecond)}
	s, err := store.Open(ctx, store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if w.accounts, err = account.Open(ctx, account.Config{Store: s, Now: w.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.accounts.Close)
	_, err = w.accounts.Bootstrap(ctx, func(f account.FirstSecrets) error { w.key, w.admin = f.APIKey, f.AdminToken; return nil })
	if err != nil {
		t.Fatal(err)
	}
	w.team = w.accounts.Teams()[0].ID
	other, err := w.accounts.CreateTeam(ctx, "other")
	if err != nil {
		t.Fatal(err)
	}
	w.other = other.ID
	if _, w.otherKey, err = w.accounts.CreateKey(ctx, other.ID, "k"); err != nil {
		t.Fatal(err)
	}
	w.engine = &fakeEngine{
		now: w.clock, max: 24 * time.Hour, events: make(chan machine.Event),
		templates: []machine.Template{{ID: "base", Names: []string{"base"}, BuildID: "abc", CPUs: 2, MemoryMB: 512, CreatedAt: w.now, UpdatedAt: w.now}},
	}
	w.door = New(Config{Engine: w.engine, Accounts: w.accounts, Domain: "atoll.test", Now: w.clock,
		Logger: slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	w.server = httptest.NewServer(w.door)
	t.Cleanup(w.server.Close)
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) message(t testing.TB) string {
	t.Helper()
	var e errorBody
	if err := json.Unmarshal(a.body, &e); err != nil || e.Code != a.status || e.Message == "" {
		t.Errorf("answer %d has not the shape of an error: %q", a.status, a.body)
	}
	return e.Message
}

// do sends a request as the default team; headers are pairs of name and value.
func (w *world) do(method, path, body string, headers ...string) answer {
	w.t.Helper()
	req, err := http.NewRequest(method, w.server.URL+path, bytes.NewBufferString(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("X-API-Key", w.key)
	for i := 0; i < len(headers); i += 2 {
		if req.Header.Set(headers[i], headers[i+1]); headers[i+1] == "" {
			req.Header.Del(headers[i])
		}
	}
	res, err := w.server.Client().Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{status: res.StatusCode, header: res.Header, body: data}
}

// get decodes the answer to a request that must succeed.
func (w *world) get(path string, v any) answer {
	w.t.Helper()
	a := w.do("GET", path, "")
	if a.status != 200 {
		w.t.Fatalf("GET %s = %d %s", path, a.status, a.body)
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		w.t.Fatalf("GET %s: %v", path, err)
	}
	return a
}

// create makes a sandbox and returns the answer.
func (w *world) create(body string) sandbox {
	w.t.Helper()
	a := w.do("POST", "/v2/sandboxes", body)
	var s sandbox
	if err := json.Unmarshal(a.body, &s); a.status != 201 || err != nil {
		w.t.Fatalf("create = %d %s", a.status, a.body)
	}
	return s
}

func (w *world) lastSpec() machine.CreateSpec { return w.engine.specs[len(w.engine.specs)-1] }

// UnmarshalText lets tests read answers back into the types that wrote them.
func (s *stamp) UnmarshalText(text []byte) error { return (*time.Time)(s).UnmarshalText(text) }
