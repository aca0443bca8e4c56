package guest

import "net"

// TakeAllForOutside makes the daemon take connections over the loopback for those
// of the host, as tests need that have no other.
func (s *Server) TakeAllForOutside() { s.connections.inside = func(net.Conn) bool { return false } }

// OpenConnections returns how many connections the daemon keeps.
func (s *Server) OpenConnections() int {
	s.connections.mu.Lock()
	defer s.connections.mu.Unlock()
	return len(s.connections.open)
}

// SharedSpawner returns the one that waits for the children of all tests.
func SharedSpawner() *Spawner { return testSpawner }
