package guest

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"

	fspb "github.com/atoll-cloud/atoll/wire/filesystem"
	processpb "github.com/atoll-cloud/atoll/wire/process"
)

// What the packages of sprites (sprite and service) need of the daemon.

// Program is what to start as the default user.
type Program struct {
	// Args are the name and the arguments as the program sees them.
	Args []string
	// Path is what is run, looked for in PATH; empty is Args[0].
	Path string
	// Env goes over the variables of a login and those that init gave.
	Env map[string]string
	// Dir is where it begins; empty is the default working directory.
	Dir string
	// Stdin opens a pipe to it; without, its input is /dev/null.
	Stdin bool
	// Terminal, if set, gives it a terminal of that size for all three streams.
	Terminal *Window
}

// Window is the size of a terminal; 0 means the customary 24 by 80.
type Window struct{ Rows, Cols uint16 }

// Child is a process that was started, with our ends of its streams. Whoever
// started it closes them. They take deadlines.
type Child struct {
	Pid int
	// Path is the program that was found, Dir where it began.
	Path, Dir string
	Stdin     *os.File // nil unless asked for
	Stdout    *os.File // nil with a terminal
	Stderr    *os.File // nil with a terminal
	Terminal  *os.File // nil without
	// Ended has the status once, when the process has ended.
	Ended <-chan syscall.WaitStatus
}

// StartProgram starts a process, in a session and process group of its own, as
// clients' processes are started.
func (s *Server) StartProgram(p Program) (*Child, error) {
	user, err := s.userOrDefault("")
	if err != nil {
		return nil, err
	}
	if p.Path == "" && len(p.Args) > 0 {
		p.Path = p.Args[0]
	}
	request := &processpb.StartRequest{Process: &processpb.ProcessConfig{Cmd: p.Path, Envs: p.Env}, Stdin: &p.Stdin}
	if len(p.Args) > 1 {
		request.Process.Args = p.Args[1:]
	}
	if p.Dir != "" {
		request.Process.Cwd = &p.Dir
	}
	if p.Terminal != nil {
		request.Pty = &processpb.PTY{Size: p.Terminal.size()}
	}
	l, err := s.prepare(request, user)
	if err != nil {
		return nil, err
	}
	if len(p.Args) > 0 && !strings.ContainsRune(p.Args[0], 0) {
		l.program.Args[0] = p.Args[0]
	}
	if err := l.connect(request, user); err != nil {
		l.abandon()
		return nil, err
	}
	pid, ended, err := s.spawner.start(l.program)
	closeAll(l.theirs)
	l.theirs = nil
	if err != nil {
		l.abandon()
		return nil, startError(l.program.Path, err)
	}
	s.log.Write("info", "process started", "pid", strconv.Itoa(pid), "user", user.name, "command", strings.Join(l.program.Args, " "))
	child := &Child{Pid: pid, Path: l.program.Path, Dir: l.program.Dir, Stdin: l.stdin, Terminal: l.tty, Ended: ended}
	for _, o := range l.outputs {
		switch o.stream {
		case streamStdout:
			child.Stdout = o.file
		case streamStderr:
			child.Stderr = o.file
		}
	}
	return child, nil
}

// StartFailure returns the exit code that a shell would report for an error of
// StartProgram, and whether the client's wishes were the cause.
func StartFailure(err error) (code int, asked bool) {
	switch {
	case errors.Is(err, errNoProgram), errors.Is(err, errBadStart) && errors.Is(err, fs.ErrNotExist):
		return 127, true
	case errors.Is(err, errBadStart), errors.Is(err, errBadPath):
		return 126, true
	}
	return 1, false
}

func (w Window) size() *processpb.PTY_Size {
	return &processpb.PTY_Size{Rows: uint32(w.Rows), Cols: uint32(w.Cols)}
}

// Resize sets the size of a child's terminal.
func (w Window) Resize(terminal *os.File) error { return setTerminalSize(terminal, w.size()) }

// ForgetConnection is to be called when a connection that a handler took over
// from the daemon's server has ended.
func (s *Server) ForgetConnection(r *http.Request) {
	if conn := requestConnection(r); conn != nil {
		s.connections.forget(conn)
	}
}

// ResolvePath makes a client's path absolute: relative ones begin at base, and
// that, like "~", at the default user's home. The error is of the path.
func (s *Server) ResolvePath(path, base string) (string, error) {
	user, err := s.userOrDefault("")
	if err != nil {
		return "", err
	}
	if base, err = resolvePath(base, "", user); err != nil {
		return "", err
	}
	return resolvePath(path, base, user)
}

// MakeDirs creates a directory and its missing parents. Those that it creates
// belong to the default user, or to root.
func (s *Server) MakeDirs(path string, root bool) error {
	user := &account{}
	if !root {
		var err error
		if user, err = s.userOrDefault(""); err != nil {
			return err
		}
	}
	return makeDirs(path, user)
}

// UserID and GroupID return the number of a user or group by its name; false
// when the machine has none of that name.
func (s *Server) UserID(name string) (int, bool) {
	user, err := s.users.find(name)
	if err != nil {
		return 0, false
	}
	return int(user.uid), true
}

// GroupID is described at UserID.
func (s *Server) GroupID(name string) (int, bool) {
	s.users.mu.Lock()
	defer s.users.mu.Unlock()
	s.users.refresh()
	for id, group := range s.users.groupIDs {
		if group == name {
			return int(id), true
		}
	}
	return 0, false
}

// Watch follows what happens in a directory.
type Watch struct{ watch *watch }

// Change is something that happened to a name below a watched directory, "."
// for the directory itself.
type Change struct {
	Name string
	Kind fspb.EventType
}

// ErrChangesLost is reported by Next when more happened than could be kept; the
// watch goes on.
var ErrChangesLost = errEventsLost

// Watch begins to follow a directory, and all below it when recursive.
func (s *Server) Watch(path string, recursive bool) (*Watch, error) {
	w, err := newWatch(path, recursive, true)
	if err != nil {
		return nil, err
	}
	return &Watch{w}, nil
}

// Next waits for changes; after an error other than ErrChangesLost there are no
// more.
func (w *Watch) Next() ([]Change, error) {
	events, err := w.watch.next()
	changes := make([]Change, len(events))
	for i, e := range events {
		changes[i] = Change{e.name, e.kind}
	}
	return changes, err
}

// Close ends the watch and wakes Next.
func (w *Watch) Close() { w.watch.Close() }
