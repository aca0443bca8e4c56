package kernel

import (
	"context"
	"errors"
	"net/http"
	"time"
)

const (
	// headStart is how long the beginning of an answer waits for its first line.
	headStart = 500 * time.Millisecond
	// lookAfter is how often an execution is looked at that says nothing.
	lookAfter = 5 * time.Second
	// lastWrite is how long a client has to take what is left when its context
	// is restarted or removed.
	lastWrite = 2 * time.Second
)

// patience is how long code has to end after one interrupt and the next. Then
// it is left alone, or ended with its kernel where interrupts are messages.
var patience = []time.Duration{time.Second, 4 * time.Second}

// executeRequest is the body of POST /execute, as the published SDKs send it.
type executeRequest struct {
	Code      string            `json:"code"`
	ContextID string            `json:"context_id"`
	Language  string            `json:"language"`
	Env       map[string]string `json:"env_vars"`
	// Trial is ours: the code is tried out, and no count, history or variable
	// shows it afterwards.
	Trial bool `json:"trial"`
}

// execute runs code and streams what comes of it.
func (s *Server) execute(w http.ResponseWriter, r *http.Request) {
	var in executeRequest
	if !readJSON(w, r, &in) {
		return
	}
	if err := checkEnvironment(in.Env); err != nil {
		writeError(w, err)
		return
	}
	var c *runContext
	var err error
	if in.ContextID != "" {
		c, err = s.context(in.ContextID)
	} else {
		c, err = s.defaultContext(in.Language)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	a := &answer{w: w, control: http.NewResponseController(w)}
	if !c.turn.try() {
		a.begin() // clients give an answer only so long to begin
		if err := c.turn.wait(r.Context()); err != nil {
			a.fail("ContextBusy", err)
			return
		}
	}
	if s.run(r.Context(), c, a, &in) {
		s.warm(c)
		return
	}
	c.turn.release()
}

// run has the context's turn. It reports that the kernel died and that another
// is to be started.
func (s *Server) run(ctx context.Context, c *runContext, a *answer, in *executeRequest) (died bool) {
	if !c.started() {
		a.begin()
	}
	p, err := c.live(s.life)
	if err != nil {
		a.fail("KernelError", err)
		return false
	}
	if ctx.Err() != nil {
		return false // the client left while the kernel started
	}
	parts, err := c.parts(p, in)
	if err != nil {
		a.fail("EnvironmentError", err)
		return false
	}
	e, err := p.begin(parts...)
	if err != nil {
		a.fail("KernelError", err)
		return false
	}
	defer p.current.Store(nil)
	defer e.output.close()
	if note := c.takeNote(); note != "" {
		quoted := appendString(nil, note)
		e.output.text("stderr", quoted[1:len(quoted)-1])
	}
	c.setHurry(a.hurry)
	defer a.calm()
	defer c.setHurry(nil)
	if a.follow(ctx, e) != nil {
		e.output.close()
		stubborn := c.settle(e)
		if p.alive() {
			return false
		}
		why, ours := c.lost(p)
		if stubborn && !ours {
			why = "Code whose client had gone did not end on an interrupt. The kernel was started again; variables are lost."
		}
		if !ours {
			c.tellNext(why)
		}
		return !ours
	}
	select {
	case <-e.finished:
		e.output.end()
		a.last(e.output)
		return false
	default:
	}
	why, ours := c.lost(p)
	name := "KernelDied"
	if ours {
		name = "KernelStopped"
	}
	e.output.error(name, why)
	e.output.end()
	a.last(e.output)
	return !ours
}

// surround returns code with what runs silently before and after it.
func surround(before, code, after string, barrier bool) []part {
	parts := make([]part, 0, 4)
	if before != "" {
		parts = append(parts, part{code: before, silent: true})
	}
	parts = append(parts, part{code: code})
	if barrier {
		parts = append(parts, part{barrier: true})
	}
	if after != "" {
		parts = append(parts, part{code: after, silent: true})
	}
	return parts
}

// started reports that the context has a kernel.
func (c *runContext) started() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process != nil && c.process.alive()
}

// settle ends code whose client has gone: it interrupts, and waits until the
// kernel can be used again. It reports that it had to kill the kernel.
func (c *runContext) settle(e *execution) (killed bool) {
	done := func(d time.Duration) bool {
		limit := time.NewTimer(d)
		defer limit.Stop()
		for last := -1; ; {
			select {
			case <-e.finished:
				return true
			case <-e.process.drained:
				return true
			case <-limit.C:
				return false
			case <-time.After(lookAfter):
				last = e.overdue(last)
			}
		}
	}
	// Before the kernel has taken the code up an interrupt would be lost.
	select {
	case <-e.began:
	case <-e.finished:
		return false
	case <-e.process.drained:
		return false
	}
	for _, d := range patience {
		e.process.interrupt()
		if done(d) {
			return false
		}
	}
	if e.process.spec.interruptedByMessage() {
		// No signal does more, and code that only waits (Deno's await) never
		// takes notice of the message.
		e.process.kill()
		<-e.process.drained
		return true
	}
	c.turn.giveUp()
	for !done(time.Hour) {
	}
	return false
}

// answer is the response to one execution: lines of JSON.
type answer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
	// hurried is guarded by the mutex of the context.
	hurried bool
}

func (a *answer) header() {
	a.begun = true
	a.w.Header().Set("Content-Type", "application/x-ndjson")
	a.w.Header().Set("Cache-Control", "no-store")
	a.w.Header().Set("X-Accel-Buffering", "no")
}

// begin sends the head of the response if it was not sent yet.
func (a *answer) begin() {
	if a.begun {
		return
	}
	a.header()
	a.w.WriteHeader(http.StatusOK)
	_ = a.control.Flush() // a later write tells
}

// follow writes what comes until the execution has finished or the kernel has
// ended; an error means that the client is gone.
func (a *answer) follow(ctx context.Context, e *execution) error {
	timer := time.NewTimer(headStart)
	defer timer.Stop()
	for last := -1; ; {
		select {
		case <-e.output.ready:
			// What finishes now goes out with the last write.
			select {
			case <-e.finished:
				return nil
			default:
			}
			if err := a.write(e.output); err != nil {
				return err
			}
			if err := a.control.Flush(); err != nil {
				return err
			}
		case <-e.finished:
			return nil
		case <-e.process.drained:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			a.begin()
			last = e.overdue(last)
			timer.Reset(lookAfter)
		}
	}
}

// write writes what waits.
func (a *answer) write(o *output) error {
	if !a.begun {
		a.header()
	}
	parts, buffer := o.take()
	defer o.done(buffer)
	for _, part := range parts {
		if _, err := a.w.Write(part); err != nil {
			return err
		}
	}
	if len(buffer) == 0 {
		return nil
	}
	_, err := a.w.Write(buffer)
	return err
}

// last writes what is left; the end of the handler sends it.
func (a *answer) last(o *output) { _ = a.write(o) } // the client has gone, and nothing is left to do

// fail tells the client why its code did not run: by the status when nothing
// was sent yet, else as an error of the execution.
func (a *answer) fail(name string, err error) {
	if errors.Is(err, context.Canceled) && !errors.Is(err, errStuck) {
		return // the client has gone
	}
	if !a.begun && !errors.Is(err, errStuck) {
		writeError(a.w, err)
		return
	}
	o := newOutput()
	o.error(name, err.Error())
	o.end()
	a.last(o)
}

// hurry ends a write that the client does not take.
func (a *answer) hurry() {
	a.hurried = true
	_ = a.control.SetWriteDeadline(time.Now().Add(lastWrite)) // the connection has ended
}

// calm takes that back, for the next request on the connection.
func (a *answer) calm() {
	if a.hurried {
		_ = a.control.SetWriteDeadline(time.Time{}) // the connection has ended
	}
}
