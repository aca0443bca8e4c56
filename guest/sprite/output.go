package sprite

import (
	"bytes"
	"errors"
	"sort"
	"sync"
	"time"
)

const (
	// scrollback is how much output a session keeps for those who attach later,
	// and window how far a client may be behind it, in bytes.
	scrollback = 256 << 10
	window     = 1 << 20
	// chunkCost is what a chunk takes beside its bytes, so that many small ones
	// are bounded as well.
	chunkCost = 64
	// batch is how much a client takes at once, in bytes.
	batch = 256 << 10
	// patience is how long one client of several may hold the others up.
	patience = 5 * time.Second
)

// errSlow ends the connection of a client that others would not wait for.
var errSlow = errors.New("the client did not read the session's output for too long: attach again to go on")

// Streams of a session, as the first byte of a frame names them.
const (
	streamStdin  = 0
	streamStdout = 1
	streamStderr = 2
	streamExit   = 3
	streamEOF    = 4
)

// output is what a session wrote: the last of it for those to come, and as much
// as its readers have not taken yet.
type output struct {
	mu      sync.Mutex
	chunks  []chunk // those kept, oldest first
	size    int     // of chunks, with their cost
	total   uint64  // bytes ever published, with their cost
	cut     bool    // something was forgotten
	closed  bool
	readers map[*reader]struct{}
	// room has a token when a reader has taken something or left.
	room chan struct{}
}

// chunk is a frame as clients get it: the stream's id and what was written.
type chunk struct {
	end  uint64 // output.total after it
	data []byte
}

// reader is a client's place in the output.
type reader struct {
	out  *output
	next uint64 // output.total up to which it has taken
	late bool   // it does not begin where the output began
	err  error
	// wake has a token when there may be something to take.
	wake chan struct{}
}

func newOutput() *output {
	return &output{readers: map[*reader]struct{}{}, room: make(chan struct{}, 1)}
}

// join returns a reader that begins with the scrollback.
func (o *output) join() *reader {
	r := &reader{out: o, wake: make(chan struct{}, 1)}
	o.mu.Lock()
	defer o.mu.Unlock()
	replay := min(o.size, scrollback)
	r.next = o.total - uint64(replay)
	r.late = o.cut || replay < o.size
	o.readers[r] = struct{}{}
	token(r.wake)
	return r
}

// leave gives up a place.
func (r *reader) leave() {
	r.out.mu.Lock()
	delete(r.out.readers, r)
	r.out.mu.Unlock()
	token(r.out.room)
}

// take returns what comes next for the reader, and whether more can come.
func (r *reader) take() (chunks []chunk, more bool, err error) {
	o := r.out
	o.mu.Lock()
	defer o.mu.Unlock()
	first := sort.Search(len(o.chunks), func(i int) bool { return o.chunks[i].end > r.next })
	last, size := first, 0
	for last < len(o.chunks) && (size == 0 || size+len(o.chunks[last].data) <= batch) {
		size += len(o.chunks[last].data)
		last++
	}
	chunks = append(chunks, o.chunks[first:last]...)
	if last > first {
		r.next = o.chunks[last-1].end
		token(o.room)
	}
	if last < len(o.chunks) {
		token(r.wake)
	}
	return chunks, !o.closed || last < len(o.chunks), r.err
}

// publish adds a frame, and keeps it. It waits until the readers are near.
func (o *output) publish(data []byte) {
	o.mu.Lock()
	cost := len(data) + chunkCost
	o.total += uint64(cost)
	o.size += cost
	o.chunks = append(o.chunks, chunk{o.total, data})
	o.forget()
	for r := range o.readers {
		token(r.wake)
	}
	slow := o.slowest() > window
	o.mu.Unlock()
	if slow {
		o.await()
	}
}

// forget drops what is beyond the scrollback and what all have taken; o.mu is
// held.
func (o *output) forget() {
	limit := max(scrollback, int(min(o.slowest(), window*2)))
	n := 0
	for o.size > limit && n < len(o.chunks)-1 {
		o.size -= len(o.chunks[n].data) + chunkCost
		o.chunks[n].data = nil
		n++
	}
	if n > 0 {
		o.cut = true
		o.chunks = o.chunks[n:]
	}
}

// slowest returns how far the last reader is behind; o.mu is held.
func (o *output) slowest() uint64 {
	var most uint64
	for r := range o.readers {
		most = max(most, o.total-r.next)
	}
	return most
}

// await waits until every reader is within the window, or drops those that hold
// up others.
func (o *output) await() {
	begin := time.Now()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		o.mu.Lock()
		if len(o.readers) > 1 && time.Since(begin) >= patience {
			for r := range o.readers {
				if o.total-r.next > window {
					delete(o.readers, r)
					r.err = errSlow
					token(r.wake)
				}
			}
		}
		near := o.slowest() <= window
		o.mu.Unlock()
		if near {
			token(o.room) // the other stream may wait too
			return
		}
		select {
		case <-o.room:
		case <-timer.C:
			timer.Reset(patience)
		}
	}
}

// close says that no more comes.
func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for r := range o.readers {
		token(r.wake)
	}
}

// fromLine drops what a replay should not begin with: the rest of a line whose
// beginning, with its colours and half characters, is forgotten.
func fromLine(chunks []chunk) []chunk {
	for i, c := range chunks {
		if at := bytes.IndexByte(c.data[1:], '\n'); at >= 0 {
			data := append([]byte{c.data[0]}, c.data[at+2:]...)
			return append([]chunk{{c.end, data}}, chunks[i+1:]...)
		}
	}
	return chunks
}

// token puts a token in a channel of size one if it is empty.
func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
