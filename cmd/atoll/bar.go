package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/machine"
)

// bar shows the progress of long work on standard error: one line that changes
// on a terminal, a line per step elsewhere. Logs are written through it, so
// that they do not tear that line apart.
type bar struct {
	out      io.Writer
	terminal bool
	width    int
	start    time.Time
	quit     chan struct{}
	ticking  sync.WaitGroup

	mu    sync.Mutex
	at    machine.Progress
	heard time.Time // when at was
	line  string    // printed last, where there is no terminal
	shown bool
}

// newBar begins to follow. The caller must call done.
func newBar(a *app) *bar {
	_, terminal := isTerminal(a.err)
	b := &bar{out: a.err, terminal: terminal, width: width(a.err), start: time.Now(), quit: make(chan struct{})}
	if terminal {
		b.ticking.Go(b.tick)
	}
	return b
}

// tick redraws, so that a long step can be told from one that hangs.
func (b *bar) tick() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-b.quit:
			return
		case <-t.C:
			b.mu.Lock()
			if b.shown {
				b.draw()
			}
			b.mu.Unlock()
		}
	}
}

// show says how far the work is.
func (b *bar) show(p machine.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at, b.heard = p, time.Now()
	if b.terminal {
		b.shown = true
		b.draw()
		return
	}
	if line := p.Work + ": " + p.Step; line != b.line {
		b.line = line
		fmt.Fprintf(b.out, "%3.0f%% %s\n", 100*p.Done, line)
	}
}

func (b *bar) draw() {
	const cells = 24
	full := max(0, min(cells, int(b.at.Done*cells)))
	when := age(b.start)
	if left := b.at.Left - time.Since(b.heard); left > time.Second {
		when = "about " + span(left) + " left"
	}
	line := fmt.Sprintf("%s%s %3.0f%%  %s: %s, %s", strings.Repeat("█", full), strings.Repeat("░", cells-full),
		100*b.at.Done, b.at.Work, b.at.Step, when)
	fmt.Fprintf(b.out, "\r\033[K%s", cut(line, b.width-1))
}

// Write passes a log line on, above the bar.
func (b *bar) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.shown {
		return b.out.Write(p)
	}
	fmt.Fprint(b.out, "\r\033[K")
	n, err := b.out.Write(p)
	b.draw()
	return n, err
}

// done takes the bar off the terminal. It may be called more than once.
func (b *bar) done() {
	b.mu.Lock()
	select {
	case <-b.quit:
	default:
		close(b.quit)
	}
	if b.shown {
		fmt.Fprint(b.out, "\r\033[K")
		b.shown = false
	}
	b.mu.Unlock()
	b.ticking.Wait()
}
