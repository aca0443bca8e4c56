package e2b

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
)

// listQuery selects sandboxes.
type listQuery struct {
	metadata     map[string]string
	states       states
	startedAfter time.Time
	template     string
	ascending    bool
	after        *cursor
	limit        int
}

// listV1 lists all running sandboxes at once, newest first.
func (d *Door) listV1(w http.ResponseWriter, r *http.Request, c caller) error {
	metadata, err := parseMetadata(r.URL.Query().Get("metadata"))
	if err != nil {
		return err
	}
	found := d.selectSandboxes(c, listQuery{metadata: metadata, states: states{running: true}})
	return door.WriteJSON(w, http.StatusOK, listedAll(found.list))
}

// listV2 lists sandboxes in pages.
func (d *Door) listV2(w http.ResponseWriter, r *http.Request, c caller) error {
	q, err := parseListQuery(r.URL.Query())
	if err != nil {
		return err
	}
	q.template = c.localRef(q.template)
	found := d.selectSandboxes(c, q)
	if q.states.running {
		w.Header().Set("X-Total-Running", strconv.Itoa(len(found.list)-found.paused))
	}
	if q.states.paused {
		w.Header().Set("X-Total-Paused", strconv.Itoa(found.paused))
	}
	page, next := q.page(found.list)
	if next != "" {
		w.Header().Set(nextTokenKey, next)
	}
	return door.WriteJSON(w, http.StatusOK, listedAll(page))
}

func parseListQuery(v url.Values) (q listQuery, err error) {
	if q.metadata, err = parseMetadata(v.Get("metadata")); err != nil {
		return q, err
	}
	if q.states, err = parseStates(v["state"]); err != nil {
		return q, err
	}
	if q.limit, err = pageLimit(v); err != nil {
		return q, err
	}
	if s := v.Get("startedAfter"); s != "" {
		// A "+" that was not encoded arrives as a space.
		if q.startedAfter, err = time.Parse(time.RFC3339Nano, strings.ReplaceAll(s, " ", "+")); err != nil {
			return q, invalid("startedAfter is %q: give a time such as 2030-01-02T15:04:05Z", door.Clip(s))
		}
	}
	switch order := v.Get("order"); order {
	case "", "desc":
	case "asc":
		q.ascending = true
	default:
		return q, invalid(`order is %q: give "asc" or "desc"`, door.Clip(order))
	}
	if s := v.Get("nextToken"); s != "" {
		after, err := parseCursor(s)
		if err != nil {
			return q, err
		}
		q.after = &after
	}
	q.template, _, _ = strings.Cut(v.Get("template"), ":")
	return q, nil
}

// states are the states that a list is asked for.
type states struct{ running, paused bool }

// parseStates reads "running,paused" or one parameter per state; none asks for
// all.
func parseStates(values []string) (asked states, err error) {
	for _, value := range values {
		for state := range strings.SplitSeq(value, ",") {
			switch state {
			case "":
			case "running":
				asked.running = true
			case "paused":
				asked.paused = true
			default:
				return asked, invalid(`state is %q: give "running" or "paused"`, door.Clip(state))
			}
		}
	}
	if asked == (states{}) {
		asked = states{running: true, paused: true}
	}
	return asked, nil
}

// parseMetadata reads a filter as the SDKs write it: a query string inside of
// the query parameter, whose keys and values are encoded once more.
func parseMetadata(s string) (map[string]string, error) {
	if s == "" {
		return nil, nil
	}
	pairs, err := url.ParseQuery(s)
	if err != nil {
		return nil, invalid("metadata must be URL-encoded pairs such as user=abc&app=prod")
	}
	if len(pairs) > maxEntries {
		return nil, invalid("metadata has more than %d pairs", maxEntries)
	}
	filter := make(map[string]string, len(pairs))
	for k, v := range pairs {
		filter[unescape(k)] = unescape(v[len(v)-1])
	}
	return filter, nil
}

// unescape undoes the inner encoding; what people write by hand has none.
func unescape(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}

// selection is what a query finds, in order. Teams may have thousands of
// paused sandboxes, so it points into the engine's copies.
type selection struct {
	list   []*machine.Machine
	paused int // of the list
}

// selectSandboxes returns all that match, without paging.
func (d *Door) selectSandboxes(c caller, q listQuery) selection {
	all := d.engine.List(c.team.ID)
	found := selection{list: make([]*machine.Machine, 0, len(all))}
	for i := range all {
		m := &all[i]
		if !q.matches(m) {
			continue
		}
		found.list = append(found.list, m)
		if m.Paused {
			found.paused++
		}
	}
	// The engine lists them in this order, which makes sorting a mere check.
	slices.SortFunc(found.list, func(a, b *machine.Machine) int { return cursorOf(a).compare(cursorOf(b)) })
	if !q.ascending {
		slices.Reverse(found.list)
	}
	return found
}

func (q listQuery) matches(m *machine.Machine) bool {
	if !alive(m) || startOf(m).Before(q.startedAfter) {
		return false
	}
	if m.Paused && !q.states.paused || !m.Paused && !q.states.running {
		return false
	}
	if q.template != "" && m.TemplateID != q.template && m.Alias != q.template {
		return false
	}
	for k, want := range q.metadata {
		if got, ok := m.Metadata[k]; !ok || got != want {
			return false
		}
	}
	return true
}

// page cuts one page out of what was found and returns the token of the next.
func (q listQuery) page(found []*machine.Machine) (page []*machine.Machine, next string) {
	if q.after != nil {
		i := slices.IndexFunc(found, func(m *machine.Machine) bool {
			n := cursorOf(m).compare(*q.after)
			return q.ascending && n > 0 || !q.ascending && n < 0
		})
		if i < 0 {
			return nil, ""
		}
		found = found[i:]
	}
	if len(found) <= q.limit {
		return found, ""
	}
	return found[:q.limit], cursorOf(found[q.limit-1]).String()
}

func cursorOf(m *machine.Machine) cursor { return cursor{at: startOf(m), id: m.ID} }

func listedAll(machines []*machine.Machine) []listedSandbox {
	out := make([]listedSandbox, 0, len(machines))
	for _, m := range machines {
		out = append(out, listed(m))
	}
	return out
}
