package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// stopTimeout is how long killed processes may take to be gone.
const stopTimeout = 10 * time.Second

// Destroy kills a guest and removes all that belongs to it but its root and its
// log. Destroying one that is gone, or never was, does nothing.
func (r *Runtime) Destroy(_ context.Context, id string) error {
	if !validID.MatchString(id) {
		return fmt.Errorf("destroy sandbox %q: not a valid name", id)
	}
	r.mu.Lock()
	g := r.machines[id]
	if g == nil {
		g = newGuest(id)
	}
	if g.pidfd != nil {
		// Before waiting for what is under way, which this makes fail.
		_ = signalProcess(g.pidfd, unix.SIGKILL)
	}
	r.mu.Unlock()
	g.op.Lock()
	defer g.op.Unlock()
	if err := r.clear(g); err != nil {
		return fmt.Errorf("destroy sandbox %s: %w", id, err)
	}
	r.mu.Lock()
	if r.machines[id] == g {
		delete(r.machines, id)
	}
	r.mu.Unlock()
	g.ended()
	return nil
}

// clear kills what runs of a guest and removes what there is of it. It can be
// repeated until it succeeds.
func (r *Runtime) clear(g *guest) error {
	if g.pidfd != nil {
		// The sentry first: its gofer then ends by itself, having given back
		// what the two share, which is faster than killing both.
		if err := signalProcess(g.pidfd, unix.SIGKILL); err == nil {
			waitProcess(g.pidfd, stopTimeout)
		}
	}
	if err := r.cgroups.killAll(g.id, stopTimeout); err != nil {
		return err
	}
	if err := r.cgroups.remove(g.id); err != nil {
		return err
	}
	var errs []error
	state := filepath.Join(r.gvisorDir(), g.id+"_sandbox:"+g.id)
	for _, path := range []string{r.socket(g.id), state + ".state", state + ".lock"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	// Last: while it is there, a later daemon knows that there is something to clear.
	errs = append(errs, os.RemoveAll(r.stateDir(g.id)))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove state: %w", err)
	}
	r.setProcess(g, nil)
	return nil
}

func signalProcess(pidfd *os.File, sig unix.Signal) error {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return err
	}
	return sent
}

// waitProcess waits until the process has ended or the time is over.
func waitProcess(pidfd *os.File, timeout time.Duration) {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for deadline := time.Now().Add(timeout); time.Now().Before(deadline); {
			if n, err := unix.Poll(p, int(time.Until(deadline).Milliseconds())+1); err != unix.EINTR || n > 0 {
				return
			}
		}
	})
}
