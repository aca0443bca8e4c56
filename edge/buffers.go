package edge

import (
	"io"
	"sync"
)

// bufferSize is where the benchmarks of bulk transfers were fastest: 256 KiB
// was slower both ways. Each open stream holds one.
const bufferSize = 32 << 10

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
