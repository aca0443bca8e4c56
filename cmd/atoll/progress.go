package main

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// progress tells a person at a terminal how far a long copy is. Elsewhere it
// only counts.
type progress struct {
	a     *app
	done  atomic.Int64
	total atomic.Int64 // 0: not known
	start time.Time
	quit  chan struct{}
	wg    sync.WaitGroup
}

// newProgress begins to tell. The caller must call stop.
func (a *app) newProgress() *progress {
	p := &progress{a: a, start: time.Now(), quit: make(chan struct{})}
	// Output on the same terminal would be torn apart.
	_, outTTY := isTerminal(a.out)
	if _, tty := isTerminal(a.err); tty && outTTY {
		p.wg.Go(p.tell)
	}
	return p
}

// expect says how many bytes there will be.
func (p *progress) expect(n int64) { p.total.Store(n) }

// reader counts what is read from r.
func (p *progress) reader(r io.Reader) io.Reader { return &countingReader{r, &p.done} }

// pass copies a file of that many bytes, or of an unknown size where it is
// negative, and counts them.
func (p *progress) pass(w io.Writer, r io.Reader, name string, size int64) error {
	n, err := io.Copy(w, p.reader(r))
	if err != nil {
		return fmt.Errorf("copy %s: %w", name, err)
	}
	if size >= 0 && n != size {
		return fmt.Errorf("copy %s: it ended after %d of %d bytes", name, n, size)
	}
	return nil
}

type countingReader struct {
	io.Reader
	n *atomic.Int64
}

func (r *countingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.n.Add(int64(n))
	return n, err
}

func (p *progress) stop() {
	close(p.quit)
	p.wg.Wait()
}

func (p *progress) tell() {
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	told := false
	for {
		select {
		case <-p.quit:
			if told {
				fmt.Fprint(p.a.err, "\r\x1b[K")
			}
			return
		case <-t.C:
			told = true
			fmt.Fprint(p.a.err, "\r", cut(p.line(), width(p.a.err)-1), "\x1b[K")
		}
	}
}

func (p *progress) line() string {
	done, total := p.done.Load(), p.total.Load()
	took := time.Since(p.start)
	rate := float64(done) / max(took.Seconds(), 0.001)
	s := fmt.Sprintf("%s  %s/s", bytesText(done), bytesText(int64(rate)))
	if total > 0 && rate > 0 {
		left := time.Duration(float64(max(total-done, 0)) / rate * float64(time.Second))
		s = fmt.Sprintf("%3d%%  %s of %s  %s/s  %s left", min(done*100/total, 100), bytesText(done), bytesText(total),
			bytesText(int64(rate)), span(max(left.Truncate(time.Second), time.Second)))
	}
	return s
}
