package guest

import (
	"errors"
	"io"
	"sync"
)

// copyBuffer is how much of a file is moved at once, in bytes: in a sandboxed
// kernel each call to the disk costs as much as tens of kilobytes.
const copyBuffer = 256 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// copyBuffered copies with few large writes, whatever the size of the reads.
func copyBuffered(to io.Writer, from io.Reader) (int64, error) {
	buffer := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buffer)
	var total int64
	for {
		n, readErr := fill(from, buffer[:])
		if n > 0 {
			written, err := to.Write(buffer[:n])
			total += int64(written)
			if err != nil {
				return total, err
			}
		}
		if errors.Is(readErr, io.EOF) {
			return total, nil
		}
		if readErr != nil {
			return total, &readFailure{readErr}
		}
	}
}

// fill reads until the buffer is full or the reader has an error, which it
// returns as it is: io.ReadFull would make a cut connection and a short last
// buffer look the same.
func fill(from io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var m int
		m, err = from.Read(buffer[n:])
		n += m
	}
	return n, err
}

// readFailure tells a client that broke off from a disk that failed.
type readFailure struct{ err error }

func (r *readFailure) Error() string { return "read the body: " + r.err.Error() }
func (r *readFailure) Unwrap() error { return r.err }
