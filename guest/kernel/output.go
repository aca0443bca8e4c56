package kernel

import (
	"strconv"
	"sync"
	"time"
)

const (
	// outputFull and outputRoom are how many bytes wait for a client before its
	// kernel is stopped, and when the kernel may go on.
	outputFull = 4 << 20
	outputRoom = 1 << 20
	// maxLine is about how much text of stdout or stderr goes into one line.
	maxLine = 64 << 10
	// mergeBelow is how long a line may be to get more text of the same stream.
	mergeBelow = 16 << 10
	// borrowAbove is the size from which a value is sent from where it lies.
	borrowAbove = 64 << 10
	// keepBelow is the size up to which a buffer is used again.
	keepBelow = 256 << 10
)

// output is what waits to be sent to the client of one execution: lines of
// JSON, as the published SDKs read them. The goroutine that reads the kernel's
// messages appends, the handler takes.
type output struct {
	mu sync.Mutex
	// parts come before buffer; they lie in messages.
	parts  [][]byte
	buffer []byte
	size   int
	// stream is the kind of the line that buffer ends with, when text can be
	// added to it, and lineStart is where it begins.
	stream    string
	lineStart int
	spare     []byte
	// closed is set when nobody reads any more.
	closed bool

	// ready has a value when there is something to take.
	ready chan struct{}
	// room has a value when space has become free.
	room chan struct{}
}

func newOutput() *output {
	return &output{ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// take returns what waits, to be given back with done.
func (o *output) take() (parts [][]byte, buffer []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	parts, buffer = o.parts, o.buffer
	o.parts, o.buffer, o.spare = nil, o.spare[:0], nil
	o.size, o.stream = 0, ""
	signal(o.room)
	return parts, buffer
}

// done gives back a buffer that has been written.
func (o *output) done(buffer []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if cap(buffer) <= keepBelow {
		o.spare = buffer[:0]
	}
}

// close drops what waits and what still comes.
func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.parts, o.buffer, o.spare, o.size, o.stream = nil, nil, nil, 0, ""
	signal(o.room)
}

// full reports that a kernel should wait.
func (o *output) full(limit int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.closed && o.size > limit
}

// append runs f on the buffer.
func (o *output) append(f func(b []byte) []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.stream = ""
	before := len(o.buffer)
	o.buffer = f(o.buffer)
	o.size += len(o.buffer) - before
	signal(o.ready)
}

// text adds the beginning of a text of stdout or stderr, the inside of a JSON
// string, and returns what is left of it.
func (o *output) text(stream string, raw []byte) (rest []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || len(raw) == 0 {
		return nil
	}
	before := len(o.buffer)
	if o.stream == stream && before-o.lineStart < mergeBelow {
		o.buffer = o.buffer[:before-len("\"}\n")]
	} else {
		o.stream, o.lineStart = stream, before
		o.buffer = append(o.buffer, `{"type":"`...)
		o.buffer = append(o.buffer, stream...)
		o.buffer = append(o.buffer, `","timestamp":`...)
		o.buffer = strconv.AppendInt(o.buffer, time.Now().UnixNano(), 10)
		o.buffer = append(o.buffer, `,"text":"`...)
	}
	o.buffer, rest = appendTextUpTo(o.buffer, raw, maxLine)
	o.buffer = append(o.buffer, "\"}\n"...)
	o.size += len(o.buffer) - before
	signal(o.ready)
	return rest
}

// count adds the number of the execution.
func (o *output) count(n int64) {
	o.append(func(b []byte) []byte {
		b = append(b, `{"type":"number_of_executions","execution_count":`...)
		b = strconv.AppendInt(b, n, 10)
		return append(b, "}\n"...)
	})
}

// error adds an error of our own words.
func (o *output) error(name, value string) {
	o.append(func(b []byte) []byte {
		b = append(b, `{"type":"error","name":`...)
		b = appendString(b, name)
		b = append(b, `,"value":`...)
		b = appendString(b, value)
		b = append(b, `,"traceback":`...)
		b = appendString(b, name+": "+value)
		return append(b, "}\n"...)
	})
}

// end adds the last line.
func (o *output) end() {
	o.append(func(b []byte) []byte { return append(b, "{\"type\":\"end_of_execution\"}\n"...) })
}

// value appends a JSON value, or where it lies when it is large; o.mu is held.
func (o *output) value(value []byte) {
	if raw, isString := inside(value); isString && len(raw) >= borrowAbove && isClean(raw) {
		o.parts = append(o.parts, o.buffer, value)
		o.buffer = nil
		return
	}
	next, ok := appendValue(o.buffer, value)
	if !ok {
		next = append(next, "null"...)
	}
	o.buffer = next
}

// signal puts a value in a channel of one unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
