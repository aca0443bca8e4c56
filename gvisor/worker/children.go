package worker

import (
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// children are the processes of sandboxes made here. They must be reaped, or a
// killed sandbox seems to run on; and only they, since gVisor's library waits
// for others itself.
type children struct {
	mu   sync.Mutex
	pids map[int]bool
}

func newChildren() *children {
	c := &children{pids: make(map[int]bool)}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	go func() { // ends with the process
		for range ended {
			c.reap()
		}
	}()
	return c
}

func (c *children) add(pids ...int) {
	c.mu.Lock()
	for _, pid := range pids {
		if pid > 0 {
			c.pids[pid] = true
		}
	}
	c.mu.Unlock()
	c.reap() // of those that ended before they were added
}

func (c *children) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for pid := range c.pids {
		got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		if got == pid || err == unix.ECHILD {
			delete(c.pids, pid)
		}
	}
}
