package guest

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/guest/vfork"
)

// Spawner starts processes and is the only one in the daemon that waits for
// children, so that orphans (which a first process inherits) and our own are
// told apart. Make it with NewSpawner; Close ends its goroutines.
type Spawner struct {
	// starting is held for reading from before a fork until the child is in
	// waiting, and for writing while children are reaped or threads traced.
	starting sync.RWMutex
	mu       sync.Mutex
	waiting  map[int]chan<- syscall.WaitStatus

	signals chan os.Signal
	forks   chan forkRequest
	done    chan struct{}
}

type forkRequest struct {
	program vfork.Program
	result  chan<- forkResult
}

type forkResult struct {
	pid    int
	status <-chan syscall.WaitStatus
	err    error
}

// NewSpawner returns a spawner. When tasksFile is not empty, the thread that
// forks enters the control group whose "tasks" file it is, and so every child
// begins there while the daemon itself stays out.
func NewSpawner(tasksFile string) (*Spawner, error) {
	s := &Spawner{
		waiting: map[int]chan<- syscall.WaitStatus{},
		signals: make(chan os.Signal, 1),
		forks:   make(chan forkRequest),
		done:    make(chan struct{}),
	}
	signal.Notify(s.signals, syscall.SIGCHLD)
	go s.reap()
	ready := make(chan error)
	go s.fork(tasksFile, ready)
	if err := <-ready; err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close ends the spawner's goroutines; processes go on.
func (s *Spawner) Close() {
	signal.Stop(s.signals)
	close(s.done)
}

// start runs a program. The status comes once, when the process has ended.
func (s *Spawner) start(p vfork.Program) (pid int, status <-chan syscall.WaitStatus, err error) {
	result := make(chan forkResult, 1)
	select {
	case s.forks <- forkRequest{p, result}:
	case <-s.done:
		return 0, nil, errors.New("the daemon is ending")
	}
	r := <-result
	return r.pid, r.status, r.err
}

// fork serves start requests on one thread of its own.
func (s *Spawner) fork(tasksFile string, ready chan<- error) {
	if tasksFile != "" {
		// Not unlocked: the thread is in a control group of its own and must
		// end with this goroutine.
		runtime.LockOSThread()
		if err := os.WriteFile(tasksFile, fmt.Appendln(nil, unix.Gettid()), 0); err != nil {
			ready <- fmt.Errorf("enter the control group of processes: %w", err)
			return
		}
	}
	ready <- nil
	for {
		select {
		case r := <-s.forks:
			r.result <- s.forkOne(r)
		case <-s.done:
			return
		}
	}
}

func (s *Spawner) forkOne(r forkRequest) forkResult {
	s.starting.RLock()
	defer s.starting.RUnlock()
	pid, err := vfork.Start(r.program)
	if err != nil {
		return forkResult{err: err}
	}
	status := make(chan syscall.WaitStatus, 1)
	s.mu.Lock()
	s.waiting[pid] = status
	s.mu.Unlock()
	return forkResult{pid: pid, status: status}
}

// reap collects every child that ends, until Close.
func (s *Spawner) reap() {
	for {
		select {
		case <-s.signals:
			s.reapAll()
		case <-s.done:
			return
		}
	}
}

func (s *Spawner) reapAll() {
	s.starting.Lock()
	defer s.starting.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		s.deliver(pid, status)
	}
}

// deliver tells whoever waits for a child how it ended.
func (s *Spawner) deliver(pid int, status syscall.WaitStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if waiter, ok := s.waiting[pid]; ok {
		delete(s.waiting, pid)
		waiter <- status
	}
}

// alone runs f while nobody else starts or waits for children, so that f may
// wait for threads that it traces. It hands ends of children to deliver.
func (s *Spawner) alone(f func()) {
	s.starting.Lock()
	defer s.starting.Unlock()
	f()
}
