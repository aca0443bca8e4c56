package gvisor

import (
	"golang.org/x/sys/unix"
)

// closedChan is what Exited gives for guests that are not there.
var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Exited returns a channel that is closed when the guest's sandbox is gone, by
// itself or otherwise. For an unknown guest it is closed already.
func (r *Runtime) Exited(id string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.machines[id]; g != nil {
		return g.exited
	}
	return closedChan
}

// watch closes g.exited when its process has ended. The goroutine ends then, or
// when the handle is closed.
func (r *Runtime) watch(g *guest) {
	raw, err := g.pidfd.SyscallConn()
	if err != nil {
		g.ended()
		return
	}
	go func() {
		ended := false
		// A process handle becomes readable when the process ends.
		_ = raw.Read(func(fd uintptr) bool {
			ended = processEnded(int(fd))
			return ended
		})
		if ended {
			g.ended()
		}
	}()
}

func processEnded(pidfd int) bool {
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 0)
		if err != unix.EINTR {
			return err != nil || n > 0
		}
	}
}
