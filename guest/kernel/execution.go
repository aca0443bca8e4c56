package kernel

import (
	"encoding/json"
	"fmt"
	"sync"
)

// execution is one piece of code that a kernel runs.
type execution struct {
	process *process
	output  *output
	// id is that of the request with the code, last that of the last request
	// that belongs to it.
	id, last string

	// began is closed when the kernel has taken the code up; then an interrupt
	// reaches it. finished is closed when the kernel has answered and has
	// nothing more to publish.
	began, finished chan struct{}

	mu sync.Mutex
	// answered and idle are the two halves of finished.
	answered, idle bool
	counted        bool
	failed         bool
	// failure is the content of a reply that tells of an error.
	failure []byte
	// refused is set when the last request failed.
	refused bool
	// messages counts what came.
	messages int
}

// part is code for a kernel; silent code leaves no trace in the history.
type part struct {
	code   string
	silent bool
	// barrier is no code but a question, whose answer comes when all that
	// came before has been published.
	barrier bool
	// wishes go along with the code, to kernels that grant them.
	wishes *wishes
}

// wishes are what our prelude does around code. They are in the metadata of the
// request, so they cost no request of their own.
type wishes struct {
	// Set are variables to set for good, During those for this code alone.
	Set    map[string]string `json:"set,omitempty"`
	During map[string]string `json:"during,omitempty"`
	// Trial has the kernel forget the code: no count, history or result shows it.
	Trial bool `json:"trial,omitempty"`
}

// metadata returns wishes as the prelude reads them.
func (w *wishes) metadata() ([]byte, error) {
	if w == nil {
		return nil, nil
	}
	return json.Marshal(struct {
		Wishes *wishes `json:"atoll"`
	}{w})
}

// request returns the kind and the content of a part's message.
func (p part) request() (kind string, content []byte, err error) {
	if p.barrier {
		return "kernel_info_request", []byte("{}"), nil
	}
	content, err = executeContent(p.code, p.silent)
	return "execute_request", content, err
}

// begin sends the kernel code to run one after another. What is published is
// of the part that is not silent. The caller has the context's turn.
func (p *process) begin(parts ...part) (*execution, error) {
	e := &execution{
		process: p, output: newOutput(),
		began: make(chan struct{}), finished: make(chan struct{}),
	}
	messages := make([][][]byte, len(parts))
	for i, part := range parts {
		kind, content, err := part.request()
		if err != nil {
			return nil, err
		}
		metadata, err := part.wishes.metadata()
		if err != nil {
			return nil, err
		}
		e.last = p.session.next()
		if !part.silent && !part.barrier {
			e.id = e.last
		}
		messages[i] = p.session.encode(p.sign, e.last, kind, metadata, content)
	}
	p.current.Store(e)
	for _, frames := range messages {
		if err := p.shell.send(frames...); err != nil {
			p.current.Store(nil)
			return nil, fmt.Errorf("send code to the kernel: %w", err)
		}
	}
	return e, nil
}

// published takes a message from iopub. It returns when the client has room
// for it; meanwhile the kernel stands still.
func (e *execution) published(m *message) {
	if m.parent == "" || m.parent != e.id && m.parent != e.last {
		return // of nothing, or of a thread that outlived its execution
	}
	e.mu.Lock()
	e.messages++
	e.mu.Unlock()
	if m.kind == "status" {
		if m.parent == e.last && stringField(m.content, "execution_state") == "idle" {
			e.finish(func() { e.idle = true })
		}
		return
	}
	if m.parent != e.id {
		return
	}
	closeOnce(e.began)
	if err := e.publish(m); err != nil {
		e.output.error("KernelError", fmt.Sprintf("a %s message was left out: %v", m.kind, err))
	}
	e.holdBack()
}

func (e *execution) publish(m *message) error {
	switch m.kind {
	case "execute_input":
		if n, ok := executionCount(m.content); ok {
			e.count(n)
		}
	case "stream":
		stream, raw, err := streamText(m.content)
		if err != nil {
			return err
		}
		for raw = e.output.text(stream, raw); len(raw) > 0; raw = e.output.text(stream, raw) {
			e.holdBack()
		}
	case "execute_result":
		return e.output.result(true, m.content)
	case "display_data", "update_display_data":
		return e.output.result(false, m.content)
	case "error":
		e.mu.Lock()
		e.failed = true
		e.mu.Unlock()
		return e.output.failure(m.content)
	}
	return nil
}

func (e *execution) count(n int64) {
	e.mu.Lock()
	counted := e.counted
	e.counted = true
	e.mu.Unlock()
	if !counted {
		e.output.count(n)
	}
}

// holdBack stops the kernel while its client has not read enough.
func (e *execution) holdBack() {
	if !e.output.full(outputFull) {
		return
	}
	e.process.pause()
	defer e.process.proceed()
	for e.output.full(outputRoom) {
		<-e.output.room
	}
}

// replied takes a reply to one of the requests.
func (e *execution) replied(m *message) {
	if m.parent == e.id && m.kind == "execute_reply" {
		e.mu.Lock()
		if status := stringField(m.content, "status"); status == "error" || status == "aborted" || status == "abort" {
			e.failure = m.content
		}
		e.mu.Unlock()
		if n, ok := executionCount(m.content); ok {
			e.count(n)
		}
	}
	if m.parent == e.last {
		refused := stringField(m.content, "status") != "ok"
		e.finish(func() { e.answered, e.refused = true, refused })
	}
}

// finish notes one half of the end.
func (e *execution) finish(note func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	note()
	if !e.answered || !e.idle {
		return
	}
	e.close()
}

// close marks the end; e.mu is held.
func (e *execution) close() {
	select {
	case <-e.finished:
		return
	default:
	}
	if e.failure != nil && !e.failed {
		// The error itself was published by few kernels only in the reply.
		_ = e.output.failure(e.failure) // what is malformed says nothing
	}
	close(e.finished)
}

// overdue reports that one half of the end came, and then, since it was asked
// last, nothing any more: a publishing socket may drop messages. It returns
// how many messages there were.
func (e *execution) overdue(last int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if (e.answered || e.idle) && e.messages == last && !e.output.full(0) {
		e.close()
	}
	return e.messages
}

// tooLarge tells the client of a message that was thrown away.
func (e *execution) tooLarge(size uint64) {
	e.output.error("OutputTooLarge", fmt.Sprintf("an output of %d MB was left out; at most %d MB come through", size>>20, maxMessage>>20))
}
