package observe

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"
)

// Middleware gives every request an id, counts it and writes one line about
// it: at debug what succeeded on a guest's own ports, at info the rest, at
// warn what failed on our side. Tokens and query strings (which may hold
// signatures) are never written.
func Middleware(next http.Handler, m *Metrics, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		info := &request{id: acceptID(r.Header.Get(RequestIDHeader)), route: Route{Door: "none", Class: "none"}}
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, info))
		r.Header.Set(RequestIDHeader, info.id)
		w.Header().Set(RequestIDHeader, info.id)
		out := &writer{ResponseWriter: w}

		gauge := m.inFlight.WithLabelValues(protoWord(r))
		gauge.Inc()
		defer func() {
			gauge.Dec()
			failure := recover()
			status := out.status
			switch {
			case failure != nil:
				status = 0
			case status == 0:
				status = http.StatusOK // net/http's answer when a handler writes nothing
			}
			took := time.Since(started)
			m.done(info.route, status, took.Seconds())
			logAccess(log, r, info, out, status, took)
			if failure != nil {
				if failure != http.ErrAbortHandler {
					log.Error("a handler panicked", "request", info.id, "panic", fmt.Sprint(failure), "stack", string(debug.Stack()))
				}
				panic(http.ErrAbortHandler) // ends the connection; net/http logs nothing for it
			}
		}()
		next.ServeHTTP(out, r)
	})
}

// logAccess writes the line about one request.
func logAccess(log *slog.Logger, r *http.Request, info *request, out *writer, status int, took time.Duration) {
	level := slog.LevelInfo
	switch {
	case status == http.StatusInternalServerError:
		level = slog.LevelWarn
	case info.hidePath || info.route.Class == "health":
		level = slog.LevelDebug
	}
	if !log.Enabled(r.Context(), level) {
		return
	}
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs,
		slog.String("request", info.id),
		slog.String("method", r.Method),
		slog.String("door", info.route.Door),
		slog.String("route", info.route.Class))
	if !info.hidePath {
		attrs = append(attrs, slog.String("path", r.URL.EscapedPath()))
	}
	if info.machine != "" {
		attrs = append(attrs, slog.String("machine", info.machine))
	}
	attrs = append(attrs,
		slog.Int("status", status), // 0: cut off
		slog.Int64("bytes", out.bytes),
		slog.Duration("took", took),
		slog.String("remote", r.RemoteAddr))
	log.LogAttrs(r.Context(), level, "request", attrs...)
}

// writer remembers what was answered.
type writer struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *writer) WriteHeader(code int) {
	if w.status == 0 && (code >= 200 || code == http.StatusSwitchingProtocols) {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *writer) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController flush and hijack.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush is here for handlers that ask for http.Flusher by type.
func (w *writer) Flush() {
	// A writer that cannot flush holds nothing back.
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}
