package sprite

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

const (
	// maxText bounds a text message from a client, in bytes.
	maxText = 1 << 20
	// farewell is how long a client that was told goodbye may still read what was
	// sent to it.
	farewell = 30 * time.Second
	// Close codes beside those of the library: a command's exit code is added to
	// closeExit.
	closeExit = 4000
)

// socket is a WebSocket with a client. One goroutine reads; any may write.
//
// What is written one after the other at its beginning and its end goes out at
// once: each write costs every hop on the way as much as a long one.
//
// It takes two things out of the library's hands. Answers to pings wait for
// their turn among the messages: the library gives up a connection whose client
// does not read for five seconds, where we wait. And at the end the client is
// waited for until it has read everything, not five seconds either.
type socket struct {
	ws   *websocket.Conn
	conn *quietConn

	writing sync.Mutex
	waiting sync.Mutex // guards pong
	pong    []byte     // to be written when writing is free
}

// maxHeld bounds what a connection holds back, in bytes.
const maxHeld = 16 << 10

// quietConn is a connection that can hold back what is written, and be made to
// write nothing more.
type quietConn struct {
	net.Conn
	quiet atomic.Bool

	mu      sync.Mutex
	holding bool
	held    []byte
}

func (c *quietConn) Write(p []byte) (int, error) {
	if c.quiet.Load() {
		return len(p), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holding && len(c.held)+len(p) <= maxHeld {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// flush writes what was held back; mu is held.
func (c *quietConn) flush() error {
	held := c.held
	if c.held = nil; len(held) == 0 {
		return nil
	}
	_, err := c.Conn.Write(held)
	return err
}

// hold has the connection keep what is written until release.
func (c *quietConn) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holding = true
}

func (c *quietConn) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holding = false
	return c.flush()
}

// taker hands the connection of a request over with buffers of a size. The
// answer to the upgrade is the first that the connection holds back.
type taker struct {
	http.ResponseWriter
	buffer int
	conn   *quietConn
	status int
}

// WriteHeader takes the head of the upgrade's answer, or passes on another.
func (t *taker) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols {
		t.status = status
		return
	}
	t.ResponseWriter.WriteHeader(status)
}

func (t *taker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	t.conn = &quietConn{Conn: conn, holding: true}
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", t.status, http.StatusText(t.status))
	t.Header().Write(&head) // a buffer takes everything
	head.WriteString("\r\n")
	t.conn.Write(head.Bytes()) // held back
	reader, writer := buffered.Reader, bufio.NewWriterSize(t.conn, 4<<10)
	if t.buffer > reader.Size() {
		early, err := reader.Peek(reader.Buffered())
		if err != nil {
			return nil, nil, err
		}
		reader = bufio.NewReaderSize(io.MultiReader(strings.NewReader(string(early)), conn), t.buffer)
		reader.Peek(len(early)) // into the new buffer, where the library looks
	}
	return t.conn, bufio.NewReadWriter(reader, writer), nil
}

// wantsSocket reports whether a request asks for a WebSocket.
func wantsSocket(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// accept makes a WebSocket of a request, or has answered it with what is wrong.
// Origins do not matter: the host has asked for a token.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, buffer int) (*socket, error) {
	k, err := s.acceptHeld(w, r, buffer)
	if err == nil {
		k.send() // who does not hear it has left
	}
	return k, err
}

// acceptHeld is accept, but nothing is sent, the answer to the request neither,
// until send is called.
func (s *Server) acceptHeld(w http.ResponseWriter, r *http.Request, buffer int) (*socket, error) {
	if !wantsSocket(r) {
		err := errors.New("this route is a WebSocket: ask for Upgrade: websocket")
		writeError(w, http.StatusBadRequest, err)
		return nil, err
	}
	k := new(socket)
	t := &taker{ResponseWriter: w, buffer: buffer}
	ws, err := websocket.Accept(t, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true,
		CompressionMode:    websocket.CompressionDisabled,
		OnPingReceived: func(_ context.Context, payload []byte) bool {
			k.answer(payload)
			return false
		},
	})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1) // readers take messages in pieces, or bound them
	k.ws, k.conn = ws, t.conn
	return k, nil
}

// answer sends a pong now or when the message that is being written is done.
func (k *socket) answer(payload []byte) {
	k.waiting.Lock()
	k.pong = append(make([]byte, 0, 2+len(payload)), 0x8a, byte(len(payload))) // at most 125
	k.pong = append(k.pong, payload...)
	k.waiting.Unlock()
	if k.writing.TryLock() {
		k.unlock()
	}
}

// unlock ends a turn of writing with the pong that became due.
func (k *socket) unlock() {
	for {
		k.waiting.Lock()
		pong := k.pong
		k.pong = nil
		k.waiting.Unlock()
		if pong != nil {
			k.conn.Write(pong) // a connection that broke shows when it is read
		}
		k.writing.Unlock()
		k.waiting.Lock()
		again := k.pong != nil && k.writing.TryLock()
		k.waiting.Unlock()
		if !again {
			return
		}
	}
}

// write sends one message; it waits as long as the client does not read.
func (k *socket) write(ctx context.Context, kind websocket.MessageType, data []byte) error {
	k.writing.Lock()
	defer k.unlock()
	return k.ws.Write(ctx, kind, data)
}

func (k *socket) writeJSON(ctx context.Context, message any) error {
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}
	return k.write(ctx, websocket.MessageText, data)
}

// hold keeps messages back until send, if they are few.
func (k *socket) hold() { k.conn.hold() }

// send sends what was kept back.
func (k *socket) send() error { return k.conn.release() }

// read returns the next message. Its reader must be read to the end.
func (k *socket) read(ctx context.Context) (websocket.MessageType, io.Reader, error) {
	return k.ws.Reader(ctx)
}

// errLongText ends a connection whose client sends too long a text.
var errLongText = errors.New("the text message is too long")

// readText reads a text message to its end.
func readText(from io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(from, maxText+1))
	if err == nil && len(text) > maxText {
		err = errLongText
	}
	return text, err
}

// bye tells the client the end and waits until it has left; done is closed when
// the goroutine that reads has ended, and with it the client.
func (k *socket) bye(code websocket.StatusCode, reason string, done <-chan struct{}) {
	frame := []byte{0x88, byte(2 + len(reason))} // reasons are ours and short
	frame = binary.BigEndian.AppendUint16(frame, uint16(code))
	frame = append(frame, reason...)
	timer := time.AfterFunc(farewell, func() { k.conn.Conn.Close() })
	defer timer.Stop()
	k.writing.Lock()
	k.conn.Write(frame)
	k.conn.release()         // who does not hear it has left
	k.conn.quiet.Store(true) // nothing comes behind a close frame
	k.unlock()
	<-done
}

// drop ends the connection at once.
func (k *socket) drop() { k.ws.CloseNow() }
