package machine

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/store"
)

// watches hands events to those who listen in this process.
type watches struct {
	mu   sync.Mutex
	next int
	by   map[int]chan Event
}

// maxBehind is how many events a listener may fall behind before it loses some.
const maxBehind = 1024

// publish records an event in the event log and hands it to the listeners.
func (e *Engine) publish(event Event) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.life), recordTimeout)
	defer cancel()
	if _, err := e.events.Append(ctx, event.Machine, event); err != nil {
		e.log.Error("a lifecycle event was not recorded", "machine", event.Machine, "to", event.To, "error", err)
	}
	e.watches.mu.Lock()
	defer e.watches.mu.Unlock()
	for _, c := range e.watches.by {
		select {
		case c <- event:
		default: // the listener is too slow; the event log has it
		}
	}
}

// Events calls f for each lifecycle event from now on until ctx ends.
func (e *Engine) Events(ctx context.Context, f func(Event)) error {
	c := make(chan Event, maxBehind)
	w := &e.watches
	w.mu.Lock()
	if w.by == nil {
		w.by = map[int]chan Event{}
	}
	id := w.next
	w.next++
	w.by[id] = c
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.by, id)
		w.mu.Unlock()
	}()
	for {
		select {
		case event := <-c:
			f(event)
		case <-ctx.Done():
			return ctx.Err()
		case <-e.life.Done():
			return e.life.Err()
		}
	}
}

// EventQuery selects recorded events; zero values select all.
type EventQuery struct {
	Since   time.Time
	Machine string // its id
	Limit   int
}

// PastEvents calls f for the recorded events of the last week that q selects,
// oldest first. An error of f ends the reading and is returned.
func (e *Engine) PastEvents(ctx context.Context, q EventQuery, f func(Event) error) error {
	return e.events.Read(ctx, store.LogQuery{Filter: q.Machine, Since: q.Since, Limit: q.Limit}, func(entry store.Entry) error {
		var event Event
		if err := json.Unmarshal(entry.Data, &event); err != nil {
			return fmt.Errorf("read event %d: %w", entry.Seq, err)
		}
		return f(event)
	})
}
