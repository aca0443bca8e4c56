package network

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

const nsfsMagic = 0x6e736673

// onForeignThread runs f on a thread that enter has moved into another network
// namespace, and brings the thread back. A thread that cannot come back ends
// with its goroutine, so that none stays abroad to be reused by others.
func onForeignThread(home int, enter, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The process's first thread stands for it in /proc/self/net, so
			// it stays at home; while it is held here another one is taken.
			done <- onForeignThread(home, enter, f)
			runtime.UnlockOSThread()
			return
		}
		if err := enter(); err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		err := f()
		if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
			done <- errors.Join(err, fmt.Errorf("returning a thread to the host's network namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

// inNamespace runs f inside a network namespace given by descriptor.
func inNamespace(home, target int, f func() error) error {
	return onForeignThread(home, func() error {
		if err := unix.Setns(target, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering a network namespace: %w", err)
		}
		return nil
	}, f)
}

// openNamespace opens the namespace mounted at path, or makes an empty one there.
func openNamespace(home int, path string) (*os.File, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err == nil && fs.Type == nsfsMagic {
		return os.Open(path)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making a mount point for a network namespace: %w", err)
	}
	file.Close()
	err = onForeignThread(home, func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() error {
		for _, setting := range []string{"ipv6/conf/all/disable_ipv6=1", "ipv6/conf/default/disable_ipv6=1", "ipv4/ip_forward=0"} {
			if err := writeSysctl(setting); err != nil {
				return err
			}
		}
		own := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		return unix.Mount(own, path, "", unix.MS_BIND, "")
	})
	if err != nil {
		os.Remove(path)
		return nil, fmt.Errorf("making network namespace %s: %w", path, err)
	}
	return os.Open(path)
}

// removeNamespace takes the mount away; the namespace ends with its last user.
func removeNamespace(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return fmt.Errorf("unmounting network namespace %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("removing the mount point of a network namespace: %w", err)
	}
	return nil
}
