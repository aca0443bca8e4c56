package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
)

func deletedFile() func() error { return deleted("/tmp/deleted") }

func deleted(path string) func() error {
	f, err := os.Create(path)
	must(err)
	_, err = f.WriteString("before")
	must(err)
	must(os.Remove(path))
	return func() error {
		_, wrote := f.WriteString("after")
		got := make([]byte, len("beforeafter"))
		_, err := f.ReadAt(got, 0)
		if string(got) != "beforeafter" {
			return errors.Join(fmt.Errorf("reads %q", got), wrote, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("it is back: %v", err)
		}
		return nil
	}
}

func deletedDirectory() func() error {
	must(os.Mkdir("/tmp/dir", 0o755))
	check := deleted("/tmp/dir/file")
	must(os.Remove("/tmp/dir"))
	return check
}

func deletedLog() func() error {
	f, err := os.OpenFile("/tmp/log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o200)
	must(err)
	_, err = f.WriteString("before")
	must(err)
	must(os.Remove("/tmp/log"))
	return func() error {
		_, err := f.WriteString("after")
		info, stat := f.Stat()
		if err := errors.Join(err, stat); err != nil {
			return err
		}
		if info.Size() != int64(len("beforeafter")) {
			return fmt.Errorf("has %d bytes", info.Size())
		}
		return nil
	}
}

func deletedWork() func() error {
	must(os.Mkdir("/tmp/work", 0o755))
	cmd := exec.Command("/agent", "cat")
	cmd.Dir = "/tmp/work"
	in, err := cmd.StdinPipe()
	must(err)
	must(cmd.Start())
	must(os.Remove("/tmp/work"))
	return func() error {
		in.Close()
		return cmd.Wait()
	}
}

func deletedName() func() error {
	f, err := os.Create("/tmp/name")
	must(err)
	must(os.Link("/tmp/name", "/tmp/other-name"))
	must(os.Remove("/tmp/name"))
	return func() error {
		_, wrote := f.WriteString("after")
		b, err := os.ReadFile("/tmp/other-name")
		if string(b) != "after" {
			return errors.Join(fmt.Errorf("reads %q", b), wrote, err)
		}
		return nil
	}
}

func deletedPipe() func() error {
	must(syscall.Mkfifo("/tmp/deleted-fifo", 0o644))
	f, err := os.OpenFile("/tmp/deleted-fifo", os.O_RDWR, 0)
	must(err)
	must(os.Remove("/tmp/deleted-fifo"))
	return func() error {
		_, err := f.WriteString("x")
		_, read := io.ReadFull(f, make([]byte, 1))
		return errors.Join(err, read)
	}
}

// replaced holds a file that another one has taken the name of, as editors do.
func replaced() func() error {
	must(os.WriteFile("/tmp/replaced", []byte("old"), 0o644))
	f, err := os.Open("/tmp/replaced")
	must(err)
	must(os.WriteFile("/tmp/replacing", []byte("new"), 0o644))
	must(os.Rename("/tmp/replacing", "/tmp/replaced"))
	return func() error {
		old, err := io.ReadAll(f)
		b, read := os.ReadFile("/tmp/replaced")
		if string(old) != "old" || string(b) != "new" {
			return errors.Join(fmt.Errorf("reads %q and %q", old, b), err, read)
		}
		return nil
	}
}

func moved() func() error {
	must(os.MkdirAll("/tmp/from/deep", 0o755))
	f, err := os.Create("/tmp/from/deep/file")
	must(err)
	must(os.Rename("/tmp/from", "/tmp/to"))
	return func() error {
		_, wrote := f.WriteString("after")
		b, err := os.ReadFile("/tmp/to/deep/file")
		if string(b) != "after" {
			return errors.Join(fmt.Errorf("reads %q", b), wrote, err)
		}
		return nil
	}
}

func unreadable() func() error {
	f, err := os.Create("/tmp/unreadable")
	must(err)
	must(os.Chmod("/tmp/unreadable", 0))
	return func() error {
		_, err := f.WriteString("after")
		return err
	}
}

func device(path string) func() error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(err)
	return func() error { _, err := f.Stat(); return err }
}

func mounts() func() error {
	must(os.MkdirAll("/mnt/tmpfs", 0o755))
	must(syscall.Mount("tmpfs", "/mnt/tmpfs", "tmpfs", 0, ""))
	for _, dir := range []string{"lower", "upper", "work", "merged", "bind"} {
		must(os.MkdirAll("/mnt/tmpfs/"+dir, 0o755))
	}
	must(os.WriteFile("/mnt/tmpfs/lower/file", []byte("before"), 0o644))
	must(syscall.Mount("overlay", "/mnt/tmpfs/merged", "overlay", 0, "lowerdir=/mnt/tmpfs/lower,upperdir=/mnt/tmpfs/upper,workdir=/mnt/tmpfs/work"))
	must(syscall.Mount("/tmp", "/mnt/tmpfs/bind", "", syscall.MS_BIND, ""))
	return func() error {
		b, err := os.ReadFile("/mnt/tmpfs/merged/file")
		if string(b) != "before" {
			return errors.Join(fmt.Errorf("reads %q", b), err)
		}
		return os.WriteFile("/mnt/tmpfs/bind/through-bind", nil, 0o644)
	}
}

func renamed() func() error {
	f, err := os.Create("/tmp/old")
	must(err)
	must(os.Rename("/tmp/old", "/tmp/new"))
	return func() error {
		_, wrote := f.WriteString("after")
		b, err := os.ReadFile("/tmp/new")
		if string(b) != "after" {
			return errors.Join(fmt.Errorf("reads %q", b), wrote, err)
		}
		return nil
	}
}

func appended() func() error {
	f, err := os.OpenFile("/tmp/appended", os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	must(err)
	_, err = f.WriteString("before")
	must(err)
	return func() error {
		_, wrote := f.WriteString("after")
		b, err := os.ReadFile("/tmp/appended")
		if string(b) != "beforeafter" {
			return errors.Join(fmt.Errorf("reads %q", b), wrote, err)
		}
		return nil
	}
}

func openDirectory() func() error {
	must(os.Mkdir("/tmp/many", 0o755))
	for i := range 300 {
		must(os.WriteFile(fmt.Sprint("/tmp/many/", i), nil, 0o644))
	}
	d, err := os.Open("/tmp/many")
	must(err)
	first, err := d.Readdirnames(100)
	must(err)
	return func() error {
		rest, err := d.Readdirnames(-1)
		all := append(rest, first...)
		slices.Sort(all)
		if n := len(slices.Compact(all)); n != 300 {
			return errors.Join(fmt.Errorf("%d of 300 names", n), err)
		}
		return nil
	}
}

func lock() func() error {
	open := func() *os.File {
		f, err := os.OpenFile("/tmp/lock", os.O_CREATE|os.O_RDWR, 0o644)
		must(err)
		return f
	}
	held := open()
	must(syscall.Flock(int(held.Fd()), syscall.LOCK_EX))
	return func() error {
		if err := syscall.Flock(int(open().Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != syscall.EWOULDBLOCK {
			return fmt.Errorf("somebody else got it: %v", err)
		}
		runtime.KeepAlive(held)
		return nil
	}
}

func namedPipe() func() error {
	must(syscall.Mkfifo("/tmp/fifo", 0o644))
	f, err := os.OpenFile("/tmp/fifo", os.O_RDWR, 0)
	must(err)
	_, err = f.WriteString("before")
	must(err)
	return func() error {
		got := make([]byte, len("before"))
		_, err := io.ReadFull(f, got)
		if string(got) != "before" {
			return errors.Join(fmt.Errorf("got %q", got), err)
		}
		return nil
	}
}

func inotify() func() error {
	fd, err := syscall.InotifyInit1(0)
	must(err)
	must(os.MkdirAll("/tmp/watched", 0o755))
	_, err = syscall.InotifyAddWatch(fd, "/tmp/watched", syscall.IN_CREATE)
	must(err)
	return func() error {
		must(os.WriteFile("/tmp/watched/x", nil, 0o644))
		n, err := syscall.Read(fd, make([]byte, 4096))
		if n <= 0 {
			return fmt.Errorf("%d bytes, %w", n, err)
		}
		return nil
	}
}

func openProc() func() error {
	var files []*os.File
	for _, path := range []string{"/proc/self/maps", "/proc/meminfo", "/proc/self/fd", "/dev/urandom", "/sys/fs/cgroup"} {
		f, err := os.Open(path)
		must(err)
		files = append(files, f)
	}
	return func() error {
		for _, f := range files {
			if info, err := f.Stat(); err != nil {
				return err
			} else if info.IsDir() {
				continue
			}
			if n, err := f.Read(make([]byte, 100)); n == 0 {
				return fmt.Errorf("%s: %w", f.Name(), err)
			}
		}
		return nil
	}
}
