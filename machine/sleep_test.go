package machine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTimeAsleepIsNotTakenFromTheTimeout(t *testing.T) {
	seconds := func(n int) *time.Duration { d := time.Duration(n) * time.Second; return &d }
	for _, c := range []struct {
		name               string
		timeout, remaining int // of the machine, in seconds
		asked              *time.Duration
		want               int
	}{
		{"what was left", 300, 120, nil, 120},
		{"asked for more than was left", 300, 120, seconds(200), 200},
		{"asked for less than was left", 300, 120, seconds(60), 120},
		{"nothing was left, as after a time-out", 300, 0, nil, 300},
		{"nothing was left, asked for some", 300, 0, seconds(60), 60},
		{"it had no end", 0, 0, nil, 0},
		{"it had no end, asked for one", 0, 0, seconds(60), 0},
		{"asked for no end", 300, 120, seconds(0), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := Machine{Timeout: *seconds(c.timeout), Remaining: *seconds(c.remaining)}
			if got := m.timeLeft(ResumeSpec{Timeout: c.asked}); got != *seconds(c.want) {
				t.Errorf("it lives for %s, want %ds", got, c.want)
			}
		})
	}
}

func testInstance(state State) (*Engine, *instance) {
	m := newInstance(Machine{ID: "i", Team: "t", State: state}, nil)
	return &Engine{instances: map[string]*instance{"i": m}, held: map[string]int{}}, m
}

func TestConnectionsAreSeveredOnceForEachWaking(t *testing.T) {
	e, m := testInstance(Running)
	if !isClosed(e.Severed("i")) || !isClosed(e.Severed("unknown")) {
		t.Error("connections to a machine that was never awake seem to hold")
	}
	m.connect()
	first := e.Severed("i")
	m.connect() // as after a freeze, which keeps connections
	if isClosed(first) || e.Severed("i") != first {
		t.Error("a freeze cut the connections")
	}
	m.sever()
	m.sever()
	if !isClosed(first) || !isClosed(e.Severed("i")) {
		t.Error("a pause left connections open")
	}
	m.connect()
	if isClosed(e.Severed("i")) {
		t.Error("connections of a machine that woke are dead")
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestEnterHoldsAMachineAwake(t *testing.T) {
	e, m := testInstance(Running)
	m.connect()
	leave, err := e.Enter(t.Context(), "i")
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	if m.use.idle(later) != 0 {
		t.Error("a machine with a request under way counts as idle")
	}
	leave()
	leave()
	if idle := m.use.idle(later); idle < 59*time.Minute || m.use.holders.Load() != 0 {
		t.Errorf("an hour after its last request it is idle for %s, with %d holders", idle, m.use.holders.Load())
	}
}

// A client that leaves must not wait for a machine that is busy with something.
func TestEnterEndsWithItsClient(t *testing.T) {
	e, m := testInstance(Frozen)
	e.life = t.Context()
	m.op.Lock()
	defer m.op.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Enter(ctx, "i"); !errors.Is(err, context.Canceled) {
		t.Errorf("entering ended with %v", err)
	}
	if m.use.holders.Load() != 0 {
		t.Error("who did not get in still holds the machine awake")
	}
}

func TestOnlyItsOwnerWakesAPausedMachine(t *testing.T) {
	for _, c := range []struct {
		name    string
		machine Machine
	}{
		{"without auto-resume", Machine{ID: "i", State: Stored, Paused: true, Image: &Image{}}},
		{"without memory", Machine{ID: "i", State: Stored, Paused: true, Lifecycle: Lifecycle{AutoResume: true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, m := testInstance(Stored)
			e.life = t.Context()
			m.setRecord(c.machine)
			if _, err := e.Enter(t.Context(), "i"); !errors.Is(err, ErrPaused) {
				t.Errorf("a request got %v", err)
			}
		})
	}
}

func TestBundlesStayAsLongAsSomethingNeedsThem(t *testing.T) {
	const current, running, sleeping, snapshot, nobodys = "0000000000000001", "0000000000000002", "0000000000000003", "0000000000000004", "0000000000000005"
	lib := t.TempDir()
	for _, name := range []string{current, running, sleeping, snapshot, nobodys, "not-a-bundle"} {
		if err := os.Mkdir(filepath.Join(lib, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	e := &Engine{config: Config{LibDir: lib, Bundle: current}, instances: map[string]*instance{
		"a": newInstance(Machine{ID: "a", State: Running, Bundle: running}, nil),
		"b": newInstance(Machine{ID: "b", State: Stored, Bundle: sleeping, Image: &Image{Bundle: sleeping}}, nil),
	}}
	e.templates = []*template{{record: Template{ID: "s", Snapshot: &Snapshot{Image: Image{Bundle: snapshot}}}}}
	if err := e.removeOldBundles(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{current: true, running: true, sleeping: true, snapshot: true, nobodys: false, "not-a-bundle": true} {
		if _, err := os.Stat(filepath.Join(lib, name)); (err == nil) != want {
			t.Errorf("%s: there is %v, want %v", name, err == nil, want)
		}
	}
}

func TestAShortHostKeepsNothingWarm(t *testing.T) {
	p, template := newPool(1, 4), testTemplate()
	p.open(template)
	g := &guest{template: template}
	p.put(g)
	p.squeeze(true)
	if _, less, _ := p.next(noon); less != g {
		t.Error("a warm guest stays while the host is short of memory")
	}
	p.squeeze(false)
	if _, less, _ := p.next(noon); less != nil {
		t.Error("the pool shrinks though there is memory again")
	}
}

func TestADeletedTemplateKeepsNothingWarm(t *testing.T) {
	p, template := newPool(0, 4), testTemplate()
	g := &guest{template: template}
	p.put(g)
	if gone := p.close(template); len(gone) != 1 || gone[0] != g {
		t.Errorf("closing gave back %v", gone)
	}
	if p.put(&guest{template: template}) {
		t.Error("the pool took a guest of a template that is gone")
	}
	p.demand(template, noon)
	if more, _, _ := p.next(noon.Add(time.Minute)); more != nil {
		t.Error("the pool makes guests of a template that is gone")
	}
}
