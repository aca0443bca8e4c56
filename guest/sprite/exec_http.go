package sprite

import (
	"context"
	"net/http"
	"time"

	"github.com/atoll-cloud/atoll/guest"
)

const (
	// httpFrame is the largest frame of an HTTP answer with its id, in bytes. The
	// published JavaScript client takes what it reads at once for one frame, so a
	// frame must fit, as a chunk, the 4 KiB that HTTP libraries on the way read at
	// once.
	httpFrame = 4000
	// httpGap is the pause between frames, for the same reason.
	httpGap = 5 * time.Millisecond
	// restOfBody is how long a body may go on when the command has ended.
	restOfBody = 2 * time.Second
)

// execHTTP runs a command with the body as its input, and answers with frames:
// each chunk of the answer is one.
func (s *Server) execHTTP(w http.ResponseWriter, r *http.Request) {
	request, err := parseRequest(r.URL.Query())
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	request.tty = false
	if !r.URL.Query().Has("stdin") {
		request.stdin = r.ContentLength != 0
	}
	out := &frames{w: w, control: http.NewResponseController(w)}
	n, place, err := s.start(request)
	if err != nil {
		code, asked := guest.StartFailure(err)
		if !asked {
			writeError(w, http.StatusServiceUnavailable, err)
			return
		}
		out.begin()
		out.add(streamStderr, []byte(err.Error()+"\n"))
		out.exit(code)
		return
	}
	defer s.leave(n, place)
	out.control.EnableFullDuplex() // HTTP/2 is so anyway
	out.begin()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	fed := make(chan struct{})
	go func() { // ends with the body, or when the server closes it behind us
		defer close(fed)
		if request.stdin && n.in.accept(ctx, r.Body) == nil {
			n.in.finish()
		}
	}()
	out.forward(ctx, n, place)
	// The rest of the body is read though nobody wants it: the connection may be
	// used again. Who sends for ever is cut off.
	timer := time.AfterFunc(restOfBody, func() {
		cancel()
		out.control.SetReadDeadline(time.Now())
	})
	<-fed
	timer.Stop()
}

// frames writes a command's output as frames with pauses.
type frames struct {
	w       http.ResponseWriter
	control *http.ResponseController
	pending []byte // a frame to be sent, with its id
	last    time.Time
	failed  error
}

func (f *frames) begin() {
	f.w.Header().Set("Content-Type", "application/octet-stream")
	f.w.Header().Set("Cache-Control", "no-store, no-transform")
	f.w.Header().Set("X-Accel-Buffering", "no")
	f.w.WriteHeader(http.StatusOK)
	f.failed = f.control.Flush() // a frame shares its read with headers no more than with another
	f.last = time.Now()
}

// forward sends what a session writes, and its exit.
func (f *frames) forward(ctx context.Context, n *session, place *reader) {
	for f.failed == nil {
		select {
		case <-place.wake:
			chunks, more, err := place.take()
			for _, c := range chunks {
				f.add(c.data[0], c.data[1:])
			}
			if err != nil {
				panic(http.ErrAbortHandler) // the client must not take half for the whole
			}
			if !more {
				<-n.ended
				f.exit(n.code)
				return
			}
			f.flush()
		case <-ctx.Done():
			return
		}
	}
}

// add appends to the frame of a stream, and sends what is full or of another.
func (f *frames) add(stream byte, data []byte) {
	for len(data) > 0 {
		if len(f.pending) > 0 && (f.pending[0] != stream || len(f.pending) == httpFrame) {
			f.flush()
		}
		if len(f.pending) == 0 {
			f.pending = append(f.pending, stream)
		}
		count := min(len(data), httpFrame-len(f.pending))
		f.pending = append(f.pending, data[:count]...)
		data = data[count:]
	}
}

// flush sends the pending frame, after the gap to the one before.
func (f *frames) flush() {
	if len(f.pending) == 0 || f.failed != nil {
		return
	}
	if wait := httpGap - time.Since(f.last); wait > 0 {
		time.Sleep(wait)
	}
	if _, f.failed = f.w.Write(f.pending); f.failed == nil {
		f.failed = f.control.Flush()
	}
	f.pending = f.pending[:0]
	f.last = time.Now()
}

func (f *frames) exit(code int) {
	f.flush()
	f.pending = append(f.pending[:0], streamExit, byte(code))
	f.flush()
}
