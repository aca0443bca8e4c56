package sprite

import (
	"context"
	"io"
	"os"
	"sync"
)

const (
	// inputQueue bounds what waits for a process that does not read, in bytes;
	// beyond, its clients wait. What they send after it (a signal, a new window
	// size) waits behind it.
	inputQueue = 1 << 20
	// inputPiece is how much of a client's message is taken at once, in bytes.
	inputPiece = 32 << 10
)

// input is what clients send to a process's pipe or terminal.
type input struct {
	file     *os.File // nil: everything is thrown away
	terminal bool

	mu      sync.Mutex
	queue   [][]byte
	size    int
	running bool // the goroutine that writes
	eof     bool // the file is to be closed, or is
	// room has a token when the queue has shrunk or come to its end.
	room chan struct{}
}

func newInput(file *os.File, terminal bool) *input {
	return &input{file: file, terminal: terminal, room: make(chan struct{}, 1)}
}

var inputPieces = sync.Pool{New: func() any { return new([inputPiece]byte) }}

// accept queues a client's bytes until its end; it waits while the queue is full.
func (in *input) accept(ctx context.Context, from io.Reader) error {
	buffer := inputPieces.Get().(*[inputPiece]byte)
	defer inputPieces.Put(buffer)
	for {
		count, err := from.Read(buffer[:])
		if count > 0 {
			if err := in.push(ctx, append([]byte(nil), buffer[:count]...)); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (in *input) push(ctx context.Context, piece []byte) error {
	for {
		in.mu.Lock()
		if in.eof || in.file == nil {
			in.mu.Unlock()
			token(in.room)
			return nil // nobody reads it any more
		}
		if in.size < inputQueue {
			in.queue = append(in.queue, piece)
			in.size += len(piece)
			if !in.running {
				in.running = true
				go in.write()
			}
			in.mu.Unlock()
			token(in.room) // another client's push may wait too
			return nil
		}
		in.mu.Unlock()
		select {
		case <-in.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// write empties the queue and ends with it.
func (in *input) write() {
	for {
		in.mu.Lock()
		if len(in.queue) == 0 {
			in.running = false
			if in.eof {
				in.file.Close()
			}
			in.mu.Unlock()
			return
		}
		piece := in.queue[0]
		in.queue = in.queue[1:]
		in.mu.Unlock()
		_, err := in.file.Write(piece)
		in.mu.Lock()
		in.size -= len(piece)
		if err != nil { // the process closed its end
			in.queue, in.size, in.eof = nil, 0, true
		}
		in.mu.Unlock()
		token(in.room)
	}
}

// finish gives the process an end of file behind what is queued. Terminals have
// none: clients send Ctrl+D.
func (in *input) finish() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.terminal || in.file == nil || in.eof {
		return
	}
	in.eof = true
	if !in.running {
		in.file.Close()
	}
}

// end throws away what is queued: the process has ended. A terminal's file is
// its output's, too, and closed with that.
func (in *input) end() {
	in.mu.Lock()
	in.queue, in.size, in.eof = nil, 0, true
	in.mu.Unlock()
	if in.file != nil && !in.terminal {
		in.file.Close()
	}
	token(in.room)
}
