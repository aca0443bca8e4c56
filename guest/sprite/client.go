package sprite

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/coder/websocket"

	"github.com/atoll-cloud/atoll/guest"
)

const (
	// keepaliveEvery is how often a quiet client hears something: the published
	// JavaScript client gives up a connection after 45 seconds without a message,
	// and takes pings for none.
	keepaliveEvery = 10 * time.Second
	// portsAfter is how long a command runs before its ports are looked for.
	portsAfter = 200 * time.Millisecond
)

var keepalive = []byte(`{"type":"keepalive"}`)

// client is one WebSocket's place at a session.
type client struct {
	server  *Server
	session *session
	place   *reader
	socket  *socket
	owner   bool
	// attached says that the session ran before: what it wrote is replayed.
	attached bool
	// framed says that output goes in frames; without, it goes as it is.
	framed bool
	// silent clients' input is thrown away.
	silent bool
	// binaryJSON says that instructions may come as binary messages.
	binaryJSON bool
}

// sessionInfo is the first message to every client.
type sessionInfo struct {
	Type    string `json:"type"`
	ID      string `json:"session_id"`
	Command string `json:"command"`
	Created int64  `json:"created"`
	Cols    uint16 `json:"cols"`
	Rows    uint16 `json:"rows"`
	Owner   bool   `json:"is_owner"`
	TTY     bool   `json:"tty"`
}

func (n *session) info(owner bool) sessionInfo {
	n.mu.Lock()
	size := n.size
	n.mu.Unlock()
	if n.tty && size.Cols == 0 {
		size.Cols = 80
	}
	if n.tty && size.Rows == 0 {
		size.Rows = 24
	}
	return sessionInfo{
		Type: "session_info", ID: n.id, Command: n.command, Created: n.created.Unix(),
		Cols: size.Cols, Rows: size.Rows, Owner: owner, TTY: n.tty,
	}
}

// serve sends the client what the session writes, until its end or ctx's. The
// exit has been told, or is held back with what was written last, when it
// returns without an error.
func (c *client) serve(ctx context.Context) (code int, err error) {
	if err := c.socket.writeJSON(ctx, c.session.info(c.owner)); err != nil {
		return 0, err
	}
	if err := c.socket.send(); err != nil {
		return 0, err
	}
	quiet := time.NewTicker(keepaliveEvery)
	defer quiet.Stop()
	look := time.NewTimer(portsAfter)
	defer look.Stop()
	var ports *portSubscription
	var events <-chan portEvent
	defer func() { ports.end() }()
	replay := c.attached
	for {
		select {
		case <-c.place.wake:
			c.socket.hold()
			more, err := c.forward(ctx, replay)
			replay = false
			if err != nil {
				return 0, err
			}
			if !more {
				<-c.session.ended
				return c.session.code, c.tellExit(ctx, c.session.code)
			}
			if err := c.socket.send(); err != nil {
				return 0, err
			}
			quiet.Reset(keepaliveEvery)
		case <-look.C:
			ports = c.server.ports.subscribe(c.session.child.Pid)
			events = ports.events
		case event := <-events:
			if err := c.socket.writeJSON(ctx, event); err != nil {
				return 0, err
			}
		case <-quiet.C:
			if err := c.socket.write(ctx, websocket.MessageText, keepalive); err != nil {
				return 0, err
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// forward sends what has come; more says whether more can.
func (c *client) forward(ctx context.Context, replay bool) (more bool, err error) {
	chunks, more, err := c.place.take()
	if replay && c.session.tty && c.place.late {
		chunks = fromLine(chunks)
	}
	for _, chunk := range chunks {
		data := chunk.data
		if !c.framed {
			data = data[1:]
		}
		if err := c.socket.write(ctx, websocket.MessageBinary, data); err != nil {
			return false, err
		}
	}
	return more, err
}

// exitMessage is the exit as text; clients differ in which key they read.
type exitMessage struct {
	Type     string `json:"type"`
	ExitCode int    `json:"exit_code"`
	Code     int    `json:"code"`
}

func (c *client) tellExit(ctx context.Context, code int) error {
	if c.framed {
		if err := c.socket.write(ctx, websocket.MessageBinary, []byte{streamExit, byte(code)}); err != nil {
			return err
		}
	}
	return c.socket.writeJSON(ctx, exitMessage{"exit", code, code})
}

// closeCode is the close code at the end of a session. The published JavaScript
// client has no other way to learn how a terminal's session ended.
func (c *client) closeCode(code int) websocket.StatusCode {
	if c.framed || code == 0 {
		return websocket.StatusNormalClosure
	}
	return websocket.StatusCode(closeExit + code)
}

// receive passes one message of the client on.
func (c *client) receive(ctx context.Context, kind websocket.MessageType, from io.Reader) error {
	if kind == websocket.MessageText {
		text, err := readText(from)
		if err != nil {
			return err
		}
		c.obey(text)
		return nil
	}
	if c.binaryJSON {
		head := make([]byte, 512)
		n, err := io.ReadFull(from, head)
		if err == io.EOF {
			return nil
		}
		if errors.Is(err, io.ErrUnexpectedEOF) && c.obey(head[:n]) {
			return nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		from = &headed{head[:n], from}
	}
	if err := c.feed(ctx, from); err != nil {
		return err
	}
	return discard(from)
}

// discard reads the rest of a message.
func discard(from io.Reader) error {
	_, err := io.Copy(io.Discard, from)
	return err
}

// headed reads what was read ahead, then the rest.
type headed struct {
	head []byte
	rest io.Reader
}

func (h *headed) Read(p []byte) (int, error) {
	if len(h.head) > 0 {
		n := copy(p, h.head)
		h.head = h.head[n:]
		return n, nil
	}
	return h.rest.Read(p)
}

// feed passes input on: as it is to a terminal, in frames else.
func (c *client) feed(ctx context.Context, from io.Reader) error {
	in := c.session.in
	if !c.session.tty || c.framed {
		var id [1]byte
		if _, err := io.ReadFull(from, id[:]); err != nil {
			if err == io.EOF {
				return nil // an empty message
			}
			return err
		}
		if c.silent {
			return nil
		}
		switch id[0] {
		case streamStdin:
		case streamEOF:
			in.finish()
			return nil
		default:
			return nil
		}
	}
	if c.silent {
		return nil
	}
	c.server.touch()
	return in.accept(ctx, from)
}

// obey does what a text asks for; false if it is none of the instructions. One
// that cannot be done has nobody to tell: the session has ended.
func (c *client) obey(text []byte) bool {
	in, known := parseInstruction(text)
	if !known {
		return false
	}
	if in.Type == "resize" {
		c.session.resize(guest.Window{Rows: in.Rows, Cols: in.Cols})
		return true
	}
	if signal, err := parseSignal(in.Signal); err == nil {
		c.session.signal(signal)
	}
	return true
}
