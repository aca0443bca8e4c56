package service

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// outputBuffer is how much is read of a service's output at once, in bytes.
	outputBuffer = 16 << 10
	// drainTime is how long after a process's end its last output may come.
	drainTime = time.Second
)

// Host is what services need of the daemon that they are part of.
type Host interface {
	// StartService starts a program as the machine's user, under the rules for
	// all processes, in a process group of its own and with nothing to read. dir
	// may be relative to where work begins, or empty.
	StartService(args []string, env map[string]string, dir string) (*Process, error)
}

// Process is a program that was started.
type Process struct {
	Pid int
	// Stdout and Stderr are our ends of its output, which we close.
	Stdout, Stderr *os.File
	// Ended gets its status, once.
	Ended <-chan syscall.WaitStatus
}

// run is one process of a service, from its start until all that it wrote is in
// the log.
type run struct {
	of *supervisor
	// program is what was started; the definition may have changed since.
	program Definition
	pid     int
	started time.Time
	// ended is closed when the run is over and status is set.
	ended  chan struct{}
	status syscall.WaitStatus
	// listens is set once somebody was seen to listen on its HTTP port.
	listens atomic.Bool

	// leaving is set when it was told to end, over when the process has; the
	// supervisor's lock guards them.
	leaving, over bool
}

// launch starts the process of a service; v.mu is held.
func (v *supervisor) launch(s *service) error {
	p, err := v.host.StartService(append([]string{s.Cmd}, s.Args...), s.Env, s.Dir)
	if err != nil {
		return err
	}
	r := &run{of: v, program: s.Definition, pid: p.Pid, started: time.Now(), ended: make(chan struct{})}
	s.current = r
	s.logs.begin()
	go v.follow(s, r, p)
	return nil
}

// follow owns a run from its start to its end.
func (v *supervisor) follow(s *service, r *run, p *Process) {
	var pumps sync.WaitGroup
	pumps.Go(func() { pump(p.Stdout, stdout, s.logs) })
	pumps.Go(func() { pump(p.Stderr, stderr, s.logs) })
	r.status = <-p.Ended
	v.mu.Lock()
	r.over = true
	v.mu.Unlock()
	// What it started ends with it, so that restarts pile up nothing.
	syscall.Kill(-r.pid, syscall.SIGKILL)
	// What got away from that may hold the output.
	late := time.Now().Add(drainTime)
	p.Stdout.SetReadDeadline(late)
	p.Stderr.SetReadDeadline(late)
	pumps.Wait()
	p.Stdout.Close()
	p.Stderr.Close()
	s.logs.end()
	v.finish(s, r)
}

// pump brings output to the log until its end.
func pump(from *os.File, stream string, logs *logFiles) {
	buffer := make([]byte, outputBuffer)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			logs.write(stream, buffer[:n])
		}
		if err != nil {
			return
		}
	}
}

// finish makes the end of a run that of its service, or plans a restart.
func (v *supervisor) finish(s *service, r *run) {
	v.mu.Lock()
	defer v.mu.Unlock()
	defer close(r.ended)
	s.current = nil
	ran := time.Since(r.started)
	v.log("info", "service ended", "service", s.name, "pid", strconv.Itoa(r.pid), "status", describe(r.status))
	if s.gone {
		delete(v.services, s.name)
	}
	if !r.leaving {
		v.restartLater(s, fmt.Sprintf("it ended by itself after %s: %s", ran.Round(time.Millisecond), describe(r.status)), ran)
	}
}

// stop tells a run to end, and kills it when it has not after some time; the
// supervisor's lock is held.
func (r *run) stop(patience time.Duration) {
	r.leaving = true
	if r.over {
		return
	}
	if patience <= 0 {
		r.kill()
		return
	}
	send(r.pid, syscall.SIGTERM) // gone already is as good
	send(r.pid, syscall.SIGCONT) // one that was halted must hear it
	timer := time.AfterFunc(patience, func() {
		r.of.mu.Lock()
		defer r.of.mu.Unlock()
		r.kill()
	})
	go func() {
		<-r.ended
		timer.Stop()
	}()
}

// kill ends a run at once; the supervisor's lock is held.
func (r *run) kill() {
	if !r.over {
		send(r.pid, syscall.SIGKILL)
	}
}

// wait returns when the run is over.
func (r *run) wait(ctx context.Context) error {
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// code is how the process ended, as shells tell it.
func code(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "signal " + unix.SignalName(status.Signal())
	}
	return "exit code " + strconv.Itoa(status.ExitStatus())
}
