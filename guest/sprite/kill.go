package sprite

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// killTimeout is how long a session may take to end before it is killed.
	killTimeout = 10 * time.Second
	// lastWait is how long a killed process may take to be gone.
	lastWait = 5 * time.Second
	// maxKillBody bounds the body of a kill request, in bytes.
	maxKillBody = 64 << 10
)

// killEvent is one line of the answer to a kill request.
type killEvent struct {
	Type     string `json:"type"`
	Message  string `json:"message,omitempty"`
	Signal   string `json:"signal,omitempty"`
	Pid      int    `json:"pid,omitempty"`
	ExitCode *int   `json:"exit_code,omitempty"`
}

// kill sends a session a signal, waits for its end and kills it when it does not
// come. With a time-out of 0 it only sends the signal.
func (s *Server) kill(w http.ResponseWriter, r *http.Request) {
	signal, timeout, err := parseKill(w, r)
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	n, err := s.sessions.find(r.PathValue("id"))
	if err == nil {
		err = n.signal(signal)
	}
	switch {
	case errors.Is(err, errNoSession):
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	case errors.Is(err, errGone):
		http.Error(w, err.Error(), http.StatusGone)
		return
	case err != nil:
		writeError(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	control := http.NewResponseController(w)
	tell := func(event killEvent) {
		line, err := json.Marshal(event)
		if err != nil {
			return // of strings and numbers
		}
		w.Write(append(line, '\n')) // the client left: nobody to tell
		control.Flush()
	}
	name := unix.SignalName(signal)
	tell(killEvent{Type: "signal", Message: fmt.Sprintf("Sent %s to process %d", name, n.child.Pid), Signal: name, Pid: n.child.Pid})
	code := 0
	if timeout > 0 {
		if code = n.awaitEnd(timeout, r.Context().Done(), tell); code < 0 {
			return
		}
		select {
		case <-n.ended: // who lists the sessions next does not see this one
		case <-r.Context().Done():
			return
		}
	}
	tell(killEvent{Type: "complete", ExitCode: &code})
}

// awaitEnd waits for a session's end, which it brings about after the time-out.
// It returns the exit code, -1 when the process is still there.
func (n *session) awaitEnd(timeout time.Duration, left <-chan struct{}, tell func(killEvent)) int {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-n.exited:
		tell(killEvent{Type: "exited", Message: fmt.Sprintf("Process exited with code %d", n.code)})
		return n.code
	case <-left:
		return -1
	case <-timer.C:
	}
	tell(killEvent{Type: "timeout", Message: fmt.Sprintf("Process did not exit within %s, killing it", timeout)})
	n.stop(syscall.SIGKILL)
	timer.Reset(lastWait)
	select {
	case <-n.exited:
		tell(killEvent{Type: "killed", Message: "Process was killed"})
		return n.code
	case <-left:
	case <-timer.C:
		tell(killEvent{Type: "error", Message: "The process does not end; it may wait for the disk"})
	}
	return -1
}

// parseKill reads signal and time-out from the query, or from a JSON body where
// the time-out may be a number of seconds.
func parseKill(w http.ResponseWriter, r *http.Request) (syscall.Signal, time.Duration, error) {
	query := r.URL.Query()
	name, wait := query.Get("signal"), query.Get("timeout")
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxKillBody))
	if err != nil {
		return 0, 0, fmt.Errorf("read the request: %w", err)
	}
	if strings.TrimSpace(string(body)) != "" {
		var in struct {
			Signal  string `json:"signal"`
			Timeout any    `json:"timeout"`
		}
		if err := json.Unmarshal(body, &in); err != nil {
			return 0, 0, fmt.Errorf("decode the request: %w", err)
		}
		if name == "" {
			name = in.Signal
		}
		if wait == "" && in.Timeout != nil {
			wait = fmt.Sprint(in.Timeout)
		}
	}
	if name == "" {
		name = "TERM"
	}
	signal, err := parseSignal(name)
	if err != nil {
		return 0, 0, err
	}
	timeout := killTimeout
	if wait != "" {
		if timeout, err = parseDuration(wait); err != nil {
			return 0, 0, fmt.Errorf("%w timeout: %w", errParameter, err)
		}
	}
	return signal, timeout, nil
}
