// Package vfork starts programs in few system calls. It exists because each
// one takes a guest's kernel as long as it takes a host's to switch between two
// processes, and the standard library makes 56 more than it has to: in the
// child it resets the handler of every signal that the runtime handles, which
// the kernel can do while it makes the child (CLONE_CLEAR_SIGHAND).
package vfork

import "syscall"

// Program is a program to start, in a session of its own.
type Program struct {
	Path string
	Args []string // with the program's name first
	Env  []string
	Dir  string // empty: this process's
	// Files are its descriptors 0, 1, 2 and so on.
	Files []uintptr
	// Terminal makes the first of Files its controlling terminal.
	Terminal bool
	// User is who it runs as; nil: who this process runs as.
	User *syscall.Credential
}

// Start starts a program and returns its process id. The error is that of the
// call that failed, as a syscall.Errno. This process's other threads run
// meanwhile, but the goroutine's processor waits until the program is loaded.
func Start(p Program) (pid int, err error) { return start(p) }
