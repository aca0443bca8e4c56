package kernel

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

const (
	// maxMessage bounds one message from a kernel, in bytes.
	maxMessage = 128 << 20
	// maxFrames bounds the parts of one message.
	maxFrames = 64
	// greeting is how many bytes of a ZMTP connection come before its frames.
	greeting = 64
)

// errProtocol is reported for bytes that are not ZMTP.
var errProtocol = errors.New("the kernel does not speak ZeroMQ's protocol")

// The flags of a ZMTP frame.
const (
	frameMore    = 1
	frameLong    = 2
	frameCommand = 4
)

// guard stands between the ZeroMQ library and a connection to a kernel. The
// library allocates whatever size a frame claims to have, so the guard looks at
// the frames first: one that is too large arrives as an empty one, and what it
// held is thrown away. It also buffers, as the library reads and writes piece
// by piece.
type guard struct {
	net.Conn
	in *bufio.Reader
	// header is what is left to hand on of a frame's header, body of its body.
	header []byte
	body   uint64
	// size and frames are those of the message so far; last says that its last
	// frame has begun.
	size   uint64
	frames int
	last   bool
	// lost is the size of frames that were thrown away since it was asked.
	lost atomic.Uint64

	mu  sync.Mutex
	out *bufio.Writer
	// holding keeps writes back until flush.
	holding bool
}

func newGuard(conn net.Conn, buffer int) *guard {
	return &guard{
		Conn: conn,
		in:   bufio.NewReaderSize(conn, buffer),
		out:  bufio.NewWriterSize(conn, 4<<10),
		body: greeting,
	}
}

// Read hands on bytes of frames that have been looked at.
func (g *guard) Read(p []byte) (int, error) {
	for len(g.header) == 0 && g.body == 0 {
		if err := g.next(); err != nil {
			return 0, err
		}
	}
	if len(g.header) > 0 {
		n := copy(p, g.header)
		g.header = g.header[n:]
		return n, nil
	}
	if uint64(len(p)) > g.body {
		p = p[:g.body]
	}
	n, err := g.in.Read(p)
	g.body -= uint64(n)
	return n, err
}

// next looks at the header of a frame.
func (g *guard) next() error {
	if g.last {
		g.size, g.frames, g.last = 0, 0, false
	}
	head, err := g.in.Peek(2)
	if err != nil {
		return err
	}
	flags, size, length := head[0], uint64(head[1]), 2
	if flags > frameMore|frameLong|frameCommand {
		return fmt.Errorf("%w: flags %#x", errProtocol, flags)
	}
	if flags&frameLong != 0 {
		length = 9
		if head, err = g.in.Peek(length); err != nil {
			return err
		}
		size = binary.BigEndian.Uint64(head[1:])
	}
	if g.frames++; g.frames > maxFrames {
		return fmt.Errorf("%w: a message of more than %d frames", errProtocol, maxFrames)
	}
	g.last = flags&frameMore == 0
	if size <= maxMessage && g.size+size <= maxMessage {
		g.size += size
		g.header = append(g.header[:0], head...)
		g.body = size
		_, err = g.in.Discard(length)
		return err
	}
	if _, err = g.in.Discard(length); err != nil {
		return err
	}
	g.lost.Add(size)
	g.header = append(g.header[:0], flags&^frameLong, 0)
	return discard(g.in, size)
}

func discard(r *bufio.Reader, size uint64) error {
	for size > 0 {
		n, err := r.Discard(int(min(size, 1<<30)))
		size -= uint64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// Write sends at once unless hold was called.
func (g *guard) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, err := g.out.Write(p)
	if err == nil && !g.holding {
		err = g.out.Flush()
	}
	return n, err
}

// hold gathers what is written until flush.
func (g *guard) hold() {
	g.mu.Lock()
	g.holding = true
	g.mu.Unlock()
}

func (g *guard) flush() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.holding = false
	return g.out.Flush()
}

var _ io.ReadWriter = (*guard)(nil)
