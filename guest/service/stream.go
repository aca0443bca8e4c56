package service

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"
)

const (
	// streamBuffer is how much is sent at once, in bytes.
	streamBuffer = 32 << 10
	// streamPatience is how long a client may take to read that.
	streamPatience = time.Minute
)

// event is one line of a stream.
type event struct {
	Type     string `json:"type"`
	Data     string `json:"data,omitempty"`
	ExitCode *int   `json:"exit_code,omitempty"`
	// Timestamp is in milliseconds since 1970.
	Timestamp int64             `json:"timestamp"`
	LogFiles  map[string]string `json:"log_files,omitempty"`
}

// stream sends events to a client as lines of JSON. Once the client is gone it
// does nothing any more.
type stream struct {
	ctx    context.Context
	w      http.ResponseWriter
	rc     *http.ResponseController
	buffer bytes.Buffer
	failed bool
}

// newStream answers 200.
func newStream(w http.ResponseWriter, r *http.Request) *stream {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	s := &stream{ctx: r.Context(), w: w, rc: http.NewResponseController(w)}
	s.flush()
	return s
}

// tell sends one event now.
func (s *stream) tell(kind, data string) {
	s.add(event{Type: kind, Data: limited(data), Timestamp: time.Now().UnixMilli()})
	s.flush()
}

// exit tells how a run ended.
func (s *stream) exit(r *run) {
	status := code(r.status)
	s.add(event{Type: "exit", Data: describe(r.status), ExitCode: &status, Timestamp: time.Now().UnixMilli()})
	s.flush()
}

// complete sends the last event.
func (s *stream) complete(logs *logFiles) {
	s.add(event{Type: "complete", Timestamp: time.Now().UnixMilli(), LogFiles: logs.paths()})
	s.flush()
	s.rc.SetWriteDeadline(time.Time{}) // the connection may serve others
}

func (s *stream) add(e event) {
	line, err := json.Marshal(e)
	if err != nil {
		return // no event has anything that JSON has not
	}
	s.buffer.Write(append(line, '\n'))
	if s.buffer.Len() >= streamBuffer {
		s.flush()
	}
}

// flush sends what is there.
func (s *stream) flush() {
	if s.failed {
		s.buffer.Reset()
		return
	}
	s.rc.SetWriteDeadline(time.Now().Add(streamPatience))
	_, err := s.buffer.WriteTo(s.w)
	if err == nil {
		err = s.rc.Flush()
	}
	s.failed = err != nil
}

// watch sends what comes to the log until the run is over, which it reports,
// the time is, or the client has gone. The run may be nil.
func (s *stream) watch(from *logReader, r *run, window time.Duration) (ended bool) {
	var over <-chan struct{}
	if r != nil {
		over = r.ended
	}
	timer := time.NewTimer(window)
	defer timer.Stop()
	deadline := time.Now().Add(window)
	for !s.failed {
		more := from.logs.more()
		s.lines(from, deadline)
		select {
		case <-more:
			if time.Now().After(deadline) {
				return false
			}
		case <-over:
			s.lines(from, time.Now().Add(streamPatience))
			return true
		case <-timer.C:
			from.logs.flush()
			s.lines(from, time.Now().Add(time.Second))
			return false
		case <-s.ctx.Done():
			return false
		}
	}
	return false
}

// lines sends what is in the log, until a time.
func (s *stream) lines(from *logReader, until time.Time) {
	for sent := 0; !s.failed; sent++ {
		line, ok := from.next()
		if !ok || sent%64 == 63 && time.Now().After(until) {
			break
		}
		s.add(event{Type: line.stream, Data: limited(line.text) + "\n", Timestamp: line.at.UnixMilli()})
	}
	s.flush()
}

// limited cuts a text so that a line of JSON with it stays below 64 KiB.
func limited(text string) string {
	if len(text) <= maxLine {
		return text
	}
	return text[:maxLine]
}
