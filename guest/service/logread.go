package service

import (
	"bytes"
	"io"
	"os"
	"strings"
	"time"
)

// readBuffer holds at least one line of a combined log, in bytes.
const readBuffer = 32 << 10

// logReader reads a combined log on through the files that it is kept in. It
// belongs to one goroutine.
type logReader struct {
	logs *logFiles
	// generation is that of file, or of the one that is to be opened.
	generation int
	file       *os.File
	buffer     []byte
	unread     []byte // the part of buffer that was read and not returned
}

// logLine is one line of a combined log.
type logLine struct {
	at     time.Time
	stream string
	text   string
}

// follow returns a reader that begins so many lines before the end.
func (l *logFiles) follow(lines int) *logReader {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &logReader{logs: l, generation: l.generation, buffer: make([]byte, readBuffer)}
	r.file, _ = os.Open(l.combined.path) // there is none before the first line
	if r.file == nil {
		return r
	}
	missing, err := seekBack(r.file, lines)
	if missing == 0 || err != nil {
		return r
	}
	former, err := os.Open(l.combined.former())
	if err != nil {
		return r
	}
	if _, err := seekBack(former, missing); err != nil {
		former.Close()
		return r
	}
	r.file.Close()
	r.file, r.generation = former, l.generation-1
	return r
}

func (r *logReader) close() {
	if r.file != nil {
		r.file.Close()
	}
}

// more returns a channel that is closed when next has something to read that it
// had not when more was called.
func (l *logFiles) more() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.grown
}

// next returns the next line; false at the end, for now.
func (r *logReader) next() (logLine, bool) {
	for {
		if end := bytes.IndexByte(r.unread, '\n'); end >= 0 {
			line := parseLine(string(r.unread[:end]))
			r.unread = r.unread[end+1:]
			return line, true
		}
		if len(r.unread) == len(r.buffer) { // somebody else wrote there
			line := parseLine(string(r.unread))
			r.unread = nil
			return line, true
		}
		if !r.fill() {
			return logLine{}, false
		}
	}
}

// fill reads more; false at the end.
func (r *logReader) fill() bool {
	kept := copy(r.buffer, r.unread)
	r.unread = r.buffer[:kept]
	for {
		r.logs.mu.Lock()
		current := r.logs.generation
		if r.file == nil {
			r.file, _ = os.Open(r.logs.pathOf(r.generation))
		}
		r.logs.mu.Unlock()
		if r.file != nil {
			if n, _ := r.file.Read(r.buffer[kept:]); n > 0 {
				r.unread = r.buffer[:kept+n]
				return true
			}
			r.backToStart()
		}
		if r.generation >= current {
			return false
		}
		// All of this file was there before the last read.
		r.close()
		r.file = nil
		r.generation = max(r.generation+1, current-1)
	}
}

// pathOf returns the file of a generation, the former one for all before; l.mu
// is held.
func (l *logFiles) pathOf(generation int) string {
	if generation < l.generation {
		return l.combined.former()
	}
	return l.combined.path
}

// backToStart lets the reader go on in a file that somebody has emptied.
func (r *logReader) backToStart() {
	at, err := r.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return
	}
	if info, err := r.file.Stat(); err == nil && info.Size() < at {
		r.file.Seek(0, io.SeekStart) // if not, there is nothing to read
	}
}

// seekBack moves to so many lines before the end, and returns how many fewer
// there are in the file.
func seekBack(f *os.File, lines int) (missing int, err error) {
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil || lines == 0 {
		return 0, err
	}
	block := make([]byte, readBuffer)
	for last := true; at > 0; {
		n := min(at, int64(len(block)))
		at -= n
		if _, err := f.ReadAt(block[:n], at); err != nil {
			return 0, err
		}
		for i := int(n) - 1; i >= 0; i-- {
			if block[i] != '\n' {
				last = false
				continue
			}
			if last { // it ends the last line
				last = false
				continue
			}
			if lines--; lines == 0 {
				_, err := f.Seek(at+int64(i)+1, io.SeekStart)
				return 0, err
			}
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	if info, err := f.Stat(); err == nil && info.Size() > 0 {
		lines-- // the first line has no line feed before it
	}
	return lines, err
}

// parseLine reads a line of a combined log; one that is none is taken as it is.
func parseLine(line string) logLine {
	stamp, rest, _ := strings.Cut(line, " ")
	at, err := time.Parse(logTime, stamp)
	for _, stream := range []string{stdout, stderr} {
		if text, ok := strings.CutPrefix(rest, "["+stream+"] "); ok && err == nil {
			return logLine{at, stream, text}
		}
	}
	return logLine{time.Now(), stdout, line}
}
