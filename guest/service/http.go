package service

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/atoll-cloud/atoll/wire"
)

const (
	// defaultWatch is how long clients are told what a service that was started
	// writes.
	defaultWatch = 5 * time.Second
	// defaultLines is how many lines of a log a client gets that asks for no
	// number, maxLines the most.
	defaultLines, maxLines = 100, 100_000
)

// serviceRoutes adds the routes of services.
func (s *Server) serviceRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /services", s.listServices)
	mux.HandleFunc("GET /services/{name}", s.getService)
	mux.HandleFunc("PUT /services/{name}", s.putService)
	mux.HandleFunc("DELETE /services/{name}", s.deleteService)
	mux.HandleFunc("POST /services/signal", s.signalService)
	mux.HandleFunc("POST /services/{name}/start", s.startService)
	mux.HandleFunc("POST /services/{name}/stop", s.stopService)
	mux.HandleFunc("POST /services/{name}/restart", s.restartService)
	mux.HandleFunc("GET /services/{name}/logs", s.serviceLogs)
}

func (s *Server) listServices(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.services.list())
}

func (s *Server) getService(w http.ResponseWriter, r *http.Request) {
	v, _, err := s.services.get(r.PathValue("name"))
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, v)
}

// putService makes or replaces a definition and has it run.
func (s *Server) putService(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	window, err := duration(r, "duration", defaultWatch)
	if err != nil {
		writeError(w, err)
		return
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxDefinition))
	if err != nil {
		writeError(w, err)
		return
	}
	d, err := parseDefinition(data)
	if err != nil {
		writeError(w, err)
		return
	}
	replaced, err := s.services.put(r.Context(), name, d)
	if err != nil {
		writeError(w, err)
		return
	}
	s.begin(w, r, name, window, replaced)
}

func (s *Server) startService(w http.ResponseWriter, r *http.Request) {
	window, err := duration(r, "duration", defaultWatch)
	if err != nil {
		writeError(w, err)
		return
	}
	s.begin(w, r, r.PathValue("name"), window, false)
}

func (s *Server) restartService(w http.ResponseWriter, r *http.Request) {
	window, err := duration(r, "duration", defaultWatch)
	if err != nil {
		writeError(w, err)
		return
	}
	s.begin(w, r, r.PathValue("name"), window, true)
}

// begin starts a service, after its former process has ended if that is wanted,
// and tells what it writes.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, name string, window time.Duration, anew bool) {
	_, logs, err := s.services.get(name)
	if err != nil {
		writeError(w, err)
		return
	}
	out := newStream(w, r)
	defer out.complete(logs)
	from := logs.follow(0)
	defer from.close()
	if anew {
		last, err := s.services.end(name, defaultStop)
		if err != nil {
			out.tell("error", err.Error())
			return
		}
		s.tellEnd(out, from, last)
	}
	// A client that leaves now meant it all the same.
	started, already, err := s.services.start(r.Context(), name)
	switch {
	case err != nil:
		out.tell("error", "cannot start service "+name+": "+err.Error())
		return
	case already:
		out.tell("started", "service "+name+" already runs as process "+strconv.Itoa(started.pid))
	default:
		out.tell("started", "")
	}
	if window > 0 && out.watch(from, started, window) {
		out.exit(started)
	}
}

// tellEnd tells of the end of a run that was told to end, nil if there was none.
func (s *Server) tellEnd(out *stream, from *logReader, last *run) {
	out.tell("stopping", "")
	if last != nil {
		if !out.watch(from, last, maxDuration) {
			return // the client has gone
		}
		out.exit(last)
	}
	out.tell("stopped", "")
}

func (s *Server) stopService(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	patience, err := duration(r, "timeout", defaultStop)
	if err != nil {
		writeError(w, err)
		return
	}
	_, logs, err := s.services.get(name)
	if err != nil {
		writeError(w, err)
		return
	}
	from := logs.follow(0)
	defer from.close()
	last, err := s.services.stop(name, patience)
	if err != nil {
		writeError(w, err)
		return
	}
	out := newStream(w, r)
	s.tellEnd(out, from, last)
	out.complete(logs)
}

func (s *Server) deleteService(w http.ResponseWriter, r *http.Request) {
	patience, err := duration(r, "timeout", defaultStop)
	if err == nil {
		err = s.services.remove(r.Context(), r.PathValue("name"), patience)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) signalService(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Name   string `json:"name"`
		Signal any    `json:"signal"`
	}
	if err := readJSON(w, r, &in); err != nil {
		writeError(w, err)
		return
	}
	text, ok := in.Signal.(string)
	if number, isNumber := in.Signal.(float64); isNumber {
		text, ok = strconv.Itoa(int(number)), true
	}
	if !ok {
		writeError(w, bad("signal is required: a name like TERM, HUP or USR1"))
		return
	}
	sig, err := parseSignal(text)
	if err == nil {
		err = s.services.signal(in.Name, sig)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// serviceLogs sends the end of a service's log, and goes on as long as is
// wanted.
func (s *Server) serviceLogs(w http.ResponseWriter, r *http.Request) {
	window, err := duration(r, "duration", 0)
	if err != nil {
		writeError(w, err)
		return
	}
	lines := defaultLines
	if text := r.URL.Query().Get("lines"); text != "" {
		if lines, err = strconv.Atoi(text); err != nil || lines < 0 {
			writeError(w, bad("lines %q: want a number", bounded(text)))
			return
		}
	}
	_, logs, err := s.services.get(r.PathValue("name"))
	if err != nil {
		writeError(w, err)
		return
	}
	out := newStream(w, r)
	logs.flush()
	from := logs.follow(min(lines, maxLines))
	defer from.close()
	out.lines(from, time.Now().Add(maxDuration))
	if window > 0 {
		out.watch(from, nil, window)
	}
	out.complete(logs)
}

// urlPort answers where requests to the machine's URL go.
func (s *Server) urlPort(w http.ResponseWriter, r *http.Request) {
	port, name := s.services.urlPort(r.Context())
	writeJSON(w, http.StatusOK, wire.URLPort{Port: port, Service: name})
}

func duration(r *http.Request, key string, fallback time.Duration) (time.Duration, error) {
	d, err := parseDuration(r.URL.Query().Get(key), fallback)
	if err != nil {
		return 0, bad("%s: %w", key, err)
	}
	return d, nil
}

// readJSON reads the small body of a request.
func readJSON(w http.ResponseWriter, r *http.Request, to any) error {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, to); err != nil {
		return bad("decode the request: %w", err)
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(append(data, '\n')) // the client left: nobody to tell
}

// writeError answers with the text of an error, as published clients read it.
func writeError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, errBad):
		status = http.StatusBadRequest
	case errors.As(err, &tooLarge):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, errNotFound), errors.Is(err, errNoTask):
		status = http.StatusNotFound
	case errors.Is(err, errConflict), errors.Is(err, errNotRunning):
		status = http.StatusConflict
	case errors.Is(err, errNoHost), errors.Is(err, errClosed):
		status = http.StatusServiceUnavailable
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		status = http.StatusInsufficientStorage
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	io.WriteString(w, err.Error()) // the client left: nobody to tell
}
