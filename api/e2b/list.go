package e2b

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/machine"
)

// listQuery selects sandboxes.
type listQuery struct {
	metadata     map[string]string
	running      bool // sandboxes that run are asked for
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
	found := d.selectSandboxes(c, listQuery{metadata: metadata, running: true})
	return writeJSON(w, http.StatusOK, listedAll(found))
}

// listV2 lists sandboxes in pages.
func (d *Door) listV2(w http.ResponseWriter, r *http.Request, c caller) error {
	q, err := parseListQuery(r.URL.Query())
	if err != nil {
		return err
	}
	found := d.selectSandboxes(c, q)
	if q.running {
		w.Header().Set("X-Total-Running", strconv.Itoa(len(found)))
	}
	page, next := q.page(found)
	if next != "" {
		w.Header().Set(nextTokenKey, next)
	}
	return writeJSON(w, http.StatusOK, listedAll(page))
}

func parseListQuery(v url.Values) (q listQuery, err error) {
	if q.metadata, err = parseMetadata(v.Get("metadata")); err != nil {
		return q, err
	}
	if q.running, err = parseStates(v["state"]); err != nil {
		return q, err
	}
	if q.limit, err = pageLimit(v); err != nil {
		return q, err
	}
	if s := v.Get("startedAfter"); s != "" {
		// A "+" that was not encoded arrives as a space.
		if q.startedAfter, err = time.Parse(time.RFC3339Nano, strings.ReplaceAll(s, " ", "+")); err != nil {
			return q, invalid("startedAfter is %q: give a time such as 2030-01-02T15:04:05Z", clip(s))
		}
	}
	switch order := v.Get("order"); order {
	case "", "desc":
	case "asc":
		q.ascending = true
	default:
		return q, invalid(`order is %q: give "asc" or "desc"`, clip(order))
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

// parseStates reads "running,paused" or one parameter per state, and reports
// whether running sandboxes are asked for. There are no paused ones yet.
func parseStates(values []string) (running bool, err error) {
	any := false
	for _, value := range values {
		for state := range strings.SplitSeq(value, ",") {
			switch state {
			case "":
				continue
			case "running":
				running = true
			case "paused":
			default:
				return false, invalid(`state is %q: give "running" or "paused"`, clip(state))
			}
			any = true
		}
	}
	return running || !any, nil
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

// selectSandboxes returns all that match, in order, without paging.
func (d *Door) selectSandboxes(c caller, q listQuery) []machine.Machine {
	if !q.running {
		return nil
	}
	found := slices.DeleteFunc(d.engine.List(c.team.ID), func(m machine.Machine) bool { return !q.matches(m) })
	slices.SortFunc(found, func(a, b machine.Machine) int {
		if q.ascending {
			return cursorOf(a).compare(cursorOf(b))
		}
		return cursorOf(b).compare(cursorOf(a))
	})
	return found
}

func (q listQuery) matches(m machine.Machine) bool {
	if m.State != machine.Running || startOf(m).Before(q.startedAfter) {
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
func (q listQuery) page(found []machine.Machine) (page []machine.Machine, next string) {
	if q.after != nil {
		i := slices.IndexFunc(found, func(m machine.Machine) bool {
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

func cursorOf(m machine.Machine) cursor { return cursor{at: startOf(m), id: m.ID} }

func listedAll(machines []machine.Machine) []listedSandbox {
	out := make([]listedSandbox, 0, len(machines))
	for _, m := range machines {
		out = append(out, listed(m))
	}
	return out
}
