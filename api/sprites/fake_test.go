package sprites

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
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

// patience bounds waits for things that must happen; it is never a measurement.
const patience = 20 * time.Second

// fakeEngine keeps machines in memory and does nothing else.
type fakeEngine struct {
	mu          sync.Mutex
	machines    []machine.Machine
	checkpoints map[string][]machine.Checkpoint
	specs       []machine.CreateSpec
	limit       int
	restarts    []string
	restored    chan string // checkpoints, as they are restored
	holds       map[string]time.Time
	severed     map[string]chan struct{}
	listeners   []func(machine.Event)
	dial        func(ctx context.Context) (net.Conn, error)
	keepWith    error // what CreateCheckpoint fails with
}

func newFakeEngine() *fakeEngine {
	return &fakeEngine{
		checkpoints: map[string][]machine.Checkpoint{}, holds: map[string]time.Time{}, limit: 100,
		severed: map[string]chan struct{}{}, restored: make(chan string, 8),
	}
}

func (f *fakeEngine) Create(_ context.Context, spec machine.CreateSpec) (machine.Machine, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	held := 0
	for _, m := range f.machines {
		if m.Team == spec.Team {
			held++
		}
		if m.Team == spec.Team && m.Name == spec.Name {
			return machine.Machine{}, fmt.Errorf("%w: there is a machine called %q already", machine.ErrConflict, m.Name)
		}
		if m.Host == spec.Host {
			return machine.Machine{}, fmt.Errorf("%w: %q", machine.ErrHostTaken, m.Host)
		}
	}
	if held >= f.limit {
		return machine.Machine{}, fmt.Errorf("%w: the team has %d machines", machine.ErrLimit, held)
	}
	f.specs = append(f.specs, spec)
	now := time.Now()
	m := machine.Machine{
		ID: fmt.Sprintf("i%d", len(f.specs)), Team: spec.Team, Kind: spec.Kind, Name: spec.Name, Host: spec.Host,
		State: machine.Running, CPUs: 2, MemoryMB: 2048, DiskMB: 100 << 10, CreatedAt: now, StartedAt: now,
		Env: spec.Env, Door: spec.Door, Lifecycle: spec.Lifecycle, BuildID: "build", Bundle: "new", ControlToken: "control",
	}
	f.machines = append(f.machines, m)
	f.severed[m.ID] = make(chan struct{})
	f.tell(machine.Event{Time: now, Machine: m.ID, Team: m.Team, From: machine.Creating, To: machine.Running})
	return m, nil
}

// tell is called with mu held.
func (f *fakeEngine) tell(e machine.Event) {
	for _, l := range f.listeners {
		go l(e)
	}
}

func (f *fakeEngine) find(match func(machine.Machine) bool) (machine.Machine, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.IndexFunc(f.machines, match); i >= 0 {
		return f.machines[i], nil
	}
	return machine.Machine{}, fmt.Errorf("%w: no machine", machine.ErrNotFound)
}

func (f *fakeEngine) Get(id string) (machine.Machine, error) {
	return f.find(func(m machine.Machine) bool { return m.ID == id })
}

func (f *fakeEngine) Named(team, name string) (machine.Machine, error) {
	return f.find(func(m machine.Machine) bool { return m.Team == team && m.Name == name })
}

func (f *fakeEngine) AtHost(label string) (machine.Machine, error) {
	return f.find(func(m machine.Machine) bool { return m.Host == label })
}

func (f *fakeEngine) List(team string) (out []machine.Machine) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.machines {
		if team == "" || m.Team == team {
			out = append(out, m)
		}
	}
	return out
}

// edit changes a machine and tells of a new state.
func (f *fakeEngine) edit(id string, change func(*machine.Machine)) (machine.Machine, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.machines, func(m machine.Machine) bool { return m.ID == id })
	if i < 0 {
		return machine.Machine{}, fmt.Errorf("%w: no machine %q", machine.ErrNotFound, id)
	}
	m := &f.machines[i]
	from := m.State
	if change(m); m.State != from {
		f.tell(machine.Event{Time: time.Now(), Machine: id, Team: m.Team, From: from, To: m.State})
	}
	return *m, nil
}

func (f *fakeEngine) Kill(_ context.Context, id, _ string) error {
	m, err := f.edit(id, func(m *machine.Machine) { m.State = machine.Ended })
	f.mu.Lock()
	defer f.mu.Unlock()
	f.machines = slices.DeleteFunc(f.machines, func(o machine.Machine) bool { return o.ID == m.ID })
	return err
}

func (f *fakeEngine) Restart(_ context.Context, id string) (machine.Machine, error) {
	return f.edit(id, func(m *machine.Machine) {
		f.restarts = append(f.restarts, id)
		m.State, m.Bundle = machine.Running, "new"
	})
}

func (f *fakeEngine) EditDoor(_ context.Context, id string, edit func(map[string]string)) (machine.Machine, error) {
	return f.edit(id, func(m *machine.Machine) {
		m.Door = maps.Clone(m.Door)
		edit(m.Door)
	})
}

func (f *fakeEngine) SetIdle(_ context.Context, id string, policy *machine.IdlePolicy) (machine.Machine, error) {
	return f.edit(id, func(m *machine.Machine) { m.Lifecycle.Idle = policy })
}

func (f *fakeEngine) SetNetwork(_ context.Context, id string, p network.Policy) error {
	_, err := f.edit(id, func(m *machine.Machine) { m.Network = p })
	return err
}

func (f *fakeEngine) Hold(id string, until time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holds[id] = until
	return nil
}

func (f *fakeEngine) Logs(_ context.Context, _, _ string, q machine.LogQuery) ([]machine.LogEntry, error) {
	entries := []machine.LogEntry{{Time: time.Unix(2, 0), Level: "info", Message: "second"}, {Time: time.Unix(1, 0), Level: "info", Message: "first"}}
	return entries[:min(q.Limit, len(entries))], nil
}

func (f *fakeEngine) Events(ctx context.Context, l func(machine.Event)) error {
	f.mu.Lock()
	f.listeners = append(f.listeners, l)
	f.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

func (f *fakeEngine) CreateCheckpoint(_ context.Context, id string, spec machine.CheckpointSpec) (machine.Checkpoint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keepWith != nil {
		return machine.Checkpoint{}, f.keepWith
	}
	all := f.checkpoints[id]
	c := machine.Checkpoint{ID: fmt.Sprintf("v%d", len(all)+1), Machine: id, Comment: spec.Comment, CreatedAt: time.Now(), Bytes: 7}
	if len(all) > 0 {
		c.Source = all[len(all)-1].ID
	}
	if spec.Memory {
		c.Image = &machine.Image{}
	}
	f.checkpoints[id] = append(all, c)
	return c, nil
}

func (f *fakeEngine) Checkpoints(_ context.Context, id string) ([]machine.Checkpoint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.checkpoints[id]), nil
}

func (f *fakeEngine) DeleteCheckpoint(_ context.Context, id, checkpoint string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.checkpoints[id])
	f.checkpoints[id] = slices.DeleteFunc(f.checkpoints[id], func(c machine.Checkpoint) bool { return c.ID == checkpoint })
	if len(f.checkpoints[id]) == n {
		return fmt.Errorf("%w: checkpoint %q", machine.ErrNotFound, checkpoint)
	}
	return nil
}

func (f *fakeEngine) RestoreCheckpoint(_ context.Context, id, checkpoint string) (machine.Machine, error) {
	f.restored <- checkpoint
	return f.edit(id, func(m *machine.Machine) {
		auto := machine.Checkpoint{ID: "pre-restore-" + checkpoint + "-1", Machine: id, Auto: true, CreatedAt: time.Now()}
		f.checkpoints[id] = append(f.checkpoints[id], auto)
	})
}

func (f *fakeEngine) Dial(ctx context.Context, _ string, _ int) (net.Conn, error) {
	f.mu.Lock()
	dial := f.dial
	f.mu.Unlock()
	if dial == nil {
		return nil, fmt.Errorf("%w: nothing is there", machine.ErrUnavailable)
	}
	return dial(ctx)
}

func (f *fakeEngine) Severed(id string) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.severed[id]
}

// fakeDaemon answers with what it is asked.
type fakeDaemon struct{}

func (fakeDaemon) Daemon(w http.ResponseWriter, r *http.Request, m machine.Machine, refuse func(int, string)) {
	if m.State != machine.Running {
		refuse(http.StatusServiceUnavailable, "it is not awake")
		return
	}
	fmt.Fprintf(w, "%s %s of %s", r.Method, r.URL.RequestURI(), m.Name)
}

// world is a door with a team, another team, and an engine of the test's own.
type world struct {
	t        testing.TB
	engine   *fakeEngine
	accounts *account.Accounts
	door     *Door
	server   *httptest.Server
	key      string // of the team "default"
	otherKey string // of the team "Other Ones"
	team     account.Team
}

func newWorld(t testing.TB) *world {
	ctx := context.Background()
	w := &world{t: t, engine: newFakeEngine()}
	s, err := store.Open(ctx, store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if w.accounts, err = account.Open(ctx, account.Config{Store: s}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.accounts.Close)
	if _, err = w.accounts.Bootstrap(ctx, func(f account.FirstSecrets) error { w.key = f.APIKey; return nil }); err != nil {
		t.Fatal(err)
	}
	w.team = w.accounts.Teams()[0]
	other, err := w.accounts.CreateTeam(ctx, "Other Ones")
	if err != nil {
		t.Fatal(err)
	}
	if _, w.otherKey, err = w.accounts.CreateKey(ctx, other.ID, "k"); err != nil {
		t.Fatal(err)
	}
	w.door = New(Config{
		Engine: w.engine, Daemon: fakeDaemon{}, Accounts: w.accounts, Bundle: "new",
		URL: func(label string) string { return "https://" + label + ".atoll.test" },
	})
	ctx, cancel := context.WithCancel(ctx)
	var run sync.WaitGroup
	run.Go(func() { w.door.Run(ctx) })
	t.Cleanup(func() { cancel(); run.Wait() })
	w.server = httptest.NewServer(w.door)
	t.Cleanup(w.server.Close)
	return w
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request as the default team; headers are pairs of name and value.
func (w *world) do(method, path, body string, headers ...string) answer {
	w.t.Helper()
	req, err := http.NewRequest(method, w.server.URL+path, bytes.NewBufferString(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.key)
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
	if res.Header.Get(versionHeader) != Version {
		w.t.Errorf("%s %s: the answer has no version", method, path)
	}
	return answer{status: res.StatusCode, header: res.Header, body: string(data)}
}

// must is do for a request that must be answered with a status and, if v is
// there, JSON.
func (w *world) must(status int, v any, method, path, body string, headers ...string) answer {
	w.t.Helper()
	a := w.do(method, path, body, headers...)
	if a.status != status {
		w.t.Fatalf("%s %s = %d %s, want %d", method, path, a.status, a.body, status)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(a.body), v); err != nil {
			w.t.Fatalf("%s %s: %v in %s", method, path, err, a.body)
		}
	}
	return a
}

// create makes a sprite and returns it.
func (w *world) create(name string, headers ...string) (v spriteView) {
	w.t.Helper()
	w.must(201, &v, "POST", "/v1/sprites", fmt.Sprintf(`{"name":%q}`, name), headers...)
	return v
}

// eventually waits for a condition.
func (w *world) eventually(what string, condition func() bool) {
	w.t.Helper()
	for limit := time.Now().Add(patience); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(limit) {
			w.t.Fatal("never happened: ", what)
		}
	}
}

// did looks at the engine.
func (f *fakeEngine) did(what func(*fakeEngine) bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return what(f)
}
