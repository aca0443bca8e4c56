package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// LogEntry is one line of a sandbox's log.
type LogEntry struct {
	Timestamp time.Time         `json:"timestamp"`
	Level     string            `json:"level"` // debug, info, warn, error
	Message   string            `json:"message"`
	Fields    map[string]string `json:"fields,omitempty"`
}

// LogQuery selects lines; its zero value asks for the first thousand.
type LogQuery struct {
	// Cursor is the time, in milliseconds since 1970, to start at (inclusive).
	Cursor   int64
	Limit    int    // at most 1000; 0 takes the server's default
	Backward bool   // newest first
	Level    string // least level
	Search   string // substring of the message
}

// Logs returns one page of a sandbox's log.
func (c *Client) Logs(ctx context.Context, id string, lq LogQuery) ([]LogEntry, error) {
	q := url.Values{}
	if lq.Cursor > 0 {
		q.Set("cursor", strconv.FormatInt(lq.Cursor, 10))
	}
	if lq.Limit > 0 {
		q.Set("limit", strconv.Itoa(lq.Limit))
	}
	if lq.Backward {
		q.Set("direction", "backward")
	}
	if lq.Level != "" {
		q.Set("level", lq.Level)
	}
	if lq.Search != "" {
		q.Set("search", lq.Search)
	}
	var out struct {
		Logs []LogEntry `json:"logs"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"v2", "sandboxes", id, "logs"}, query: q, out: &out})
	return out.Logs, err
}

// logKey tells entries of one millisecond apart, so that a page which starts
// where the last one ended is not shown twice.
type logKey struct {
	at             int64
	level, message string
}

// FollowLogs calls f for each line from a query's cursor on, oldest first, and
// goes on until ctx ends, f fails, or the sandbox is gone and its last lines
// were read. With follow false it stops at the end of what is there.
func (c *Client) FollowLogs(ctx context.Context, id string, lq LogQuery, follow bool, f func(LogEntry) error) error {
	const page = 1000
	lq.Backward, lq.Limit = false, page
	// The cursor includes its own millisecond: count what was shown of it.
	shown := map[logKey]int{}
	for {
		entries, err := c.Logs(ctx, id, lq)
		if err != nil {
			return err
		}
		seen, fresh := map[logKey]int{}, 0
		for _, e := range entries {
			k := logKey{e.Timestamp.UnixNano(), e.Level, e.Message}
			if seen[k]++; seen[k] <= shown[k] {
				continue
			}
			fresh++
			if err := f(e); err != nil {
				return err
			}
		}
		if n := len(entries); n > 0 {
			last := entries[n-1].Timestamp.UnixMilli()
			for k := range seen {
				if k.at/int64(time.Millisecond) < last {
					delete(seen, k)
				}
			}
			lq.Cursor, shown = last, seen
		}
		switch {
		case len(entries) == page && fresh > 0:
			continue // more is waiting
		case len(entries) == page:
			// A whole page within one millisecond: step over it or stay for ever.
			lq.Cursor, shown = lq.Cursor+1, map[logKey]int{}
			continue
		case !follow:
			return nil
		}
		if fresh == 0 {
			if _, err := c.Get(ctx, id); IsNotFound(err) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followEvery):
		}
	}
}

// followEvery is how long FollowLogs waits between asking for more.
const followEvery = 500 * time.Millisecond
