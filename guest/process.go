package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	processpb "github.com/atoll-cloud/atoll/wire/process"
)

// outputBuffer is how much is read from a process at once, in bytes.
const outputBuffer = 64 << 10

var outputBuffers = sync.Pool{New: func() any { return new([outputBuffer]byte) }}

// process is one running process that a client started.
type process struct {
	pid    uint32
	tag    *string
	config *processpb.ProcessConfig
	user   string
	out    *fanout

	// writing has room for the one writer that may use the input.
	writing chan struct{}
	mu      sync.Mutex
	stdin   *os.File // nil when closed or never open
	tty     *os.File // nil without a terminal or after the end

	// ended is closed when end is set and all output is published.
	ended chan struct{}
	end   *processpb.ProcessEvent_EndEvent
}

var (
	errNoStdin  = errors.New("the process has no open standard input")
	errNoTTY    = errors.New("the process has no terminal")
	errTTYStdin = errors.New("the standard input of a terminal cannot be closed: send Ctrl+D (byte 4) instead")
)

// pump publishes what comes from a pipe or terminal until its end.
func (p *process) pump(from *os.File, s stream, log *Log) {
	buffer := outputBuffers.Get().(*[outputBuffer]byte)
	defer outputBuffers.Put(buffer)
	for {
		n, err := from.Read(buffer[:])
		if n > 0 {
			data := append(make([]byte, 0, n), buffer[:n]...)
			log.output(s.String(), p.pid, data)
			p.out.publish(chunk{s, data})
		}
		if err != nil {
			// io.EOF from pipes, EIO from terminals.
			return
		}
	}
}

// finish publishes the end of the process.
func (p *process) finish(status syscall.WaitStatus) {
	p.mu.Lock()
	if p.stdin != nil {
		p.stdin.Close()
		p.stdin = nil
	}
	if p.tty != nil {
		p.tty.Close()
		p.tty = nil
	}
	p.mu.Unlock()
	p.end = endEvent(status)
	p.out.close()
	close(p.ended)
}

// endEvent describes how a process ended, in the words of Go's os.ProcessState.
func endEvent(status syscall.WaitStatus) *processpb.ProcessEvent_EndEvent {
	end := &processpb.ProcessEvent_EndEvent{ExitCode: -1, Exited: status.Exited()}
	switch {
	case status.Exited():
		end.ExitCode = int32(status.ExitStatus())
		end.Status = fmt.Sprintf("exit status %d", status.ExitStatus())
	case status.Signaled():
		end.Status = "signal: " + status.Signal().String()
		if status.CoreDump() {
			end.Status += " (core dumped)"
		}
	default:
		end.Status = fmt.Sprintf("wait status %#x", uint32(status))
	}
	if !status.Exited() || status.ExitStatus() != 0 {
		text := end.Status
		end.Error = &text
	}
	return end
}

// signal reaches the whole process group: clients start shells, and mean what
// the shell runs.
func (p *process) signal(sig syscall.Signal) error {
	if err := syscall.Kill(-int(p.pid), sig); err != nil {
		if errors.Is(err, syscall.ESRCH) {
			return errNoProcess
		}
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	}
	return nil
}

// write sends input to the process's pipe or terminal. It waits while the
// process does not read, as long as ctx allows.
func (p *process) write(ctx context.Context, data []byte, terminal bool) error {
	select {
	case p.writing <- struct{}{}:
		defer func() { <-p.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	file, missing := p.stdin, errNoStdin
	if terminal {
		file, missing = p.tty, errNoTTY
	}
	p.mu.Unlock()
	if file == nil {
		return missing
	}
	stop := context.AfterFunc(ctx, func() { file.SetWriteDeadline(time.Unix(1, 0)) })
	defer file.SetWriteDeadline(time.Time{})
	defer stop()
	if _, err := file.Write(data); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.EPIPE) {
			return fmt.Errorf("%w: the process closed it", missing)
		}
		return fmt.Errorf("write to process %d: %w", p.pid, err)
	}
	return nil
}

// closeStdin gives the process an end of file.
func (p *process) closeStdin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tty != nil {
		return errTTYStdin
	}
	if p.stdin == nil {
		return nil
	}
	err := p.stdin.Close()
	p.stdin = nil
	if err != nil && !errors.Is(err, io.ErrClosedPipe) {
		return fmt.Errorf("close standard input of process %d: %w", p.pid, err)
	}
	return nil
}

// resize sets the size of the process's terminal.
func (p *process) resize(size *processpb.PTY_Size) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tty == nil {
		return errNoTTY
	}
	return setTerminalSize(p.tty, size)
}
