package guest

import (
	"net"
	"net/http"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/guest/vfork"
)

// What the code interpreter (package kernel) needs of the daemon.

// StartKernel starts a program as the default user, as startProcess does for
// clients, with output for its standard output and error. The status comes
// once, when the process has ended.
func (s *Server) StartKernel(args []string, env map[string]string, dir string, output *os.File) (pid int, ended <-chan syscall.WaitStatus, err error) {
	user, err := s.userOrDefault("")
	if err != nil {
		return 0, nil, err
	}
	vars, path, err := environment(user, nil, env)
	if err != nil {
		return 0, nil, err
	}
	program, err := lookPath(args[0], path)
	if err != nil {
		return 0, nil, err
	}
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, nil, err
	}
	defer unix.Close(null)
	pid, status, err := s.spawner.start(vfork.Program{
		Path: program, Args: args, Env: vars, Dir: dir, User: credential(user),
		Files: []uintptr{uintptr(null), output.Fd(), output.Fd()},
	})
	if err != nil {
		return 0, nil, startError(program, err)
	}
	return pid, status, nil
}

// KernelOwner returns the numbers of the default user.
func (s *Server) KernelOwner() (uid, gid int, err error) {
	user, err := s.userOrDefault("")
	if err != nil {
		return 0, 0, err
	}
	return int(user.uid), int(user.gid), nil
}

// KernelFolder returns the folder where work begins that names none.
func (s *Server) KernelFolder() (string, error) {
	user, err := s.userOrDefault("")
	if err != nil {
		return "", err
	}
	return workdir("", s.settings.get().workdir, user), nil
}

// Environment returns the variables that init gave; the map never changes.
func (s *Server) Environment() map[string]string { return s.settings.get().envs }

// TrackConnection makes the connections of another server of this daemon end
// with those of this one, when the machine goes on elsewhere.
func (s *Server) TrackConnection(conn net.Conn, state http.ConnState) {
	s.connections.track(conn, state)
}
