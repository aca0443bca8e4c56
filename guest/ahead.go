package guest

import (
	"io"
	"net"
)

// aheadListener makes connections that read ahead.
type aheadListener struct{ net.Listener }

func (l aheadListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &aheadConn{TCPConn: tcp}, err
	}
	return conn, err
}

// aheadConn takes much at once from the kernel while much comes. The HTTP server reads
// a body of unknown length in three calls for each chunk, and each is two switches
// between guest and kernel. Reads must not be concurrent.
type aheadConn struct {
	*net.TCPConn
	buffer *[copyBuffer]byte // nil unless rest is in it
	rest   []byte
	// eager is set while reads find all that they ask for. A connection that
	// waits for a request asks for little and holds no buffer.
	eager bool
}

// leastAhead is how much a read must have found for the next to read ahead, in bytes.
const leastAhead = 4 << 10

func (c *aheadConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		if !c.eager || len(p) >= copyBuffer {
			n, err := c.TCPConn.Read(p)
			c.eager = n == len(p) && n >= leastAhead
			return n, err
		}
		buffer := copyBuffers.Get().(*[copyBuffer]byte)
		n, err := c.TCPConn.Read(buffer[:])
		c.eager = n >= leastAhead
		if n == 0 || err != nil {
			copyBuffers.Put(buffer)
			return 0, err // a read that returns an error has read nothing
		}
		c.buffer, c.rest = buffer, buffer[:n]
	}
	n := copy(p, c.rest)
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		copyBuffers.Put(c.buffer)
		c.buffer, c.rest = nil, nil
	}
	return n, nil
}

// WriteTo hides the connection's own, which knows nothing of what was read ahead.
func (c *aheadConn) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}
