package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/atoll-cloud/atoll/client"
)

const (
	// reattachFor is how long a session tries to get its program back after the
	// connection broke: long enough for the server to be restarted.
	reattachFor = 20 * time.Second
	// reattachGone is how long, where the server is there but says that the
	// sandbox is not: it has a moment to find its sandboxes again.
	reattachGone = time.Second
)

// session is one program in a guest, joined to this process's streams.
type session struct {
	a   *app
	g   *client.Guest
	cmd client.Command
	tty bool

	mu   sync.Mutex
	proc *client.Process // replaced when the connection was lost
}

// attach runs a program in a guest with the streams of this process and returns
// its exit code. Signals to this process go to the program; the third one in a
// row kills it.
func (a *app) attach(ctx context.Context, g *client.Guest, cmd client.Command, tty bool) (int, error) {
	s := &session{a: a, g: g, cmd: cmd, tty: tty}
	// From here on signals are the program's, so ctx's end, which is a signal's
	// doing, must not cut the connection.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	sigs, stop := takeSignals()
	defer stop()

	if tty {
		restore, err := s.rawTerminal()
		if err != nil {
			return 0, err
		}
		defer restore()
	} else {
		s.cmd.Stdin = true
	}
	p, err := g.Start(ctx, s.cmd)
	if err != nil {
		return 0, startError(cmd, err)
	}
	s.proc = p

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { forwardSignals(ctx, sigs, s) })
	// Not waited for: a read of a terminal ends with the process only.
	go s.forwardInput(ctx)
	return s.output(ctx)
}

// rawTerminal hands the local terminal to the program: keys go to it one by
// one, and Ctrl-C is a key.
func (s *session) rawTerminal() (restore func(), err error) {
	fd, ok := isTerminal(s.a.in)
	if !ok {
		return nil, usage("a terminal session needs a terminal as standard input")
	}
	cols, rows, err := term.GetSize(fd)
	if err != nil {
		return nil, fmt.Errorf("read terminal size: %w", err)
	}
	s.cmd.PTY = &client.Size{Cols: uint32(cols), Rows: uint32(rows)}
	env := map[string]string{"TERM": first(s.a.env("TERM"), "xterm-256color")}
	if c := s.a.env("COLORTERM"); c != "" {
		env["COLORTERM"] = c
	}
	for k, v := range s.cmd.Env {
		env[k] = v
	}
	s.cmd.Env = env
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("switch terminal to raw mode: %w", err)
	}
	return func() { term.Restore(fd, old) }, nil
}

// process is the connection to the program as it is now.
func (s *session) process() *client.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

// output passes output on until the program ends.
func (s *session) output(ctx context.Context) (int, error) {
	for {
		exit, err := s.process().Copy(s.a.out, s.a.err)
		switch {
		case err == nil:
			if exit.Error != "" && exit.Code == 0 {
				return 0, errors.New(exit.Error)
			}
			return exit.Code, nil
		case errors.Is(err, syscall.EPIPE):
			// As if the program itself had written to the broken pipe.
			return codeSignal + int(syscall.SIGPIPE), s.process().Signal(ctx, syscall.SIGKILL)
		case ctx.Err() != nil || client.IsNotFound(err):
			return 0, err
		}
		if err := s.reattach(ctx); err != nil {
			if s.tty {
				fmt.Fprint(s.a.out, cutOff)
			}
			return 0, err
		}
	}
}

// cutOff undoes what a program that had no chance to do so itself most likely
// left: a hidden cursor, bracketed paste, colours and an unfinished line.
const cutOff = "\x1b[?25h\x1b[?2004l\x1b[0m\r\n"

// reattach gets the running program back after the connection to it broke.
func (s *session) reattach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reattachFor)
	defer cancel()
	began, told := time.Now(), false
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		if s.paused(ctx) {
			return pausedError(s.g.ID())
		}
		// The stream must outlive this search, so it gets a context of its own.
		p, err := s.g.Attach(context.WithoutCancel(ctx), s.process().PID)
		if err == nil {
			s.mu.Lock()
			s.proc = p
			s.mu.Unlock()
			s.a.aside(s.tty, "the connection broke and is back; output from in between is lost")
			return nil
		}
		if client.Status(err) == http.StatusBadGateway && time.Since(began) > reattachGone {
			return (&failure{err: fmt.Errorf("sandbox %s ended, and the program with it", s.g.ID()), code: codeOurs}).
				hinted("its time-out passed (--timeout sets it), or it was killed")
		}
		if client.IsNotFound(err) {
			return errors.New("the program ended while the connection was broken; its exit code is lost")
		}
		if wait == time.Second && !told {
			told = true
			s.a.aside(s.tty, fmt.Sprintf("the connection broke; trying for %s to get it back", span(reattachFor)))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the connection broke and did not come back: %w", err)
		case <-time.After(wait):
		}
	}
}

// paused reports whether the sandbox is paused. To ask does not wake it, as an
// attempt to reach the program might. Where the server does not answer it is
// not known to be.
func (s *session) paused(ctx context.Context) bool {
	c, err := s.a.client()
	if err != nil {
		return false
	}
	defer c.Close()
	box, err := c.Get(ctx, s.g.ID())
	return err == nil && box.State == client.StatePaused
}

// forwardInput sends standard input to the program. That the program does not
// want it, or has ended, is not an error of the session.
func (s *session) forwardInput(ctx context.Context) {
	if s.tty {
		client.Feed(ctx, s.a.in, func(ctx context.Context, b []byte) error { return s.process().Type(ctx, b) })
		return
	}
	err := client.Feed(ctx, s.a.in, func(ctx context.Context, b []byte) error { return s.process().Write(ctx, b) })
	if err == nil {
		s.process().CloseStdin(ctx)
	}
}

func (s *session) signal(ctx context.Context, n syscall.Signal) { s.process().Signal(ctx, n) }

func (s *session) resize(ctx context.Context) {
	fd, ok := isTerminal(s.a.in)
	if !s.tty || !ok {
		return
	}
	if cols, rows, err := term.GetSize(fd); err == nil {
		s.process().Resize(ctx, client.Size{Cols: uint32(cols), Rows: uint32(rows)})
	}
}
