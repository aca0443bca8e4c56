package sprites

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/machine"
)

// heartbeat is how often those who watch hear something, so that they and what
// is between us know that the stream lives.
const heartbeat = 15 * time.Second

// changes knows when sprites changed their state, and wakes those who watch.
type changes struct {
	mu       sync.Mutex
	at       map[string]times         // by machine, since this server started
	watchers map[chan struct{}]string // the team that each is about
}

// times are when a sprite last began to run, and to stand still.
type times struct{ running, warming time.Time }

// publish takes an event of the engine.
func (c *changes) publish(e machine.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at == nil {
		c.at = map[string]times{}
	}
	at := c.at[e.Machine]
	switch {
	case e.To == machine.Running:
		at.running = e.Time
	case e.To.Asleep() && !e.From.Asleep():
		at.warming = e.Time
	}
	if c.at[e.Machine] = at; e.To == machine.Ended {
		delete(c.at, e.Machine)
	}
	c.wake(e.Team)
}

// wake tells those who watch a team to look; mu is held.
func (c *changes) wake(team string) {
	for ch, t := range c.watchers {
		if t == team {
			select {
			case ch <- struct{}{}:
			default: // it has not looked since the last time
			}
		}
	}
}

// times returns what is known of a machine, from its record where nothing has
// happened since this server started.
func (c *changes) times(m machine.Machine) times {
	c.mu.Lock()
	at := c.at[m.ID]
	c.mu.Unlock()
	if at.running.IsZero() {
		at.running = m.StartedAt
	}
	if at.warming.IsZero() {
		at.warming = m.AsleepSince
	}
	return at
}

func (c *changes) subscribe(team string) (wake <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watchers == nil {
		c.watchers = map[chan struct{}]string{}
	}
	c.watchers[ch] = team
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, ch)
	}
}

// changeView is a line of the stream: a sprite that is new to it or has
// changed, or a heartbeat.
type changeView struct {
	Type           string     `json:"type,omitempty"`
	Name           string     `json:"name,omitempty"`
	Status         string     `json:"status,omitempty"`
	RunningVersion string     `json:"running_version,omitempty"`
	LastRunningAt  *time.Time `json:"last_running_at,omitempty"`
	LastWarmingAt  *time.Time `json:"last_warming_at,omitempty"`
	Timestamp      time.Time  `json:"timestamp"`
	Org            orgView    `json:"org"`
}

// watch streams the caller's sprites, and then their changes, until the client
// leaves. Whoever reads slowly misses states that did not last.
func (d *Door) watch(w http.ResponseWriter, r *http.Request, c caller, prefix string) error {
	wake, stop := d.changes.subscribe(c.team.ID)
	defer stop()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	lines := newLines(w)
	told := map[string]machine.Machine{} // by id
	for {
		all := d.sprites(c.team.ID)
		org := viewOrg(c.team, all)
		there := map[string]bool{}
		for _, m := range all {
			if !strings.HasPrefix(m.Name, prefix) {
				continue
			}
			there[m.ID] = true
			if before, known := told[m.ID]; !known || before.State != m.State {
				told[m.ID] = m
				lines.write(d.change(m, statusOf(m), org))
			}
		}
		for id, m := range told {
			if !there[id] {
				delete(told, id)
				lines.write(d.change(m, destroyed, org))
			}
		}
		select {
		case <-wake:
		case <-beat.C:
			lines.write(changeView{Type: "heartbeat", Timestamp: d.now().UTC(), Org: org})
		case <-r.Context().Done():
			return nil
		}
		if lines.err != nil {
			return nil // the client has left
		}
	}
}

func (d *Door) change(m machine.Machine, status string, org orgView) changeView {
	at := d.changes.times(m)
	return changeView{
		Name: m.Name, Status: status, RunningVersion: Version, Timestamp: d.now().UTC(), Org: org,
		LastRunningAt: optional(at.running), LastWarmingAt: optional(at.warming),
	}
}
