package e2b

import (
	"encoding/json"
	"maps"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
)

const (
	maxLogLines = 1000
	maxSearch   = 256 // characters
)

type logLine struct {
	Timestamp stamp  `json:"timestamp"`
	Line      string `json:"line"`
}

type logEntry struct {
	Timestamp stamp             `json:"timestamp"`
	Level     string            `json:"level"`
	Message   string            `json:"message"`
	Fields    map[string]string `json:"fields"`
}

// line is an entry as one text: a JSON object, which E2B's command line parses
// and demands a level and a logger of.
func (e logEntry) line() string {
	object := map[string]string{"logger": "envd"}
	maps.Copy(object, e.Fields)
	object["level"], object["message"] = e.Level, e.Message
	text, err := json.Marshal(object)
	if err != nil {
		return e.Message // not possible: a map of strings
	}
	return string(text)
}

// logsV1 returns lines from a time on, oldest first. The log can be read for a
// while after the sandbox has ended.
func (d *Door) logsV1(w http.ResponseWriter, r *http.Request, c caller) error {
	start, given, err := queryMillis(r, "start")
	if err != nil {
		return err
	}
	q := machine.LogQuery{}
	if given {
		q.After = start.Add(-time.Nanosecond)
	}
	if q.Limit, err = lineLimit(r); err != nil {
		return err
	}
	entries, err := d.readLogs(r, c, q)
	if err != nil {
		return err
	}
	lines := make([]logLine, 0, len(entries))
	for _, e := range entries {
		lines = append(lines, logLine{Timestamp: e.Timestamp, Line: e.line()})
	}
	return door.WriteJSON(w, http.StatusOK, map[string]any{"logs": lines, "logEntries": entries})
}

// logsV2 returns lines from a cursor on, in either direction.
func (d *Door) logsV2(w http.ResponseWriter, r *http.Request, c caller) error {
	v := r.URL.Query()
	q := machine.LogQuery{MinLevel: v.Get("level"), Search: v.Get("search")}
	switch q.MinLevel {
	case "", "debug", "info", "warn", "error":
	default:
		return invalid(`level is %q: give "debug", "info", "warn" or "error"`, door.Clip(q.MinLevel))
	}
	if utf8.RuneCountInString(q.Search) > maxSearch {
		return invalid("search is longer than %d characters", maxSearch)
	}
	switch direction := v.Get("direction"); direction {
	case "", "forward":
	case "backward":
		q.Backward = true
	default:
		return invalid(`direction is %q: give "forward" or "backward"`, door.Clip(direction))
	}
	at, given, err := queryMillis(r, "cursor")
	if err != nil {
		return err
	}
	switch { // the cursor's own millisecond belongs to the answer
	case given && q.Backward:
		q.Before = at.Add(time.Millisecond)
	case given:
		q.After = at.Add(-time.Nanosecond)
	}
	if q.Limit, err = lineLimit(r); err != nil {
		return err
	}
	entries, err := d.readLogs(r, c, q)
	if err != nil {
		return err
	}
	return door.WriteJSON(w, http.StatusOK, map[string]any{"logs": entries})
}

func (d *Door) readLogs(r *http.Request, c caller, q machine.LogQuery) ([]logEntry, error) {
	out := []logEntry{}
	if q.Limit == 0 {
		return out, nil
	}
	entries, err := d.engine.Logs(r.Context(), c.team.ID, sandboxID(r), q)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		fields := e.Fields
		if fields == nil {
			fields = map[string]string{}
		}
		out = append(out, logEntry{Timestamp: stamp(e.Time), Level: e.Level, Message: e.Message, Fields: fields})
	}
	return out, nil
}

func queryMillis(r *http.Request, name string) (time.Time, bool, error) {
	n, ok, err := queryNumber(r, name)
	if err == nil && n > maxUnix*1000 {
		err = invalid("%s is %d: give a time in Unix milliseconds", name, n)
	}
	return time.UnixMilli(n), ok, err
}

func lineLimit(r *http.Request) (int, error) {
	n, ok, err := queryNumber(r, "limit")
	if err != nil || !ok {
		return maxLogLines, err
	}
	return int(min(n, maxLogLines)), nil
}
