package service

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// parseSignal reads a signal as "TERM", "SIGTERM", "term" or "15".
func parseSignal(text string) (syscall.Signal, error) {
	name := strings.ToUpper(strings.TrimSpace(text))
	if number, err := strconv.Atoi(name); err == nil {
		if number >= 1 && number <= 64 {
			return syscall.Signal(number), nil
		}
		return 0, bad("signal %q: want a number from 1 to 64", bounded(text))
	}
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, bad("signal %q is none: use names like TERM, HUP or USR1", bounded(text))
}

// send gives a signal to a service's process: those that mean the end or a
// halt to all that it started, the others, which programs give a meaning of
// their own, to itself only.
func send(pid int, sig syscall.Signal) error {
	switch sig {
	case syscall.SIGTERM, syscall.SIGKILL, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGCONT:
		pid = -pid
	}
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	return nil
}
