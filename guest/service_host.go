package guest

import (
	"github.com/atoll-cloud/atoll/guest/service"
	"github.com/atoll-cloud/atoll/wire"
)

// What a sprite can do for itself (package service), and what that needs of the
// daemon.

// mountServices makes what a sprite can do for itself, which does nothing in
// machines that are none, and adds the host's routes to it.
func (s *Server) mountServices() {
	s.services = service.New(service.Config{Host: s, Log: s.log.Write, Root: s.config.Root, Forget: s.connections.forget})
	for _, path := range []string{wire.SpritePath + "services", wire.SpritePath + "services/", wire.SpriteURLPortPath, wire.SpritePolicyPath} {
		s.Mount(path, s.services.HostHandler())
	}
	s.mounted.HandleFunc(wire.CallsPath, s.services.Calls)
}

// StartService starts a program as the default user, with nothing to read.
func (s *Server) StartService(args []string, env map[string]string, dir string) (*service.Process, error) {
	child, err := s.StartProgram(Program{Args: args, Env: env, Dir: dir})
	if err != nil {
		return nil, err
	}
	return &service.Process{Pid: child.Pid, Stdout: child.Stdout, Stderr: child.Stderr, Ended: child.Ended}, nil
}

// Touch says that the machine is in use though no request is open to it: a
// sprite then stays awake for another 30 seconds.
func (s *Server) Touch() { s.services.Touch() }
