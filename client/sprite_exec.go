package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// SpriteCommand is a program to start in a sprite. It is not given to a shell.
type SpriteCommand struct {
	Args []string // the program and its arguments; none: a shell
	Env  map[string]string
	Dir  string // empty: the user's home
	// Stdin keeps the program's standard input open for Write.
	Stdin bool
	// TTY, where set, gives the program a terminal of that size.
	TTY *Size
	// Stay lets the program run on when its client leaves, until it ends itself.
	// One with a terminal always does.
	Stay bool
}

func (c SpriteCommand) query() url.Values {
	q := url.Values{"stdin": {strconv.FormatBool(c.Stdin || c.TTY != nil)}}
	if len(c.Args) > 0 {
		q["cmd"], q["path"] = c.Args, c.Args[:1]
	}
	for k, v := range c.Env {
		q.Add("env", k+"="+v)
	}
	slices.Sort(q["env"])
	if c.Dir != "" {
		q.Set("dir", c.Dir)
	}
	if c.TTY != nil {
		q.Set("tty", "true")
		q.Set("rows", strconv.Itoa(int(c.TTY.Rows)))
		q.Set("cols", strconv.Itoa(int(c.TTY.Cols)))
	}
	if c.Stay {
		q.Set("detachable", "true")
		q.Set("max_run_after_disconnect", "0")
	}
	return q
}

// What the first byte of a binary message says, where there is no terminal.
const (
	frameStdin  = 0x00
	frameStdout = 0x01
	frameStderr = 0x02
	frameExit   = 0x03
	frameEOF    = 0x04
)

const (
	// spriteChunk is how much input one frame carries at most, the first byte
	// included: what the published SDKs send.
	spriteChunk = 32 << 10
	// maxText bounds a message about the session.
	maxText = 1 << 20
	// pingEvery keeps what is in between from closing a quiet connection, and
	// finds out that the server is gone.
	pingEvery  = 20 * time.Second
	pingWithin = 45 * time.Second
)

// SpriteProcess is a connection to a program in a sprite. Output must be read
// with Copy, by one goroutine; the other methods may be called by any.
type SpriteProcess struct {
	// ID is the session's; with it the program can be attached to and killed.
	ID string
	// TTY tells whether the program has a terminal.
	TTY bool
	// Command is what runs, as the server puts it.
	Command string
	// OnPort, where set before Copy, is told of ports that open and close.
	OnPort func(PortEvent)

	g       *SpriteGuest
	conn    *websocket.Conn
	signals bool // the server takes signals as messages
	pending io.Reader
	kind    websocket.MessageType // of pending
}

// PortEvent tells that a program in a sprite began or ceased to listen.
type PortEvent struct {
	Type    string `json:"type"` // port_opened or port_closed
	Port    int    `json:"port"`
	Address string `json:"address"`
	PID     int    `json:"pid"`
}

// sessionText is a message about the session.
type sessionText struct {
	PortEvent
	SessionID string `json:"session_id"`
	Command   string `json:"command"`
	TTY       bool   `json:"tty"`
	ExitCode  *int   `json:"exit_code"`
	Code      *int   `json:"code"`
	Message   string `json:"message"`
	Error     string `json:"error"`
}

// Start starts a program and returns once the server says that it does. ctx is
// for the connection's whole life.
func (g *SpriteGuest) Start(ctx context.Context, c SpriteCommand) (*SpriteProcess, error) {
	k := g.call(http.MethodGet, "exec")
	k.query = c.query()
	p, err := g.dial(ctx, k)
	if err != nil {
		return nil, err
	}
	p.TTY = c.TTY != nil
	return p, p.begin(ctx)
}

// Attach connects to a session. What its program wrote lately comes again.
func (g *SpriteGuest) Attach(ctx context.Context, id string) (*SpriteProcess, error) {
	k := g.call(http.MethodGet, "exec", id)
	k.query = url.Values{"stdin": {"true"}}
	p, err := g.dial(ctx, k)
	if err != nil {
		return nil, err
	}
	p.ID = id
	return p, p.begin(ctx)
}

func (g *SpriteGuest) dial(ctx context.Context, k call) (*SpriteProcess, error) {
	conn, res, err := g.c.upgrade(ctx, k)
	if err != nil {
		return nil, err
	}
	return &SpriteProcess{g: g, conn: conn, signals: strings.Contains(res.Header.Get("X-Sprite-Capabilities"), "signal")}, nil
}

// upgrade opens a WebSocket. Its messages may be of any size: whoever reads
// them passes them on or bounds them.
func (c *Client) upgrade(ctx context.Context, k call) (*websocket.Conn, *http.Response, error) {
	h := http.Header{}
	c.identify(h, k)
	conn, res, err := websocket.Dial(ctx, c.address(k), &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: h})
	switch {
	case err == nil:
		conn.SetReadLimit(-1)
		return conn, res, nil
	case res != nil && res.StatusCode >= 300:
		return nil, nil, readError(res)
	}
	return nil, nil, unreachable(c.api, err)
}

// begin reads what the server tells of the session, which comes first.
func (p *SpriteProcess) begin(ctx context.Context) error {
	kind, r, err := p.conn.Reader(ctx)
	if err != nil {
		p.Close()
		return p.broken(ctx, err)
	}
	if kind == websocket.MessageText {
		t, err := readText(r)
		if err != nil {
			p.Close()
			return p.broken(ctx, err)
		}
		switch t.Type {
		case "session_info":
			p.ID, p.TTY, p.Command = t.SessionID, t.TTY, t.Command
		case "error":
			p.Close()
			return errors.New(first(t.Message, t.Error, "the server refused the session without saying why"))
		}
		return nil
	}
	p.kind, p.pending = kind, r
	return nil
}

func readText(r io.Reader) (sessionText, error) {
	var t sessionText
	b, err := io.ReadAll(io.LimitReader(r, maxText+1))
	if err != nil {
		return t, err
	}
	if len(b) > maxText {
		return t, errors.New("the server sent too long a message")
	}
	if err := json.Unmarshal(b, &t); err != nil {
		return sessionText{}, nil // what is not for us is no failure
	}
	return t, nil
}

// next is the next message.
func (p *SpriteProcess) next(ctx context.Context) (websocket.MessageType, io.Reader, error) {
	if r := p.pending; r != nil {
		p.pending = nil
		return p.kind, r, nil
	}
	return p.conn.Reader(ctx)
}

// ErrBroken is wrapped by the errors of connections that ended before their
// program did.
var ErrBroken = errors.New("the connection broke")

// broken tells why a connection ended.
func (p *SpriteProcess) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var closed websocket.CloseError
	if errors.As(err, &closed) && closed.Reason != "" {
		return fmt.Errorf("%w: %s", ErrBroken, closed.Reason)
	}
	return fmt.Errorf("%w: %w", ErrBroken, err)
}

// Copy passes the program's output on until the program has ended, and returns
// its exit code. A terminal's output goes to stdout.
func (p *SpriteProcess) Copy(ctx context.Context, stdout, stderr io.Writer) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer p.conn.CloseNow()
	defer cancel()
	go p.keepAlive(ctx)
	outs := &frames{stdout: stdout, stderr: stderr, buf: make([]byte, 64<<10)}
	for {
		kind, r, err := p.next(ctx)
		if err != nil {
			return 0, p.broken(ctx, err)
		}
		if kind == websocket.MessageText {
			t, err := readText(r)
			if err != nil {
				return 0, p.broken(ctx, err)
			}
			if code, done := p.told(t); done {
				return code, nil
			}
			continue
		}
		if p.TTY {
			err = outs.pass(stdout, r)
		} else {
			err = outs.frame(r)
		}
		switch {
		case err != nil && outs.failed:
			return 0, fmt.Errorf("write output: %w", err)
		case err != nil:
			return 0, p.broken(ctx, err)
		case outs.ended:
			return outs.code, nil
		}
	}
}

// told takes a message about the session, and says whether it was the last.
func (p *SpriteProcess) told(t sessionText) (code int, done bool) {
	switch t.Type {
	case "exit":
		switch {
		case t.ExitCode != nil:
			code = *t.ExitCode
		case t.Code != nil:
			code = *t.Code
		}
		return code, true
	case "port_opened", "port_closed":
		if p.OnPort != nil {
			p.OnPort(t.PortEvent)
		}
	}
	return 0, false
}

// frames passes the frames of a program without terminal on.
type frames struct {
	stdout, stderr io.Writer
	buf            []byte
	failed         bool // it was the writing that failed
	ended          bool
	code           int
}

func (f *frames) frame(r io.Reader) error {
	var id [1]byte
	if _, err := io.ReadFull(r, id[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil // an empty message says nothing
		}
		return err
	}
	switch id[0] {
	case frameStdout:
		return f.pass(f.stdout, r)
	case frameStderr:
		return f.pass(f.stderr, r)
	case frameExit:
		var code [1]byte
		if _, err := io.ReadFull(r, code[:]); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		f.ended, f.code = true, int(code[0])
	}
	return f.pass(io.Discard, r)
}

// pass copies one message, however long it is.
func (f *frames) pass(w io.Writer, r io.Reader) error {
	for {
		n, err := r.Read(f.buf)
		if n > 0 {
			if _, err := w.Write(f.buf[:n]); err != nil {
				f.failed = true
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// keepAlive closes the connection of a server that does not answer.
func (p *SpriteProcess) keepAlive(ctx context.Context) {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		ping, cancel := context.WithTimeout(ctx, pingWithin)
		err := p.conn.Ping(ping)
		cancel()
		if err != nil {
			p.conn.CloseNow()
			return
		}
	}
}

// Write sends input to the program: bytes of its standard input, or keys typed
// at its terminal.
func (p *SpriteProcess) Write(ctx context.Context, b []byte) error {
	if p.TTY {
		return p.conn.Write(ctx, websocket.MessageBinary, b)
	}
	frame := make([]byte, 0, min(len(b)+1, spriteChunk))
	for part := range slices.Chunk(b, spriteChunk-1) {
		frame = append(append(frame[:0], frameStdin), part...)
		if err := p.conn.Write(ctx, websocket.MessageBinary, frame); err != nil {
			return err
		}
	}
	return nil
}

// CloseStdin lets the program read the end of its standard input. A terminal
// has no such end.
func (p *SpriteProcess) CloseStdin(ctx context.Context) error {
	if p.TTY {
		return nil
	}
	return p.conn.Write(ctx, websocket.MessageBinary, []byte{frameEOF})
}

// Resize gives the program's terminal another size.
func (p *SpriteProcess) Resize(ctx context.Context, s Size) error {
	return p.text(ctx, map[string]any{"type": "resize", "cols": s.Cols, "rows": s.Rows})
}

// Signal sends a signal, such as INT, to the program.
func (p *SpriteProcess) Signal(ctx context.Context, signal string) error {
	if p.signals {
		return p.text(ctx, map[string]any{"type": "signal", "signal": signal})
	}
	return p.g.KillSession(ctx, p.ID, signal, 0, nil)
}

func (p *SpriteProcess) text(ctx context.Context, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return p.conn.Write(ctx, websocket.MessageText, b)
}

// Close leaves the program, which runs on if it may.
func (p *SpriteProcess) Close() error { return p.conn.CloseNow() }

// Output runs a program to its end and returns what it wrote to standard
// output, at most limit bytes; a program that does not end with 0 is an error
// that quotes its standard error.
func (g *SpriteGuest) Output(ctx context.Context, c SpriteCommand, limit int) ([]byte, error) {
	p, err := g.Start(ctx, c)
	if err != nil {
		return nil, err
	}
	out, errOut := &bounded{left: limit}, &bounded{left: 4 << 10}
	code, err := p.Copy(ctx, out, errOut)
	if err != nil {
		return nil, err
	}
	if code != 0 {
		return out.b, fmt.Errorf("%s: exit code %d: %s", strings.Join(c.Args, " "), code, strings.TrimSpace(string(errOut.b)))
	}
	return out.b, nil
}
