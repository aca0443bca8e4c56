package sprite

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/guest"
)

const (
	// readBuffer is how much is read from a process at once, in bytes.
	readBuffer = 64 << 10
	// lastWords is how long a process's output is waited for when it has ended
	// but others that it started hold its pipe, and maxLastWords how much of what
	// is in the pipe then is still its own, in bytes.
	lastWords    = 100 * time.Millisecond
	maxLastWords = 1 << 20
	// killDelay is how long a process has to end after it was asked to because
	// nobody came back to it.
	killDelay = 5 * time.Second
	// recently is how long without output a session counts as active.
	recently = 5 * time.Second
	// remembered is how many sessions that have ended are told from those that
	// never were.
	remembered = 1024
)

// session is a command that runs, with its output and whoever watches it.
type session struct {
	id      string
	command string
	created time.Time
	// keep is how long it may run without clients; 0 is for ever.
	keep  time.Duration
	tty   bool
	child *guest.Child
	out   *output
	in    *input

	mu      sync.Mutex
	clients int
	leaving chan struct{} // closed when the time without clients counts no more
	size    guest.Window
	rate    rate

	// exited is closed when the process has ended and code is set; ended when
	// all its output is published, too.
	exited chan struct{}
	ended  chan struct{}
	code   int
}

// errClosed is reported while the daemon ends.
var errClosed = errors.New("the machine is stopping")

// start starts a command's session. Its first client has joined already.
func (s *Server) start(r *request) (*session, *reader, error) {
	child, err := s.guest.StartProgram(r.program())
	if err != nil {
		return nil, nil, err
	}
	n := &session{
		id: strconv.Itoa(child.Pid), created: time.Now(), keep: r.keep, tty: r.tty, child: child,
		command: strings.Join(append([]string{child.Path}, r.args[min(1, len(r.args)):]...), " "),
		out:     newOutput(), clients: 1, size: r.size,
		exited: make(chan struct{}), ended: make(chan struct{}),
	}
	target := child.Stdin
	if r.tty {
		target = child.Terminal
	}
	n.in = newInput(target, r.tty)
	place := n.out.join()
	s.sessions.add(n)
	if !s.task(func() { s.follow(n) }) {
		n.stop(syscall.SIGKILL)
		return nil, nil, errClosed
	}
	return n, place, nil
}

// follow owns a session from its start to its end.
func (s *Server) follow(n *session) {
	files := []*os.File{n.child.Stdout, n.child.Stderr}
	if n.tty {
		files = []*os.File{n.child.Terminal}
	}
	held := make([]bool, len(files))
	var pumps sync.WaitGroup
	for i, file := range files {
		pumps.Go(func() { held[i] = s.pump(n, file, byte(streamStdout+i)) })
	}
	status := <-n.child.Ended
	n.code = exitCode(status)
	close(n.exited)
	for _, file := range files {
		file.SetReadDeadline(time.Now().Add(lastWords)) // pipes and terminals take one
	}
	pumps.Wait()
	s.sessions.remove(n)
	n.forgetLeaving()
	n.out.close()
	close(n.ended)
	n.in.end()
	for i, file := range files {
		if held[i] {
			go abandon(file)
		} else {
			file.Close()
		}
	}
	s.config.Log("info", "process ended", "pid", n.id, "code", strconv.Itoa(n.code))
}

// pump publishes what a process writes until its end, or that of all that hold
// its pipe if that is sooner; held reports that some still do.
func (s *Server) pump(n *session, from *os.File, stream byte) (held bool) {
	buffer := readBuffers.Get().(*[readBuffer]byte)
	defer readBuffers.Put(buffer)
	for {
		count, err := from.Read(buffer[:])
		if count > 0 {
			s.publish(n, stream, buffer[:count])
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.drain(n, from, stream, buffer[:])
			return true
		}
		if err != nil {
			return false // io.EOF from pipes, EIO from terminals
		}
	}
}

var readBuffers = sync.Pool{New: func() any { return new([readBuffer]byte) }}

func (s *Server) publish(n *session, stream byte, data []byte) {
	frame := make([]byte, 1+len(data))
	frame[0] = stream
	copy(frame[1:], data)
	n.mu.Lock()
	n.rate.add(time.Now(), len(data))
	alone := n.clients == 0
	n.mu.Unlock()
	if alone {
		s.touch()
	}
	n.out.publish(frame)
}

// drain publishes what is in a pipe that others hold open; it does not wait.
func (s *Server) drain(n *session, from *os.File, stream byte, buffer []byte) {
	from.SetReadDeadline(time.Time{})
	conn, err := from.SyscallConn()
	if err != nil {
		return
	}
	for total := 0; total < maxLastWords; {
		count := 0
		err := conn.Read(func(fd uintptr) bool {
			count, err = unix.Read(int(fd), buffer)
			return true
		})
		if err != nil || count <= 0 {
			return
		}
		s.publish(n, stream, buffer[:count])
		total += count
	}
}

// abandon goes on reading what processes write that a session left behind, so
// that they neither block nor fail. It ends with the last of them.
func abandon(file *os.File) {
	io.Copy(io.Discard, file)
	file.Close()
}

// exitCode is the code that a shell would report.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus() & 0xff
}

// enter adds a client; alone says that there is no other.
func (n *session) enter() (alone bool) {
	n.forgetLeaving()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clients++
	return n.clients == 1
}

// leave takes a client away; the last one's leaving begins the time that the
// session may go on by itself.
func (s *Server) leave(n *session, r *reader) {
	r.leave()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clients--
	select {
	case <-n.exited:
		return
	default:
	}
	if n.clients == 0 && n.keep > 0 {
		back := make(chan struct{})
		n.leaving = back
		s.task(func() { s.expire(n, back) })
	}
}

func (n *session) forgetLeaving() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.leaving != nil {
		close(n.leaving)
		n.leaving = nil
	}
}

// expire ends a session to which nobody comes back in time.
func (s *Server) expire(n *session, back <-chan struct{}) {
	timer := time.NewTimer(n.keep)
	defer timer.Stop()
	select {
	case <-back:
		return
	case <-s.life.Done():
		return
	case <-timer.C:
	}
	s.config.Log("info", "process ends as nobody came back to it", "pid", n.id)
	n.stop(syscall.SIGTERM)
	timer.Reset(killDelay)
	select {
	case <-n.exited:
	case <-s.life.Done():
	case <-timer.C:
		n.stop(syscall.SIGKILL)
	}
}

// resize sets the size of the session's terminal; sessions without one ignore
// it.
func (n *session) resize(size guest.Window) error {
	if !n.tty {
		return nil
	}
	n.mu.Lock()
	n.size = size
	n.mu.Unlock()
	return size.Resize(n.child.Terminal)
}

// errGone is reported for sessions whose process has ended.
var errGone = errors.New("the session has ended")

// signal sends a signal to what runs in the session. What a terminal's keys
// would send goes to its foreground as from the keys; all else to the command's
// process group.
func (n *session) signal(signal syscall.Signal) error {
	group := n.child.Pid
	switch signal {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGWINCH:
		if foreground := n.foreground(); foreground > 0 {
			group = foreground
		}
	}
	select {
	case <-n.exited:
		return errGone
	default:
	}
	if err := syscall.Kill(-group, signal); err != nil {
		if errors.Is(err, syscall.ESRCH) {
			return errGone
		}
		return fmt.Errorf("signal session %s: %w", n.id, err)
	}
	return nil
}

// stop sends a signal that is to end the session. Interactive shells pass SIGTERM
// over, so a terminal hangs up as well.
func (n *session) stop(signal syscall.Signal) {
	foreground := n.foreground()
	if n.signal(signal) != nil || !n.tty { // gone already is as good
		return
	}
	if foreground > 0 && foreground != n.child.Pid {
		syscall.Kill(-foreground, signal)
	}
	if signal == syscall.SIGTERM {
		n.signal(syscall.SIGHUP)
	}
}

// foreground returns the process group in the foreground of the session's
// terminal, 0 if there is none.
func (n *session) foreground() int {
	if !n.tty {
		return 0
	}
	conn, err := n.child.Terminal.SyscallConn()
	if err != nil {
		return 0
	}
	group := 0
	conn.Control(func(fd uintptr) { // a closed terminal has none
		if found, err := unix.IoctlGetInt(int(fd), unix.TIOCGPGRP); err == nil {
			group = found
		}
	})
	return group
}

// rate estimates the bytes per second of the last moments.
type rate struct {
	last time.Time
	per  float64
}

// halfLife is how fast a rate forgets, in seconds.
const halfLife = 2.0

func (r *rate) add(now time.Time, bytes int) {
	r.per = r.at(now) + float64(bytes)/halfLife
	r.last = now
}

func (r *rate) at(now time.Time) float64 {
	age := now.Sub(r.last).Seconds() / halfLife
	if r.last.IsZero() || age > 32 {
		return 0
	}
	per := r.per
	for ; age >= 1; age-- {
		per /= 2
	}
	return per * (1 - age/2)
}

// sessionTable holds the sessions that have not ended, and the ids of some that
// have.
type sessionTable struct {
	mu       sync.Mutex
	sessions map[string]*session
	gone     []string
}

func newSessionTable() *sessionTable { return &sessionTable{sessions: map[string]*session{}} }

func (t *sessionTable) add(n *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sessions[n.id] = n
}

func (t *sessionTable) remove(n *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sessions[n.id] == n {
		delete(t.sessions, n.id)
	}
	if len(t.gone) >= remembered {
		t.gone = slices.Delete(t.gone, 0, remembered/2)
	}
	t.gone = append(t.gone, n.id)
}

// all returns the sessions in the order of their beginning.
func (t *sessionTable) all() []*session {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*session, 0, len(t.sessions))
	for _, n := range t.sessions {
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b *session) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.child.Pid, b.child.Pid))
	})
	return list
}

// errNoSession is reported for ids that no session has or had.
var errNoSession = errors.New("session not found")

// find returns a session. The error is errGone for one that has ended.
func (t *sessionTable) find(id string) (*session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n, ok := t.sessions[id]; ok {
		return n, nil
	}
	if slices.Contains(t.gone, id) {
		return nil, errGone
	}
	return nil, fmt.Errorf("%w: %s", errNoSession, shortened(id))
}

// shortened bounds a client's text in a message.
func shortened(text string) string {
	if len(text) <= 100 {
		return text
	}
	return strings.ToValidUTF8(text[:100], "") + "…"
}
