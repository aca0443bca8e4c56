//go:build !amd64

package vfork

import "syscall"

func start(p Program) (int, error) {
	return syscall.ForkExec(p.Path, p.Args, &syscall.ProcAttr{
		Dir: p.Dir, Env: p.Env, Files: p.Files,
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: p.Terminal, Credential: p.User},
	})
}
