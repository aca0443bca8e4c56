package sprite

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"github.com/atoll-cloud/atoll/guest"
)

// exec serves the exec route: a WebSocket runs a command or attaches to a
// session, a plain GET lists the sessions.
func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	if !wantsSocket(r) {
		s.list(w)
		return
	}
	request, err := parseRequest(r.URL.Query())
	switch {
	case err != nil:
		writeError(w, http.StatusBadRequest, err)
	case request.id != "":
		s.attachTo(w, r, request)
	default:
		s.run(w, r, request)
	}
}

// run starts a command and serves its first client.
func (s *Server) run(w http.ResponseWriter, r *http.Request, request *request) {
	n, place, err := s.start(request)
	if err != nil {
		s.refuse(w, r, request, err)
		return
	}
	w.Header().Set("X-Sprite-Capabilities", "signal")
	k, err := s.acceptHeld(w, r, 0)
	if err != nil {
		s.leave(n, place)
		n.stop(syscall.SIGKILL)
		return
	}
	defer s.guest.ForgetConnection(r)
	s.talk(&client{
		server: s, session: n, place: place, socket: k,
		owner: true, framed: !n.tty, silent: !request.stdin,
	})
}

// refuse tells that a command did not start: as a shell would, in the stream,
// when the command is to blame, since clients show nothing else to their users.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, request *request, err error) {
	code, asked := guest.StartFailure(err)
	if !asked {
		writeError(w, http.StatusServiceUnavailable, err)
		return
	}
	k, acceptErr := s.acceptHeld(w, r, 0)
	if acceptErr != nil {
		return
	}
	defer s.guest.ForgetConnection(r)
	c := &client{server: s, socket: k, framed: !request.tty}
	ctx, cancel := context.WithTimeout(s.life, farewell)
	defer cancel()
	done := k.ignore(ctx)
	if c.tellFailure(ctx, err) != nil || c.tellExit(ctx, code) != nil {
		k.drop()
		<-done
		return
	}
	k.bye(c.closeCode(code), "", done)
}

// tellFailure writes an error where the command would have written.
func (c *client) tellFailure(ctx context.Context, err error) error {
	text := err.Error() + "\n"
	if c.framed {
		return c.socket.write(ctx, websocket.MessageBinary, append([]byte{streamStderr}, text...))
	}
	return c.socket.write(ctx, websocket.MessageBinary, []byte(strings.ReplaceAll(text, "\n", "\r\n")))
}

// ignore reads and throws away what the client sends, until it leaves.
func (k *socket) ignore(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, from, err := k.read(ctx)
			if err != nil || discard(from) != nil {
				return
			}
		}
	}()
	return done
}

// talk serves a client until it leaves or the session ends.
func (s *Server) talk(c *client) {
	ctx, cancel := context.WithCancel(s.life)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		for {
			kind, from, err := c.socket.read(ctx)
			if err != nil || c.receive(ctx, kind, from) != nil {
				return
			}
		}
	}()
	code, err := c.serve(ctx)
	s.leave(c.session, c.place)
	switch {
	case err == nil:
		c.socket.bye(c.closeCode(code), "", done)
	case errors.Is(err, errSlow):
		c.socket.bye(websocket.StatusTryAgainLater, "not read for too long; attach again", done)
	}
	c.socket.drop()
	<-done
}

// attach serves the route of one session.
func (s *Server) attach(w http.ResponseWriter, r *http.Request) {
	if !wantsSocket(r) {
		writeError(w, http.StatusBadRequest, errors.New("attaching to a session is a WebSocket: ask for Upgrade: websocket"))
		return
	}
	query := r.URL.Query()
	query.Set("id", r.PathValue("id"))
	request, err := parseRequest(query)
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	s.attachTo(w, r, request)
}

func (s *Server) attachTo(w http.ResponseWriter, r *http.Request, request *request) {
	n, err := s.sessions.find(request.id)
	if err != nil {
		// Not empty: the published Go client takes an empty one for a server that
		// wants the session's id in the query.
		http.Error(w, fmt.Sprintf("%s: %s", errNoSession, shortened(request.id)), http.StatusNotFound)
		return
	}
	w.Header().Set("X-Sprite-Capabilities", "signal")
	k, err := s.acceptHeld(w, r, 0)
	if err != nil {
		return
	}
	defer s.guest.ForgetConnection(r)
	c := s.join(n, k, request)
	// The published Go client parses frames unless its caller knew that the
	// session has a terminal, whatever session_info says.
	if n.tty && !request.tty && strings.HasPrefix(r.UserAgent(), "Go-http-client/") {
		c.framed = true
	}
	s.talk(c)
}

// join gives a client a place at a session that runs.
func (s *Server) join(n *session, k *socket, request *request) *client {
	alone := n.enter()
	if request.size != (guest.Window{}) {
		n.resize(request.size) // it has ended, or not
	}
	return &client{
		server: s, session: n, place: n.out.join(), socket: k,
		owner: alone, attached: true, framed: !n.tty, silent: !request.stdin,
	}
}

// sessionEntry is a session in the list.
type sessionEntry struct {
	ID       string  `json:"id"`
	Command  string  `json:"command"`
	Workdir  string  `json:"workdir"`
	Created  string  `json:"created"`
	Rate     float64 `json:"bytes_per_second"`
	Active   bool    `json:"is_active"`
	Activity string  `json:"last_activity,omitempty"`
	TTY      bool    `json:"tty"`
}

func (s *Server) list(w http.ResponseWriter) {
	entries := []sessionEntry{}
	now := time.Now()
	for _, n := range s.sessions.all() {
		entries = append(entries, n.entry(now))
	}
	writeJSON(w, http.StatusOK, struct {
		Count    int            `json:"count"`
		Sessions []sessionEntry `json:"sessions"`
	}{len(entries), entries})
}

func (n *session) entry(now time.Time) sessionEntry {
	n.mu.Lock()
	defer n.mu.Unlock()
	entry := sessionEntry{
		ID: n.id, Command: n.command, Workdir: n.child.Dir, TTY: n.tty,
		Created: n.created.UTC().Format(time.RFC3339), Rate: n.rate.at(now),
		Active: n.clients > 0 || now.Sub(n.rate.last) < recently,
	}
	if !n.rate.last.IsZero() {
		entry.Activity = n.rate.last.UTC().Format(time.RFC3339Nano)
	}
	return entry
}
