package gvisor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// errWorkerGone means that a worker ended before it answered.
var errWorkerGone = errors.New("worker process ended unexpectedly")

// workerError is a worker's answer that something could not be done.
type workerError struct{ protocol.Response }

func (e *workerError) Error() string { return e.Response.Error }

// Is makes the errors of this package known by what was answered.
func (e *workerError) Is(target error) bool { return target == ErrDamaged && e.Damaged }

// client is the daemon's side of one worker process.
type client struct {
	cmd  *exec.Cmd
	conn *protocol.Conn
	gone chan struct{} // closed when no answers come any more

	mu      sync.Mutex
	seq     uint64
	waiting map[uint64]chan protocol.Response // nil once gone
}

// startClient starts a worker. It gets nothing of the daemon's environment and
// no open file but its socket.
func startClient(cfg Config) (*client, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make worker socket: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "worker")
	defer theirs.Close()
	conn, err := protocol.NewConn(os.NewFile(uintptr(fds[0]), "worker"))
	if err != nil {
		return nil, err
	}
	binary := filepath.Join(cfg.BinDir, "atoll-sandbox")
	cmd := exec.Command(binary, "worker", cfg.BinDir, workersLock(cfg.Root))
	cmd.Dir = "/"
	cmd.Env = []string{"GVISOR_SIDECAR_BINARIES_DIR=" + cfg.BinDir, "ATOLL_SANDBOX=" + binary}
	cmd.ExtraFiles = []*os.File{theirs}
	// Signals from a terminal are for the daemon, which ends workers itself.
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("make worker pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("start worker: %w", err)
	}
	c := &client{cmd: cmd, conn: conn, gone: make(chan struct{}), waiting: make(map[uint64]chan protocol.Response)}
	go c.receive()
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			cfg.Logger.Warn("worker says", slog.String("line", lines.Text()))
		}
		_ = cmd.Wait() // how it ended does not matter; that it did is seen on the socket
	}()
	return c, nil
}

func (c *client) receive() {
	for {
		var resp protocol.Response
		if _, err := c.conn.Receive(&resp); err != nil {
			break
		}
		c.mu.Lock()
		answer := c.waiting[resp.Seq]
		delete(c.waiting, resp.Seq)
		c.mu.Unlock()
		if answer != nil {
			answer <- resp
		}
	}
	c.mu.Lock()
	c.waiting = nil
	c.mu.Unlock()
	close(c.gone)
}

// call asks one thing and waits for the answer. Where ctx ends first the
// worker still does it.
func (c *client) call(ctx context.Context, req *protocol.Request, files ...*os.File) (protocol.Response, error) {
	answer := make(chan protocol.Response, 1)
	c.mu.Lock()
	if c.waiting == nil {
		c.mu.Unlock()
		return protocol.Response{}, errWorkerGone
	}
	c.seq++
	req.Seq = c.seq
	c.waiting[req.Seq] = answer
	c.mu.Unlock()
	if err := c.conn.Send(req, files...); err != nil {
		c.forget(req.Seq)
		return protocol.Response{}, err
	}
	select {
	case resp := <-answer:
		if resp.Error != "" {
			return resp, &workerError{resp}
		}
		return resp, nil
	case <-c.gone:
		return protocol.Response{}, errWorkerGone
	case <-ctx.Done():
		c.forget(req.Seq)
		return protocol.Response{}, ctx.Err()
	}
}

func (c *client) forget(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, seq)
}

func (c *client) dead() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// close hangs up; the worker ends when it is done with what it does.
func (c *client) close() { c.conn.Close() }

// kill ends the worker at once.
func (c *client) kill() {
	_ = c.cmd.Process.Kill() // it may have ended already
	c.conn.Close()
}
