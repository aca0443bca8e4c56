package machine

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// template is a Template as the engine keeps it, with where its parts are.
type template struct {
	mu     sync.Mutex
	record Template

	tree   string // name of the read-only tree with the root file system
	memory string // folder of the memory image

	disks chan string // ids of machines to be, whose disks are ready; nil: none are
	gone  atomic.Bool // nothing more is made of it
	// kernels of the code interpreter are in it
	kernels bool
	once    bool // for the copies of one fork: nothing is kept ready
	// diskBase is Machine.DiskBase of what is made of it.
	diskBase int64
}

func (t *template) snapshot() Template {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.record
}

func (t *template) spawned(now time.Time) {
	t.mu.Lock()
	t.record.Spawned++
	t.record.LastSpawned = now
	t.mu.Unlock()
}

// Templates lists what a team can make machines from, its snapshots among them.
func (e *Engine) Templates(team string) []Template {
	e.mu.RLock()
	defer e.mu.RUnlock()
	list := make([]Template, 0, len(e.templates))
	for _, t := range e.templates {
		if record := t.snapshot(); record.seenBy(team) {
			list = append(list, record)
		}
	}
	return list
}

// Template finds one that the team sees by id or name, or ErrNotFound. The
// tags "default" and "latest" are the only ones so far.
func (e *Engine) Template(team, ref string) (Template, error) {
	t, err := e.template(team, ref)
	if err != nil {
		return Template{}, err
	}
	return t.snapshot(), nil
}

func (e *Engine) template(team, ref string) (*template, error) {
	name, tag, _ := strings.Cut(ref, ":")
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, t := range e.templates {
		record := t.snapshot()
		if !record.seenBy(team) || !record.answersTo(name) {
			continue
		}
		if tag != "" && tag != "default" && tag != "latest" {
			return nil, fmt.Errorf("%w: template %q has no tag %q", ErrNotFound, name, tag)
		}
		return t, nil
	}
	if err := e.builds.problem(ref); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w: no template %q here; the built-in one is \"base\"", ErrNotFound, ref)
}

// name is what people call it.
func (t Template) name() string {
	if len(t.Names) > 0 {
		return t.Names[0]
	}
	return t.ID
}

// seenBy reports whether a team may use the template.
func (t Template) seenBy(team string) bool { return t.Team == "" || t.Team == team }

func (t Template) answersTo(name string) bool {
	if t.ID == name {
		return true
	}
	for _, n := range t.Names {
		if n == name {
			return true
		}
	}
	return false
}
