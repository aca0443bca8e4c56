package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

// work tells a person at a terminal what is being done for them and for how
// long. Elsewhere it is silent, but for what is said.
type work struct {
	a    *app
	tty  bool
	quit chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex
	text  string
	shown bool
	start time.Time
}

// workAfter keeps quick work from flickering.
const workAfter = 150 * time.Millisecond

// begin starts to tell. The caller must call done.
func (a *app) begin(format string, args ...any) *work {
	_, tty := isTerminal(a.err)
	w := &work{a: a, tty: tty, text: fmt.Sprintf(format, args...), quit: make(chan struct{}), start: time.Now()}
	if tty {
		w.wg.Go(w.tick)
	}
	return w
}

func (w *work) tick() {
	const frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
	t := time.NewTicker(workAfter)
	defer t.Stop()
	signs := []rune(frames)
	for i := 0; ; i++ {
		select {
		case <-w.quit:
			return
		case <-t.C:
		}
		w.mu.Lock()
		w.shown = true
		line := fmt.Sprintf("%c %s  %.1f s", signs[i%len(signs)], oneLine(w.text), time.Since(w.start).Seconds())
		fmt.Fprintf(w.a.err, "\r%s\x1b[K", cut(line, width(w.a.err)-1))
		w.mu.Unlock()
	}
}

// say changes what is shown.
func (w *work) say(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = text
}

// event takes a step of a checkpoint or a restore.
func (w *work) event(e client.SpriteEvent) {
	if e.Type == "info" && e.Data != "" {
		w.say(e.Data)
	}
}

// done takes the line away. It may be called more than once.
func (w *work) done() {
	select {
	case <-w.quit:
		return
	default:
		close(w.quit)
	}
	w.wg.Wait()
	if w.shown {
		fmt.Fprint(w.a.err, "\r\x1b[K")
	}
}

// took is how long the work took, for people.
func (w *work) took() string { return millis(time.Since(w.start)) }
