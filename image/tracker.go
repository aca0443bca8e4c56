package image

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
	"time"
)

// tracker reads mmdebstrap's output and turns it into progress. Each package
// is three units: fetched, unpacked, set up.
type tracker struct {
	report func(Progress)
	start  time.Time

	mu       sync.Mutex
	partial  []byte
	last     [][]byte // the last lines, for an error message
	step     string
	done     int64
	packages int64 // announced so far
	guess    int64 // packages expected before all are announced
	more     int64 // units beside those of packages
	known    bool
	told     time.Time
}

const (
	unitsPerPackage = 3
	keptLines       = 15
	maxLine         = 4096
)

func newTracker(report func(Progress), included, installed int) *tracker {
	// A minimal system has about 75 packages, and each one named brings some along.
	guess := int64(75)
	if included > 0 {
		guess += int64(25 * included)
	}
	return &tracker{report: report, start: time.Now(), guess: guess, more: int64(installed), step: "reading package lists"}
}

// Write takes output in any pieces.
func (t *tracker) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		t.line(append(t.partial, p[:i]...))
		t.partial, p = nil, p[i+1:]
	}
	if len(t.partial)+len(p) < maxLine {
		t.partial = append(t.partial, p...)
	}
	return n, nil
}

var stepOf = []struct{ prefix, step string }{
	{"I: downloading packages", "downloading packages"},
	{"I: extracting archives", "extracting the essential system"},
	{"I: installing essential packages", "installing the essential system"},
	{"I: installing remaining packages", "installing packages"},
	{"I: installing Python packages", "installing Python packages"},
	{"I: compiling Python packages", "compiling Python packages"},
	{"I: installing the JavaScript kernel", "installing the JavaScript kernel"},
	{"I: installing Node.js", "installing Node.js"},
	{"I: cleaning package lists", "cleaning up"},
}

func (t *tracker) line(line []byte) {
	if t.last = append(t.last, line); len(t.last) > keptLines {
		t.last = t.last[1:]
	}
	text := string(line)
	for _, s := range stepOf {
		if strings.HasPrefix(text, s.prefix) {
			t.step = s.step
			t.known = t.known || s.step == "cleaning up"
		}
	}
	switch {
	case isUnit(text):
		t.done++
	case strings.Contains(text, " newly installed"):
		t.announce(text)
	}
	t.tell(false)
}

// isUnit tells whether a line is about one package: that it was fetched (not
// a list of packages), by apt or pip, unpacked or set up.
func isUnit(text string) bool {
	if strings.HasPrefix(text, "Get:") {
		return !strings.Contains(text, "InRelease") && !strings.Contains(text, " Packages ")
	}
	return strings.HasPrefix(text, "Collecting ") || strings.HasPrefix(text, "Unpacking ") || strings.HasPrefix(text, "Setting up ")
}

// announce reads "0 upgraded, 69 newly installed, …".
func (t *tracker) announce(text string) {
	words := strings.Fields(text)
	for i, w := range words {
		if w == "newly" && i > 0 {
			if n, err := strconv.ParseInt(words[i-1], 10, 32); err == nil {
				// The second announcement is the last one.
				t.known = t.packages > 0
				t.packages += n
			}
		}
	}
}

func (t *tracker) tell(always bool) {
	if t.report == nil || !always && time.Since(t.told) < 200*time.Millisecond {
		return
	}
	t.told = time.Now()
	packages := max(t.packages, t.guess)
	if t.known {
		packages = t.packages
	}
	total := max(packages*unitsPerPackage+t.more, t.done+1)
	if always {
		total = t.done
	}
	p := Progress{Step: t.step, Done: t.done, Total: total}
	// Fetching goes at another pace than the rest, so the first units say nothing.
	if t.known && t.done*20 > total {
		p.ETA = time.Duration(float64(time.Since(t.start)) / float64(t.done) * float64(total-t.done)).Round(time.Second)
	}
	t.report(p)
}

func (t *tracker) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.step = "done"
	t.tell(true)
}

// tail returns the last lines of output.
func (t *tracker) tail() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Join(append(t.last, t.partial), []byte("\n"))
}
