package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"github.com/atoll-cloud/atoll/wire/process"
)

// Command is a program to start in a guest. It is not given to a shell.
type Command struct {
	Path string // a path, or a name that the guest looks up in its PATH
	Args []string
	Env  map[string]string
	Dir  string // empty: the user's home
	Tag  string
	// Stdin keeps the program's standard input open for Write.
	Stdin bool
	// PTY, where set, gives the program a terminal of that size.
	PTY *Size
}

// Size is a terminal's, in characters.
type Size struct{ Cols, Rows uint32 }

func (s *Size) pb() *process.PTY {
	if s == nil {
		return nil
	}
	return &process.PTY{Size: &process.PTY_Size{Cols: s.Cols, Rows: s.Rows}}
}

// Exit is how a program ended.
type Exit struct {
	Code   int    // what a shell would show as $?
	Status string // in words, such as "signal: killed"
	Error  string // why it could not be run or waited for; mostly empty
}

// Process is a program running in a guest. Output must be read with Copy, by
// one goroutine; the other methods may be called by any.
type Process struct {
	PID    uint32
	g      *Guest
	stream events
	cancel context.CancelFunc
}

// events is the part that the streams of Start and Connect have in common.
type events interface {
	Receive() bool
	Event() *process.ProcessEvent
	Err() error
	Close() error
}

type startEvents struct {
	*connect.ServerStreamForClient[process.StartResponse]
}

func (s startEvents) Event() *process.ProcessEvent { return s.Msg().GetEvent() }

type connectEvents struct {
	*connect.ServerStreamForClient[process.ConnectResponse]
}

func (s connectEvents) Event() *process.ProcessEvent { return s.Msg().GetEvent() }

// Start starts a program and returns once it runs. When ctx ends, so does the
// connection to it, and with it whatever the guest does with an abandoned program.
func (g *Guest) Start(ctx context.Context, c Command) (*Process, error) {
	req := connect.NewRequest(&process.StartRequest{
		Process: &process.ProcessConfig{Cmd: c.Path, Args: c.Args, Envs: c.Env},
		Pty:     c.PTY.pb(),
		Stdin:   &c.Stdin,
	})
	if c.Dir != "" {
		req.Msg.Process.Cwd = &c.Dir
	}
	if c.Tag != "" {
		req.Msg.Tag = &c.Tag
	}
	req.Header().Set("Keepalive-Ping-Interval", keepalive)
	ctx, cancel := context.WithCancel(ctx)
	stream, err := g.proc.Start(ctx, req)
	if err != nil {
		cancel()
		return nil, g.rpcError("start "+c.Path, err)
	}
	p := &Process{g: g, stream: startEvents{stream}, cancel: cancel}
	return p, p.started("start " + c.Path)
}

// Attach connects to a program that is running already. Output from before is lost.
func (g *Guest) Attach(ctx context.Context, pid uint32) (*Process, error) {
	req := connect.NewRequest(&process.ConnectRequest{Process: selector(pid)})
	req.Header().Set("Keepalive-Ping-Interval", keepalive)
	ctx, cancel := context.WithCancel(ctx)
	stream, err := g.proc.Connect(ctx, req)
	if err != nil {
		cancel()
		return nil, g.rpcError(fmt.Sprintf("attach to process %d", pid), err)
	}
	p := &Process{g: g, stream: connectEvents{stream}, cancel: cancel}
	return p, p.started(fmt.Sprintf("attach to process %d", pid))
}

// started reads the first event, which tells the process id.
func (p *Process) started(what string) error {
	for p.stream.Receive() {
		if s := p.stream.Event().GetStart(); s != nil {
			p.PID = s.GetPid()
			return nil
		}
	}
	err := p.stream.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	p.Close()
	return p.g.rpcError(what, err)
}

// Copy passes the program's output on until the program has ended, and says
// how. A terminal's output goes to stdout.
func (p *Process) Copy(stdout, stderr io.Writer) (Exit, error) {
	defer p.Close()
	for p.stream.Receive() {
		e := p.stream.Event()
		if end := e.GetEnd(); end != nil {
			p.finish()
			return exitOf(end), nil
		}
		d := e.GetData()
		for _, out := range []struct {
			to io.Writer
			b  []byte
		}{{stdout, d.GetStdout()}, {stderr, d.GetStderr()}, {stdout, d.GetPty()}} {
			if len(out.b) == 0 {
				continue
			}
			if _, err := out.to.Write(out.b); err != nil {
				return Exit{}, fmt.Errorf("write output: %w", err)
			}
		}
	}
	err := p.stream.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return Exit{}, p.g.rpcError("read output", err)
}

// finish reads the stream to its end, which is near once the program has ended:
// one that is cut off looks like a failure to the server, and its connection
// cannot be used again.
func (p *Process) finish() {
	giveUp := time.AfterFunc(finishWithin, p.cancel)
	defer giveUp.Stop()
	for p.stream.Receive() {
	}
}

const finishWithin = time.Second

// exitOf translates the guest's words to what a shell shows.
func exitOf(end *process.ProcessEvent_EndEvent) Exit {
	e := Exit{Code: int(end.GetExitCode()), Status: end.GetStatus(), Error: end.GetError()}
	if e.Code < 0 {
		e.Code = 1
		if name, ok := strings.CutPrefix(e.Status, "signal: "); ok {
			name, _, _ = strings.Cut(name, " (")
			for n := 1; n < 65; n++ {
				if syscall.Signal(n).String() == name {
					e.Code = 128 + n
				}
			}
		}
	}
	return e
}

// Close gives up the connection, not the program.
func (p *Process) Close() error {
	p.cancel()
	return p.stream.Close()
}

func selector(pid uint32) *process.ProcessSelector {
	return &process.ProcessSelector{Selector: &process.ProcessSelector_Pid{Pid: pid}}
}

// Write sends b to the program's standard input and returns when the guest has it.
func (p *Process) Write(ctx context.Context, b []byte) error {
	return p.send(ctx, &process.ProcessInput{Input: &process.ProcessInput_Stdin{Stdin: b}})
}

// Type sends b to the program's terminal, as if typed.
func (p *Process) Type(ctx context.Context, b []byte) error {
	return p.send(ctx, &process.ProcessInput{Input: &process.ProcessInput_Pty{Pty: b}})
}

func (p *Process) send(ctx context.Context, in *process.ProcessInput) error {
	_, err := p.g.proc.SendInput(ctx, connect.NewRequest(&process.SendInputRequest{Process: selector(p.PID), Input: in}))
	return p.g.rpcError("send input", err)
}

// CloseStdin lets the program read the end of its standard input.
func (p *Process) CloseStdin(ctx context.Context) error {
	_, err := p.g.proc.CloseStdin(ctx, connect.NewRequest(&process.CloseStdinRequest{Process: selector(p.PID)}))
	return p.g.rpcError("close input", err)
}

// Resize gives the program's terminal another size.
func (p *Process) Resize(ctx context.Context, s Size) error {
	_, err := p.g.proc.Update(ctx, connect.NewRequest(&process.UpdateRequest{Process: selector(p.PID), Pty: s.pb()}))
	return p.g.rpcError("resize terminal", err)
}

// Signal sends a signal to the program and those it started. The guest's
// service knows only SIGTERM and SIGKILL; a shell in the guest sends others,
// and where there is none they become SIGTERM.
func (p *Process) Signal(ctx context.Context, sig syscall.Signal) error {
	if sig != syscall.SIGTERM && sig != syscall.SIGKILL {
		kill := fmt.Sprintf("kill -%d -%d", int(sig), p.PID)
		if _, err := p.g.Output(ctx, Command{Path: "/bin/sh", Args: []string{"-c", kill}}, 0); err == nil {
			return nil
		}
		sig = syscall.SIGTERM
	}
	_, err := p.g.proc.SendSignal(ctx, connect.NewRequest(&process.SendSignalRequest{
		Process: selector(p.PID), Signal: process.Signal(sig)}))
	return p.g.rpcError("send signal", err)
}

// inputChunk is how much of a program's input is sent at once.
const inputChunk = 256 << 10

// Feed sends r to send, chunk by chunk, until r or ctx ends. It does not close
// the program's input.
func Feed(ctx context.Context, r io.Reader, send func(context.Context, []byte) error) error {
	buf := make([]byte, inputChunk)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := send(ctx, buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("read input: %w", err)
		}
	}
}

// Output runs a program to its end and returns what it wrote to standard
// output, at most limit bytes; a program that does not end with 0 is an error
// that quotes its standard error.
func (g *Guest) Output(ctx context.Context, c Command, limit int) ([]byte, error) {
	p, err := g.Start(ctx, c)
	if err != nil {
		return nil, err
	}
	out, errOut := &bounded{left: limit}, &bounded{left: 4 << 10}
	exit, err := p.Copy(out, errOut)
	if err != nil {
		return nil, err
	}
	if exit.Code != 0 {
		why := strings.TrimSpace(string(errOut.b))
		if why == "" {
			why = exit.Error
		}
		return out.b, fmt.Errorf("%s: exit code %d: %s", c.Path, exit.Code, why)
	}
	return out.b, nil
}

// bounded keeps the first bytes written to it and lets the rest go.
type bounded struct {
	b    []byte
	left int
}

func (w *bounded) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	w.b, w.left = append(w.b, p[:n]...), w.left-n
	return len(p), nil
}

// rpcError adds what was being done; failures to reach the server are told
// apart from answers of the guest.
func (g *Guest) rpcError(what string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	var ce *connect.Error
	switch {
	case errors.As(err, &e):
		return fmt.Errorf("%s: %w", what, e)
	case errors.As(err, &ce) && !connect.IsWireError(err):
		switch {
		case errors.Is(err, context.Canceled):
			return context.Canceled
		case errors.Is(err, context.DeadlineExceeded):
			return context.DeadlineExceeded
		case ce.Code() == connect.CodeUnavailable:
			return unreachable(g.base, ce.Unwrap())
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}
