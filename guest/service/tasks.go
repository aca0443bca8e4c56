package service

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
)

const (
	// defaultTask is how long a task lasts that names no time, maxTask the most.
	defaultTask, maxTask = 5 * time.Minute, time.Hour
	// maxTasks bounds how many there are, maxTaskName their names in bytes.
	maxTasks, maxTaskName = 256, 200
)

var errNoTask = errors.New("no such task")

// task holds the machine awake until it expires. Times are the wall clock's, so
// that they mean the same after a sleep.
type task struct {
	Name    string    `json:"name"`
	Started time.Time `json:"started_at"`
	Expires time.Time `json:"expires_at"`
}

// tasks are those that have not expired. They are in memory only: what they hold
// for does not outlive a boot either.
type tasks struct {
	mu    sync.Mutex
	alive map[string]task
	// changed is called after each change, with no lock held.
	changed func()
}

// prune removes what has expired; t.mu is held.
func (t *tasks) prune(now time.Time) {
	for name, one := range t.alive {
		if !now.Before(one.Expires) {
			delete(t.alive, name)
		}
	}
}

func (t *tasks) list() []task {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prune(time.Now())
	all := make([]task, 0, len(t.alive))
	for _, one := range t.alive {
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b task) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// until is when the last task expires, zero if there is none.
func (t *tasks) until() time.Time {
	var last time.Time
	for _, one := range t.list() {
		if one.Expires.After(last) {
			last = one.Expires
		}
	}
	return last
}

func (t *tasks) get(name string) (task, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prune(time.Now())
	one, ok := t.alive[name]
	if !ok {
		return task{}, fmt.Errorf("%w: %q: it does not exist or has expired", errNoTask, bounded(name))
	}
	return one, nil
}

// hold makes a task, or gives one that exists a new end if it may.
func (t *tasks) hold(name string, lasts time.Duration, refresh bool) (task, error) {
	if name == "" || len(name) > maxTaskName || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == '/' }) {
		return task{}, bad("name: a task needs one of at most %d printable characters without '/'", maxTaskName)
	}
	if lasts <= 0 || lasts > maxTask {
		return task{}, bad("expire: a task lasts at most %s: refresh it before it expires", maxTask)
	}
	now := time.Now().UTC().Round(time.Millisecond)
	t.mu.Lock()
	t.prune(now)
	one, exists := t.alive[name]
	switch {
	case exists && !refresh:
		t.mu.Unlock()
		return task{}, fmt.Errorf("%wthere is a task %q already: refresh it with PUT", errConflict, name)
	case !exists && len(t.alive) >= maxTasks:
		t.mu.Unlock()
		return task{}, bad("there are %d tasks already: delete some", maxTasks)
	case !exists:
		one = task{Name: name, Started: now}
	}
	one.Expires = now.Add(lasts)
	t.alive[name] = one
	t.mu.Unlock()
	t.changed()
	return one, nil
}

func (t *tasks) remove(name string) error {
	if _, err := t.get(name); err != nil {
		return err
	}
	t.mu.Lock()
	delete(t.alive, name)
	t.mu.Unlock()
	t.changed()
	return nil
}

func (s *Server) taskRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /tasks", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string][]task{"tasks": s.tasks.list()})
	})
	mux.HandleFunc("GET /tasks/{name}", func(w http.ResponseWriter, r *http.Request) {
		one, err := s.tasks.get(r.PathValue("name"))
		answerTask(w, one, http.StatusOK, err)
	})
	mux.HandleFunc("POST /tasks", func(w http.ResponseWriter, r *http.Request) {
		s.holdTask(w, r, http.StatusCreated, false)
	})
	refresh := func(w http.ResponseWriter, r *http.Request) { s.holdTask(w, r, http.StatusOK, true) }
	mux.HandleFunc("PUT /tasks", refresh)
	mux.HandleFunc("PUT /tasks/{name}", refresh)
	mux.HandleFunc("DELETE /tasks/{name}", func(w http.ResponseWriter, r *http.Request) {
		if err := s.tasks.remove(r.PathValue("name")); err != nil {
			writeError(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

func (s *Server) holdTask(w http.ResponseWriter, r *http.Request, status int, refresh bool) {
	var in struct {
		Name   string          `json:"name"`
		Expire json.RawMessage `json:"expire"` // seconds, or text like "30m"
	}
	err := readJSON(w, r, &in)
	if name := r.PathValue("name"); name != "" {
		in.Name = name
	}
	var lasts time.Duration
	if err == nil {
		lasts, err = parseExpire(in.Expire)
	}
	var one task
	if err == nil {
		one, err = s.tasks.hold(in.Name, lasts, refresh)
	}
	answerTask(w, one, status, err)
}

// parseExpire reads how long a task lasts: a number of seconds, or text.
func parseExpire(raw json.RawMessage) (time.Duration, error) {
	text := string(raw)
	if text == "null" {
		text = ""
	} else if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(raw, &text); err != nil {
			return 0, bad("expire: %w", err)
		}
	}
	lasts, err := parseDuration(text, defaultTask)
	if err != nil {
		return 0, bad("expire: %w", err)
	}
	return lasts, nil
}

func answerTask(w http.ResponseWriter, one task, status int, err error) {
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, status, one)
}
