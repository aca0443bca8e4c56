package guest

import (
	"encoding/json"
	"io"
	stdlog "log"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/atoll-cloud/atoll/wire"
)

const (
	// maxLogText bounds one text in the machine's log, in bytes.
	maxLogText = 4 << 10
	// logRate and logBurst bound what processes may put in the log, in bytes
	// per second and bytes.
	logRate  = 64 << 10
	logBurst = 256 << 10
	// logQueue bounds the lines that wait for a host that does not read.
	logQueue = 256
)

// Log writes the machine's log as JSON lines. It never holds up its callers:
// lines that exceed the rate, or that the host does not read, are counted and
// the count is written later.
type Log struct {
	out     io.Writer
	lines   chan wire.LogLine
	dropped atomic.Int64
	budget  atomic.Int64
	refill  atomic.Int64 // monotonic nanoseconds of the last refill
	start   time.Time
	done    chan struct{}
}

// NewLog returns a log that writes to out until Close.
func NewLog(out io.Writer) *Log {
	l := &Log{out: out, lines: make(chan wire.LogLine, logQueue), start: time.Now(), done: make(chan struct{})}
	l.budget.Store(logBurst)
	go l.run()
	return l
}

// Close writes what is queued. Write must not be called afterwards.
func (l *Log) Close() {
	close(l.lines)
	<-l.done
}

// Write queues one line. Fields come in pairs of name and value; empty values
// are left out.
func (l *Log) Write(level, message string, fields ...string) {
	line := wire.LogLine{Time: time.Now().UTC().Format(time.RFC3339Nano), Level: level, Message: bounded(message)}
	if len(fields) > 1 {
		line.Fields = make(map[string]string, len(fields)/2)
		for i := 0; i+1 < len(fields); i += 2 {
			if fields[i+1] != "" {
				line.Fields[fields[i]] = bounded(fields[i+1])
			}
		}
	}
	select {
	case l.lines <- line:
	default:
		l.dropped.Add(1)
	}
}

// output logs what a process wrote, as far as the rate allows.
func (l *Log) output(stream string, pid uint32, data []byte) {
	size := min(len(data), maxLogText)
	if !l.take(int64(size + 128)) {
		l.dropped.Add(1)
		return
	}
	l.Write("debug", strings.ToValidUTF8(string(data[:size]), "\uFFFD"), "stream", stream, "pid", strconv.FormatUint(uint64(pid), 10))
}

// take withdraws bytes from the budget of the rate.
func (l *Log) take(n int64) bool {
	now := int64(time.Since(l.start))
	last := l.refill.Load()
	if gained := (now - last) / int64(time.Millisecond) * logRate / 1000; gained > 0 && l.refill.CompareAndSwap(last, now) {
		if l.budget.Add(gained) > logBurst {
			l.budget.Store(logBurst)
		}
	}
	if l.budget.Load() < n {
		return false
	}
	l.budget.Add(-n)
	return true
}

func (l *Log) run() {
	defer close(l.done)
	encoder := json.NewEncoder(l.out)
	encoder.SetEscapeHTML(false)
	for line := range l.lines {
		encoder.Encode(line) // a log that cannot be written has no other place
		if n := l.dropped.Swap(0); n > 0 {
			encoder.Encode(wire.LogLine{
				Time: time.Now().UTC().Format(time.RFC3339Nano), Level: "warn", Message: "log lines were dropped to hold the rate",
				Fields: map[string]string{"dropped": strconv.FormatInt(n, 10)},
			})
		}
	}
}

// std returns a logger for net/http's complaints.
func (l *Log) std() *stdlog.Logger {
	return stdlog.New(writerFunc(func(p []byte) (int, error) {
		if l.take(int64(len(p))) {
			l.Write("warn", strings.TrimSpace(string(p)))
		}
		return len(p), nil
	}), "", 0)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func bounded(text string) string {
	if len(text) <= maxLogText {
		return text
	}
	return strings.ToValidUTF8(text[:maxLogText], "") + "…"
}
