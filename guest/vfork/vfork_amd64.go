package vfork

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cloneArgs is what clone3(2) reads.
type cloneArgs struct {
	flags, pidFD, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// call is one system call of the child.
type call struct {
	number uintptr
	args   [3]uintptr
}

// script is what the child shall do. It has no stack to work anything out on.
type script struct {
	clone  cloneArgs
	calls  []call  // the last one is execve
	failed uintptr // the error of the call that failed, which was the last one made
	// kept holds what calls point to.
	kept []any
	err  error // of making the script
}

// run makes a child, which makes the calls. It returns the child's process id
// or, negative, the error of clone3. That s may escape, as far as the compiler
// knows, puts it and what it keeps where nothing is ever moved.
func run(s *script) (pid int)

func (s *script) add(number uintptr, args ...uintptr) {
	c := call{number: number}
	copy(c.args[:], args)
	s.calls = append(s.calls, c)
}

func (s *script) text(t string) uintptr {
	p, err := syscall.BytePtrFromString(t)
	if err != nil {
		s.err = err
	}
	s.kept = append(s.kept, p)
	return uintptr(unsafe.Pointer(p))
}

func (s *script) texts(all []string) uintptr {
	p, err := syscall.SlicePtrFromStrings(all)
	if err != nil {
		s.err = err
		return 0
	}
	s.kept = append(s.kept, p)
	return uintptr(unsafe.Pointer(&p[0]))
}

func start(p Program) (int, error) {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	s := &script{clone: cloneArgs{
		flags:      unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_CLEAR_SIGHAND,
		exitSignal: uint64(unix.SIGCHLD),
	}}
	s.add(unix.SYS_SETSID)
	if u := p.User; u != nil {
		groups := append(make([]uint32, 0, len(u.Groups)+1), u.Groups...)
		s.kept = append(s.kept, groups)
		s.add(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))))
		s.add(unix.SYS_SETGID, uintptr(u.Gid))
		s.add(unix.SYS_SETUID, uintptr(u.Uid))
	}
	if p.Dir != "" {
		s.add(unix.SYS_CHDIR, s.text(p.Dir))
	}
	files, done, err := above(p.Files)
	defer done()
	if err != nil {
		return 0, err
	}
	for i, fd := range files {
		s.add(unix.SYS_DUP3, fd, uintptr(i), 0)
	}
	if p.Terminal {
		s.add(unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 1)
	}
	s.add(unix.SYS_EXECVE, s.text(p.Path), s.texts(p.Args), s.texts(p.Env))
	if s.err != nil {
		return 0, s.err
	}
	pid := run(s)
	runtime.KeepAlive(s)
	switch {
	case pid < 0:
		return 0, syscall.Errno(-pid)
	case s.failed != 0:
		reap(pid)
		return 0, syscall.Errno(s.failed)
	}
	return pid, nil
}

// above returns the descriptors as ones that no descriptor of the child takes
// the place of, before it was copied itself.
func above(fds []uintptr) (safe []uintptr, done func(), err error) {
	var made []int
	done = func() {
		for _, fd := range made {
			unix.Close(fd)
		}
	}
	for _, fd := range fds {
		if fd < uintptr(len(fds)) {
			higher, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, len(fds))
			if err != nil {
				return nil, done, err
			}
			made = append(made, higher)
			fd = uintptr(higher)
		}
		safe = append(safe, fd)
	}
	return safe, done, nil
}

// reap collects a child that could not execute its program.
func reap(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}
