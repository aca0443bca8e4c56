package sprites

import (
	"encoding/json"
	"net/http"
	"time"
)

// lineWithin bounds how long a client may take to read a line of a stream.
const lineWithin = 30 * time.Second

// lines writes a stream of JSON objects, one a line, each sent at once.
type lines struct {
	out     *http.ResponseController
	encoder *json.Encoder
	err     error // why the client does not hear any more
}

func newLines(w http.ResponseWriter) *lines { return beginLines(w, http.StatusOK) }

func beginLines(w http.ResponseWriter, status int) *lines {
	h := w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(status)
	l := &lines{out: http.NewResponseController(w), encoder: json.NewEncoder(w)}
	l.err = l.out.Flush()
	return l
}

func (l *lines) write(v any) {
	if l.err != nil {
		return
	}
	_ = l.out.SetWriteDeadline(time.Now().Add(lineWithin)) // recorders have none
	if l.err = l.encoder.Encode(v); l.err == nil {
		l.err = l.out.Flush()
	}
	_ = l.out.SetWriteDeadline(time.Time{})
}
