package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/wire"
)

// Logs returns lines of a machine's log, also of one that ended within the
// last day. The log is what the guest daemon printed, and so hostile.
func (e *Engine) Logs(ctx context.Context, team, id string, q LogQuery) ([]LogEntry, error) {
	path, limit := "", int64(logReadBytes)
	if m, err := e.instance(id); err == nil && m.record().Team == team {
		path = e.logPath(id)
	} else {
		var record Machine
		if _, err := e.ended.Get(ctx, id, &record); err != nil || record.Team != team {
			return nil, fmt.Errorf("%w: no machine %q", ErrNotFound, id)
		}
		path = e.endedLogPath(id)
	}
	tail, err := readTail(path, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the log of machine %s: %w", id, err)
	}
	return q.apply(parseLog(tail)), nil
}

// readTail returns the last bytes of a file, beginning with a whole line. It
// follows no link: a guest must not choose what the host reads.
func readTail(path string, limit int64) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	from := max(0, info.Size()-limit)
	b, err := io.ReadAll(io.NewSectionReader(f, from, limit))
	if err != nil {
		return nil, err
	}
	if from > 0 {
		_, b, _ = bytes.Cut(b, []byte("\n"))
	}
	return b, nil
}

// parseLog turns lines into entries. A line that is not the guest daemon's
// becomes an entry of its own: nothing printed is hidden.
func parseLog(b []byte) []LogEntry {
	var entries []LogEntry
	var last time.Time
	for len(b) > 0 {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte("\n"))
		line = line[:min(len(line), logLineBytes)]
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		entry := parseLogLine(line)
		if entry.Time.IsZero() {
			entry.Time = last
		}
		last = entry.Time
		entries = append(entries, entry)
	}
	return entries
}

func parseLogLine(line []byte) LogEntry {
	var l wire.LogLine
	if err := json.Unmarshal(line, &l); err != nil || l.Message == "" && l.Time == "" {
		return LogEntry{Level: "info", Message: strings.ToValidUTF8(string(line), string(utf8.RuneError)), Fields: map[string]string{}}
	}
	entry := LogEntry{Level: l.Level, Message: l.Message, Fields: l.Fields}
	if !slices.Contains(levels, entry.Level) {
		entry.Level = "info"
	}
	if entry.Fields == nil {
		entry.Fields = map[string]string{}
	}
	if t, err := time.Parse(time.RFC3339Nano, l.Time); err == nil {
		entry.Time = t
	}
	return entry
}

// levels in rising order.
var levels = []string{"debug", "info", "warn", "error"}

func (q LogQuery) apply(entries []LogEntry) []LogEntry {
	least := max(0, slices.Index(levels, q.MinLevel))
	selected := entries[:0]
	for _, entry := range entries {
		switch {
		case !q.After.IsZero() && !entry.Time.After(q.After),
			!q.Before.IsZero() && !entry.Time.Before(q.Before),
			slices.Index(levels, entry.Level) < least,
			q.Search != "" && !strings.Contains(entry.Message, q.Search):
			continue
		}
		selected = append(selected, entry)
	}
	if q.Backward {
		slices.Reverse(selected)
	}
	if q.Limit > 0 && len(selected) > q.Limit {
		selected = selected[:q.Limit]
	}
	return selected
}

func (e *Engine) logPath(id string) string {
	return filepath.Join(e.disks.Path(machineTrees+id), logFile)
}

func (e *Engine) endedLogPath(id string) string {
	return filepath.Join(e.config.DataDir, "logs", id)
}

// keepLog saves the end of a log before its disk goes.
func (e *Engine) keepLog(id string) error {
	tail, err := readTail(e.logPath(id), endedLogBytes)
	if errors.Is(err, fs.ErrNotExist) || len(tail) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(e.endedLogPath(id), tail, 0o600)
}

// sweepEnded forgets machines that ended long ago, with their logs.
func (e *Engine) sweepEnded(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := e.forgetEnded(ctx); err != nil && ctx.Err() == nil {
			e.log.Warn("machines that ended long ago are still remembered", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (e *Engine) forgetEnded(ctx context.Context) error {
	var old []string
	err := e.ended.All(ctx, func(key string, data []byte) error {
		var r Machine
		if err := json.Unmarshal(data, &r); err != nil || e.now().Sub(r.EndedAt) > endedKeep {
			old = append(old, key)
		}
		return nil
	})
	for _, id := range old {
		if e := os.Remove(e.endedLogPath(id)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		err = errors.Join(err, e.ended.Delete(ctx, id))
	}
	return err
}
