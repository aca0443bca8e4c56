// Package service is what a sprite can do for itself: it keeps the services
// that its users define running, holds the machine awake while a task says so,
// and passes on to the host what only the host can do (checkpoints, policy,
// organisations). The host reaches the services below wire.SpritePath, programs
// in the machine reach all of it on the socket /.sprite/api.sock.
//
// A service is a definition on the disk, a process as long as it runs, and log
// files. Definitions decide: the services start from the disk whenever the
// machine boots, in the order of their needs. A machine that wakes with its
// memory goes on with the processes that it had. A service that ends on its own
// is started again after a pause that doubles from one second to a minute; one
// that a client stopped stays so, over boots too, until somebody starts it.
//
// What a service writes goes to its log files and from there to whoever
// follows it, so that a slow reader costs no memory and loses nothing.
//
// The host's calls come the other way round: the host opens a connection and
// the daemon is the client on it (calls.go), since nothing in a machine may
// reach the host by itself.
//
// Lock order: supervisor.changing, supervisor.mu, logFiles.mu.
package service
