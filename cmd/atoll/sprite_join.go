package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/atoll-cloud/atoll/client"
)

// detachKey leaves a program with a terminal running: Ctrl+\.
const detachKey = 0x1c

// joined is one program in a sprite, joined to this process's streams.
type joined struct {
	s   *sprites
	g   *client.SpriteGuest
	fd  int  // of the terminal here
	raw bool // keys go to the program one by one

	mu       sync.Mutex
	proc     *client.SpriteProcess // replaced when the connection was lost
	replaced chan struct{}         // closed when it is
	detached atomic.Bool
}

// join connects to a program with start, and is there for it until it ends or
// the detach key is pressed. Signals to this process go to the program; the
// third one in a row kills it. The program's exit code is the command's.
func (s *sprites) join(ctx context.Context, g *client.SpriteGuest, ports bool, start func(context.Context) (*client.SpriteProcess, error)) error {
	// From here on signals are the program's, so ctx's end, which is a signal's
	// doing, must not cut the connection.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	sigs, stop := takeSignals()
	defer stop()

	j := &joined{s: s, g: g, replaced: make(chan struct{})}
	starting := s.begin("waiting for %s", g.Name())
	p, err := connectUnlessAsked(ctx, sigs, start)
	starting.done()
	if err != nil {
		return spriteStartError(g, err)
	}
	j.proc = p
	if p.TTY {
		restore, err := j.takeTerminal(ctx)
		if err != nil {
			p.Close()
			return err
		}
		defer restore()
	}
	forward := &portForward{s: s, g: g, quiet: !j.raw || !ports, held: map[int]func(){}}
	defer forward.close()
	p.OnPort = forward.event

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { forwardSignals(ctx, sigs, j) })
	// Not waited for: a read of a terminal ends with the process only.
	go j.forwardInput(ctx)
	code, err := j.output(ctx)
	if err != nil {
		return err
	}
	return exitWith(code)
}

// connectUnlessAsked starts a program; a signal meanwhile ends the attempt.
func connectUnlessAsked(ctx context.Context, sigs <-chan os.Signal, start func(context.Context) (*client.SpriteProcess, error)) (*client.SpriteProcess, error) {
	type answer struct {
		p   *client.SpriteProcess
		err error
	}
	starting, giveUp := context.WithCancel(ctx)
	done := make(chan answer, 1)
	go func() {
		p, err := start(starting)
		done <- answer{p, err}
	}()
	for {
		select {
		case a := <-done:
			// The connection lives as long as its context, so that must not end here.
			context.AfterFunc(ctx, giveUp)
			return a.p, a.err
		case sig := <-sigs:
			if sig != syscall.SIGWINCH {
				giveUp()
				if a := <-done; a.p != nil {
					a.p.Close()
				}
				return nil, &failure{code: codeSignal + int(sig.(syscall.Signal))}
			}
		}
	}
}

// spriteStartError says why a program could not be started or attached to.
func spriteStartError(g *client.SpriteGuest, err error) error {
	var f *failure
	if errors.As(err, &f) {
		return err
	}
	return spriteError(fmt.Errorf("use sprite %s: %w", g.Name(), err))
}

// takeTerminal hands the local terminal, where there is one, to the program.
func (j *joined) takeTerminal(ctx context.Context) (restore func(), err error) {
	fd, ok := isTerminal(j.s.in)
	if !ok {
		return func() {}, nil
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("switch terminal to raw mode: %w", err)
	}
	j.fd, j.raw = fd, true
	j.resize(ctx) // one that was attached to has another's size
	return func() { term.Restore(fd, old) }, nil
}

// process is the connection to the program as it is now.
func (j *joined) process() *client.SpriteProcess {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.proc
}

func (j *joined) replace(p *client.SpriteProcess) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.proc = p
	close(j.replaced)
	j.replaced = make(chan struct{})
}

// write sends input to the program; where it has a terminal, after the
// connection to it is back.
func (j *joined) write(ctx context.Context, b []byte) error {
	for {
		j.mu.Lock()
		p, replaced := j.proc, j.replaced
		j.mu.Unlock()
		err := p.Write(ctx, b)
		if err == nil || !p.TTY || j.detached.Load() {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-replaced:
		}
	}
}

// output passes output on until the program ends.
func (j *joined) output(ctx context.Context) (int, error) {
	for {
		p := j.process()
		code, err := p.Copy(ctx, j.s.out, j.s.err)
		switch {
		case j.detached.Load():
			j.s.aside(j.raw, fmt.Sprintf("left session %s running; \"atoll sprite attach %s -s %s\" comes back to it", p.ID, p.ID, j.g.Name()))
			return 0, nil
		case err == nil:
			return code, nil
		case errors.Is(err, syscall.EPIPE):
			// As if the program itself had written to the broken pipe.
			ctx, cancel := context.WithTimeout(ctx, reattachGone)
			defer cancel()
			j.g.KillSession(ctx, p.ID, "KILL", 0, nil) // it ends without us, too, soon after we are gone
			return codeSignal + int(syscall.SIGPIPE), nil
		case !errors.Is(err, client.ErrBroken):
			return 0, err
		}
		if !p.TTY || p.ID == "" {
			return 0, (&failure{err: fmt.Errorf("session %s in %s: %w", p.ID, j.g.Name(), err), code: codeFailed}).
				hinted("\"atoll sprite sessions list\" shows whether it still runs")
		}
		if err := j.reattach(ctx, p.ID); err != nil {
			if j.raw {
				fmt.Fprint(j.s.out, cutOff)
			}
			return 0, err
		}
	}
}

// reattach gets the running program back after the connection to it broke. What
// it wrote comes again, so the screen is cleared first.
func (j *joined) reattach(ctx context.Context, id string) error {
	end, told := time.Now().Add(reattachFor), false
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		p, err := j.g.Attach(ctx, id)
		if err == nil {
			p.OnPort = j.process().OnPort
			j.replace(p)
			if j.detached.Load() { // meanwhile
				p.Close()
				return nil
			}
			if j.raw {
				fmt.Fprint(j.s.out, "\x1b[2J\x1b[H")
			}
			j.resize(ctx)
			return nil
		}
		switch {
		case client.IsNotFound(err):
			return errors.New("the program ended while the connection was broken; its exit code is lost")
		case time.Now().After(end):
			return fmt.Errorf("the connection broke and did not come back: %w", err)
		}
		if wait == time.Second && !told {
			told = true
			j.s.aside(j.raw, fmt.Sprintf("the connection broke; trying for %s to get it back", span(reattachFor)))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// forwardInput sends standard input to the program. That the program does not
// want it, or has ended, is not an error.
func (j *joined) forwardInput(ctx context.Context) {
	err := client.Feed(ctx, j.s.in, func(ctx context.Context, b []byte) error {
		if j.raw {
			if i := bytes.IndexByte(b, detachKey); i >= 0 {
				j.process().Write(ctx, b[:i]) // lost where the connection is
				j.detached.Store(true)
				j.process().Close()
				return context.Canceled
			}
		}
		return j.write(ctx, b)
	})
	switch p := j.process(); {
	case err != nil || j.raw:
	case p.TTY:
		p.Write(ctx, []byte{0x04}) // a terminal's end of input is a key
	default:
		p.CloseStdin(ctx)
	}
}

var signalNames = map[syscall.Signal]string{
	syscall.SIGINT: "INT", syscall.SIGTERM: "TERM", syscall.SIGHUP: "HUP", syscall.SIGQUIT: "QUIT", syscall.SIGKILL: "KILL",
}

func (j *joined) signal(ctx context.Context, n syscall.Signal) {
	j.process().Signal(ctx, signalNames[n])
}

func (j *joined) resize(ctx context.Context) {
	if !j.raw {
		return
	}
	if cols, rows, err := term.GetSize(j.fd); err == nil {
		j.process().Resize(ctx, client.Size{Cols: uint32(cols), Rows: uint32(rows)})
	}
}
