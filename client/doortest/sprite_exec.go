package doortest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"github.com/creack/pty"

	"github.com/atoll-cloud/atoll/client"
)

// execSession is a program that was started through exec.
type execSession struct {
	client.SpriteSession
	cmd   *exec.Cmd
	stdin io.WriteCloser
	term  *os.File // of those with a terminal

	mu     sync.Mutex
	viewer *websocket.Conn // who is attached
	past   []byte          // output so far, of those with a terminal
	ended  chan struct{}
	code   int
}

var signalNames = map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL, "QUIT": syscall.SIGQUIT}

func (s *Sprites) exec(w http.ResponseWriter, r *http.Request, _ *sprite) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		s.mu.Lock()
		defer s.mu.Unlock()
		all := []client.SpriteSession{}
		for _, one := range s.sessions {
			all = append(all, one.SpriteSession)
		}
		slices.SortFunc(all, func(a, b client.SpriteSession) int { return strings.Compare(a.ID, b.ID) })
		reply(w, 200, map[string]any{"count": len(all), "sessions": all})
		return
	}
	w.Header().Set("X-Sprite-Capabilities", "signal")
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	q := r.URL.Query()
	one := &execSession{ended: make(chan struct{}), viewer: conn}
	words := q["cmd"]
	if len(words) == 0 {
		words = []string{"bash"}
	}
	one.cmd = exec.Command(words[0], words[1:]...)
	one.cmd.Env, one.cmd.Dir = append(os.Environ(), q["env"]...), q.Get("dir")
	one.TTY, one.Command, one.Created, one.IsActive = q.Get("tty") == "true", strings.Join(words, " "), time.Now().UTC(), true
	output, err := one.start(q.Get("rows"), q.Get("cols"))
	s.mu.Lock()
	s.started++
	if one.ID = strconv.Itoa(100 + s.started); err == nil {
		s.sessions[one.ID] = one
	}
	s.mu.Unlock()
	if err != nil {
		code := 126
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			code = 127
		}
		one.send(2, []byte(err.Error()+"\n"))
		one.end(code)
		return
	}
	one.introduce(r.Context())
	go func() {
		output()
		one.cmd.Wait()
		code := one.cmd.ProcessState.ExitCode()
		if status, ok := one.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			code = 128 + int(status.Signal())
		}
		s.forget(one)
		one.end(code)
	}()
	one.serve(r.Context(), conn)
}

func (s *Sprites) forget(one *execSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, one.ID)
}

// start starts the program and returns what passes its output on.
func (e *execSession) start(rows, cols string) (output func(), err error) {
	if e.TTY {
		r, _ := strconv.Atoi(rows)
		c, _ := strconv.Atoi(cols)
		if e.term, err = pty.StartWithSize(e.cmd, &pty.Winsize{Rows: uint16(r), Cols: uint16(c)}); err != nil {
			return nil, err
		}
		e.stdin = e.term
		return func() { e.pass(1, e.term) }, nil
	}
	stdout, err := e.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := e.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if e.stdin, err = e.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		var wg sync.WaitGroup
		wg.Go(func() { e.pass(1, stdout) })
		wg.Go(func() { e.pass(2, stderr) })
		wg.Wait()
	}, nil
}

func (e *execSession) pass(stream byte, r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			e.send(stream, buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// send shows output to whoever is attached.
func (e *execSession) send(stream byte, b []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.TTY {
		e.past = append(e.past, b...)
	} else {
		b = append([]byte{stream}, b...)
	}
	if e.viewer != nil {
		e.viewer.Write(context.Background(), websocket.MessageBinary, b)
	}
}

// introduce tells what the session is.
func (e *execSession) introduce(ctx context.Context) {
	tell(ctx, e.viewer, map[string]any{"type": "session_info", "session_id": e.ID, "command": e.Command, "created": e.Created.Unix(),
		"cols": 0, "rows": 0, "is_owner": true, "tty": e.TTY})
}

// end tells how the program ended.
func (e *execSession) end(code int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.code = code
	close(e.ended)
	if e.viewer == nil {
		return
	}
	ctx := context.Background()
	if !e.TTY {
		e.viewer.Write(ctx, websocket.MessageBinary, []byte{3, byte(code)})
	}
	tell(ctx, e.viewer, map[string]any{"type": "exit", "exit_code": code, "code": code})
	e.viewer.Close(websocket.StatusNormalClosure, "")
}

// serve takes what a client sends until it goes.
func (e *execSession) serve(ctx context.Context, conn *websocket.Conn) {
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.viewer == conn {
			e.viewer = nil
		}
	}()
	conn.SetReadLimit(64 << 10)
	for {
		kind, b, err := conn.Read(ctx)
		switch {
		case err != nil:
			return
		case kind == websocket.MessageText:
			e.asked(b)
		case e.TTY:
			e.stdin.Write(b)
		case len(b) > 0 && b[0] == 0:
			e.stdin.Write(b[1:])
		case len(b) > 0 && b[0] == 4:
			e.stdin.Close()
		}
	}
}

func (e *execSession) asked(b []byte) {
	var m struct {
		Type, Signal string
		Rows, Cols   uint16
	}
	if json.Unmarshal(b, &m) != nil {
		return
	}
	switch m.Type {
	case "resize":
		pty.Setsize(e.term, &pty.Winsize{Rows: m.Rows, Cols: m.Cols})
	case "signal":
		e.cmd.Process.Signal(signalNames[m.Signal])
	}
}

// session finds the session that a path names.
func (s *Sprites) session(w http.ResponseWriter, r *http.Request) *execSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.sessions[r.PathValue("session")]
	if one == nil {
		plain(w, 404, "session not found: "+r.PathValue("session"))
	}
	return one
}

func (s *Sprites) attach(w http.ResponseWriter, r *http.Request, _ *sprite) {
	one := s.session(w, r)
	if one == nil {
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	one.mu.Lock()
	one.viewer = conn
	one.introduce(r.Context())
	conn.Write(r.Context(), websocket.MessageBinary, one.past)
	one.mu.Unlock()
	one.serve(r.Context(), conn)
}

func (s *Sprites) kill(w http.ResponseWriter, r *http.Request, _ *sprite) {
	one := s.session(w, r)
	if one == nil {
		return
	}
	name := strings.TrimPrefix(r.URL.Query().Get("signal"), "SIG")
	one.cmd.Process.Signal(signalNames[name])
	line(w, client.KillEvent{Type: "signal", Signal: name, PID: one.cmd.Process.Pid, Message: fmt.Sprintf("sent %s", name)})
	if r.URL.Query().Get("timeout") != "0s" {
		<-one.ended
		line(w, client.KillEvent{Type: "exited", Message: "the program ended"})
	}
	line(w, client.KillEvent{Type: "complete", ExitCode: &one.code})
}

func tell(ctx context.Context, conn *websocket.Conn, v any) {
	b, err := json.Marshal(v)
	if err == nil {
		conn.Write(ctx, websocket.MessageText, b)
	}
}

// breakOff cuts all connections to programs.
func (s *Sprites) breakOff() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.sessions {
		one.mu.Lock()
		if one.viewer != nil {
			one.viewer.CloseNow()
		}
		one.mu.Unlock()
	}
}

// close ends what tests left running.
func (s *Sprites) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.sessions {
		one.cmd.Process.Kill()
	}
}
