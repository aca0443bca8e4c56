package service

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	stdout = "stdout"
	stderr = "stderr"

	// maxLogFile is the size at which a log file gives way to a new one, in
	// bytes; the one before it is kept with the end ".1".
	maxLogFile = 4 << 20
	// maxLine bounds a line of the combined log, in bytes; longer ones are cut in
	// pieces. As JSON, where a byte may take six, a piece stays below 64 KiB.
	maxLine = 8 << 10
	// logTime is how lines of the combined log begin.
	logTime = "2006-01-02T15:04:05.000Z"
)

// logFiles are the logs of one service: what it wrote to each stream as it is,
// and both as lines with time and stream. They outlive the service.
type logFiles struct {
	folder, name string
	// complain is told of what could not be written, once for each run.
	complain func(error)

	mu       sync.Mutex
	combined logFile
	streams  map[string]*logFile
	partial  map[string][]byte // begun lines
	// generation counts the combined files; the former has one less.
	generation int
	// grown is closed when there is more to read.
	grown    chan struct{}
	reported bool
	limit    int64
}

// logFile is one file that is appended to.
type logFile struct {
	path string
	file *os.File // nil while no process writes
	size int64
}

func newLogFiles(folder, name string, complain func(error)) *logFiles {
	l := &logFiles{
		folder: folder, name: name, complain: complain, limit: maxLogFile,
		combined: logFile{path: filepath.Join(folder, name+".log")},
		streams:  map[string]*logFile{}, partial: map[string][]byte{},
		grown: make(chan struct{}), generation: 1,
	}
	for _, stream := range []string{stdout, stderr} {
		l.streams[stream] = &logFile{path: filepath.Join(folder, name+"."+stream+".log")}
	}
	return l
}

// paths are what clients are told.
func (l *logFiles) paths() map[string]string {
	return map[string]string{"combined": l.combined.path, stdout: l.streams[stdout].path, stderr: l.streams[stderr].path}
}

// begin says that a process will write.
func (l *logFiles) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reported = false
}

// end writes lines that were begun, and closes the files.
func (l *logFiles) end() {
	l.flush()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.combined.close()
	for _, f := range l.streams {
		f.close()
	}
}

// write takes what a process wrote to a stream.
func (l *logFiles) write(stream string, data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.streams[stream].append(data, l.limit)
	data = append(l.partial[stream], data...)
	var lines []byte
	for {
		end := bytes.IndexByte(data, '\n')
		next := end + 1
		if end < 0 || end > maxLine {
			if len(data) <= maxLine {
				break
			}
			end, next = maxLine, maxLine
		}
		lines = appendLine(lines, stream, data[:end])
		data = data[next:]
	}
	l.partial[stream] = append(l.partial[stream][:0], data...)
	l.appendCombined(lines, err)
}

// flush writes the lines that were begun as if they had ended.
func (l *logFiles) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []byte
	for _, stream := range []string{stdout, stderr} {
		if begun := l.partial[stream]; len(begun) > 0 {
			lines = appendLine(lines, stream, begun)
			l.partial[stream] = begun[:0]
		}
	}
	l.appendCombined(lines, nil)
}

func appendLine(to []byte, stream string, text []byte) []byte {
	to = time.Now().UTC().AppendFormat(to, logTime)
	to = append(to, " ["+stream+"] "...)
	to = append(to, bytes.TrimSuffix(text, []byte("\r"))...)
	return append(to, '\n')
}

// appendCombined adds lines to the combined log and wakes who follows it; l.mu
// is held. failed is what went wrong before.
func (l *logFiles) appendCombined(lines []byte, failed error) {
	if len(lines) > 0 {
		rotated, err := l.combined.append(lines, l.limit)
		if rotated {
			l.generation++
		}
		failed = errors.Join(failed, err)
		close(l.grown)
		l.grown = make(chan struct{})
	}
	if failed != nil && !l.reported {
		l.reported = true
		l.complain(fmt.Errorf("write the log of service %s: %w", l.name, failed))
	}
}

// append writes to the file, which gives way to a new one when it is full.
func (f *logFile) append(data []byte, limit int64) (rotated bool, err error) {
	if len(data) == 0 {
		return false, nil
	}
	if f.file != nil && f.size+int64(len(data)) > limit {
		f.close()
	}
	if f.file == nil {
		if rotated, err = f.open(int64(len(data)), limit); err != nil {
			return rotated, err
		}
	}
	n, err := f.file.Write(data)
	f.size += int64(n)
	return rotated, err
}

// open opens the file, or a new one if so many bytes more are too many.
func (f *logFile) open(more, limit int64) (rotated bool, err error) {
	if info, err := os.Stat(f.path); err == nil && info.Size() > 0 && info.Size()+more > limit {
		if err := os.Rename(f.path, f.former()); err != nil {
			return false, err
		}
		rotated = true
	}
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
			return rotated, err
		}
		file, err = os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	}
	if err != nil {
		return rotated, err
	}
	info, err := file.Stat()
	if err != nil {
		return rotated, errors.Join(err, file.Close())
	}
	f.file, f.size = file, info.Size()
	return rotated, nil
}

func (f *logFile) former() string { return f.path + ".1" }

func (f *logFile) close() {
	if f.file != nil {
		f.file.Close() // nothing is buffered
		f.file = nil
	}
}
