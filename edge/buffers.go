package edge

import (
	"io"
	"sync"
)

// bufferSize is a compromise: large enough that a bulk transfer is limited by
// the copies in the kernel, small enough that a thousand idle streams, each of
// which holds one, cost 64 MiB.
const bufferSize = 64 << 10

// bufferPool lends the buffers that bodies are copied through.
type bufferPool struct{ pool sync.Pool }

var buffers = &bufferPool{sync.Pool{New: func() any { return new([bufferSize]byte) }}}

func (p *bufferPool) Get() []byte { return p.pool.Get().(*[bufferSize]byte)[:] }

func (p *bufferPool) Put(b []byte) { p.pool.Put((*[bufferSize]byte)(b)) }

// ReadFrom copies a request body to the guest; net/http's transport calls it.
func (g *guestConn) ReadFrom(r io.Reader) (int64, error) {
	b := buffers.Get()
	defer buffers.Put(b)
	return io.CopyBuffer(writerOnly{g.Conn}, r, b)
}

// writerOnly hides other methods, so that io.CopyBuffer uses the buffer.
type writerOnly struct{ io.Writer }
