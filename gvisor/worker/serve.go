package worker

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/log"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// socketFD is where the daemon leaves its end of the socket.
const socketFD = 3

// server answers the daemon's requests.
type server struct {
	conn     *protocol.Conn
	children *children
	creating sync.Mutex // gVisor leaks open files between concurrent creates
}

// serve answers requests until the daemon hangs up, and then ends once those
// under way are done. While it lives it holds a shared lock on lockPath, so
// that the next daemon can wait for that.
func serve(binDir, lockPath string) error {
	if v := stampedVersion(); v == "" {
		return errors.New("built without a version stamp; use gvisor/build.sh")
	}
	lock, err := os.OpenFile(lockPath, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("open lock: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_SH); err != nil {
		return fmt.Errorf("take lock: %w", err)
	}
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})
	setLimits()
	useBinaries(binDir)
	unix.CloseOnExec(socketFD)
	conn, err := protocol.NewConn(os.NewFile(socketFD, "daemon"))
	if err != nil {
		return err
	}
	s := &server{conn: conn, children: newChildren()}
	var underway sync.WaitGroup
	defer underway.Wait()
	for {
		var req protocol.Request
		files, err := conn.Receive(&req)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		underway.Go(func() { s.answer(&req, files) })
	}
}

// setLimits sets what sandboxes inherit: as many open files as a guest may
// want, each of which is one of the host's, no core dumps of guests' memory,
// and that the kernel prefers guests to the host's own services when the whole
// host runs out of memory. gVisor reads the last of a starting sandbox, so the
// sandbox must have it from its first instant.
func setLimits() {
	const files = 1 << 20
	// Where the host allows less, guests have to do with less.
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: files, Max: files})
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0)
}

func (s *server) answer(req *protocol.Request, files []*os.File) {
	resp, err := s.guarded(req, files)
	for _, f := range files {
		f.Close()
	}
	resp.Seq = req.Seq
	if err != nil {
		resp.Error, resp.Damaged = err.Error(), errors.Is(err, protocol.ErrDamaged)
	}
	// If the daemon is gone nobody waits for the answer; it adopts what is there.
	_ = s.conn.Send(&resp)
}

// guarded turns panics of gVisor's library into errors.
func (s *server) guarded(req *protocol.Request, files []*os.File) (resp protocol.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s %s: panic: %v\n%s", req.Op, req.ID, p, debug.Stack())
		}
	}()
	switch req.Op {
	case protocol.OpCreate:
		s.creating.Lock()
		defer s.creating.Unlock()
		return s.create(req, files)
	case protocol.OpPause:
		return resp, pause(req)
	case protocol.OpResume:
		return resp, resume(req)
	case protocol.OpCheckpoint:
		resp.Image, err = checkpoint(req)
		return resp, err
	case protocol.OpPing:
		return resp, ping(req)
	case protocol.OpVersion:
		resp.Version = stampedVersion()
		return resp, nil
	}
	return resp, fmt.Errorf("unknown operation %q", req.Op)
}
