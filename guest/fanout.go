package guest

import (
	"errors"
	"sync"
	"time"
)

const (
	// readerQueue bounds what one reader may have waiting, in bytes.
	readerQueue = 1 << 20
	// patienceAlone is how long a process is held up by its only reader, as a
	// full pipe would hold it up, and patienceShared how long by one of many.
	patienceAlone  = 2 * time.Minute
	patienceShared = time.Second
)

// errSlowReader ends a stream whose client did not keep up.
var errSlowReader = errors.New("the client did not read the process's output for too long: connect again to go on from now")

// chunk is a piece of a process's output.
type chunk struct {
	stream stream
	data   []byte
}

// stream names where output came from.
type stream uint8

const (
	streamStdout stream = iota
	streamStderr
	streamPTY
)

func (s stream) String() string {
	return [...]string{"stdout", "stderr", "pty"}[s]
}

// fanout hands a process's output to any number of readers. Each has a bounded
// queue; a reader that stays full is dropped, and told so.
type fanout struct {
	mu      sync.Mutex
	readers map[*reader]struct{}
	closed  bool
}

// reader is one client's place in the output.
type reader struct {
	fanout *fanout
	queue  []chunk
	size   int
	err    error
	// wake has a token when queue, err or the fanout's end is to be looked at;
	// room has one when the queue has shrunk.
	wake chan struct{}
	room chan struct{}
}

func newFanout() *fanout { return &fanout{readers: map[*reader]struct{}{}} }

// join returns a reader of everything from now on; leave it when done.
func (f *fanout) join() *reader {
	r := &reader{fanout: f, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers[r] = struct{}{}
	return r
}

// leave ends a reader.
func (r *reader) leave() {
	r.fanout.mu.Lock()
	delete(r.fanout.readers, r)
	r.queue, r.size = nil, 0
	r.fanout.mu.Unlock()
	token(r.room)
}

// take returns what waits for the reader, whether more can come, and an error
// when the reader was dropped.
func (r *reader) take() (chunks []chunk, more bool, err error) {
	r.fanout.mu.Lock()
	chunks, r.queue, r.size = r.queue, nil, 0
	more, err = !r.fanout.closed, r.err
	r.fanout.mu.Unlock()
	token(r.room)
	return chunks, more, err
}

// publish hands a chunk to all readers, and keeps its data.
func (f *fanout) publish(c chunk) {
	var full []*reader
	f.mu.Lock()
	for r := range f.readers {
		if !r.offer(c) {
			full = append(full, r)
		}
	}
	f.mu.Unlock()
	for _, r := range full {
		f.await(r, c)
	}
}

// offer queues a chunk if there is room; the fanout's lock is held.
func (r *reader) offer(c chunk) bool {
	if r.size > 0 && r.size+len(c.data) > readerQueue {
		return false
	}
	r.queue = append(r.queue, c)
	r.size += len(c.data)
	token(r.wake)
	return true
}

// await waits for room in a full reader's queue, and drops the reader when
// patience ends.
func (f *fanout) await(r *reader, c chunk) {
	begin := time.Now()
	for {
		f.mu.Lock()
		_, here := f.readers[r]
		patience := patienceAlone
		if len(f.readers) > 1 {
			patience = patienceShared
		}
		left := patience - time.Since(begin)
		if here && left <= 0 {
			delete(f.readers, r)
			r.err = errSlowReader
			token(r.wake)
		}
		done := !here || left <= 0 || r.offer(c)
		f.mu.Unlock()
		if done {
			token(r.room) // there may be room for the other stream too
			return
		}
		timer := time.NewTimer(min(left, patienceShared))
		select {
		case <-r.room:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// close says that no more output comes.
func (f *fanout) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for r := range f.readers {
		token(r.wake)
	}
}

// token puts a token in a channel of size one if it is empty.
func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
