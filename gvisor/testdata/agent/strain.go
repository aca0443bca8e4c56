package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// A strain is something that a checkpoint may break. What it returns is called
// after the restore and says whether it is still as it was.
type strain struct {
	name  string
	begin func() (check func() error)
}

var strains = []strain{
	{"loopback", loopback},
	{"many loopback connections", manyLoopback},
	{"sleep", sleeping},
	{"registers", registers},
	{"shared mapping", sharedMapping},
	{"private mapping", privateMapping},
	{"mapping of two processes", mappingOfTwo},
	{"deleted file", deletedFile},
	{"deleted mapped file", deletedMapping},
	{"file of a deleted directory", deletedDirectory},
	{"deleted file in memory", func() func() error { return deleted("/dev/shm/x") }},
	{"deleted file that is only written", deletedLog},
	{"deleted working directory", deletedWork},
	{"deleted one of two names", deletedName},
	{"deleted socket", deletedSocket},
	{"deleted named pipe", deletedPipe},
	{"replaced file", replaced},
	{"file of a moved directory", moved},
	{"file that may not be read", unreadable},
	{"unconnected and connected datagrams", datagrams},
	{"packet socket", func() func() error { return socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0x0300) }},
	{"raw socket", func() func() error { return socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP) }},
	{"netlink socket", func() func() error { return socket(syscall.AF_NETLINK, syscall.SOCK_RAW, 0) }},
	{"tun device", func() func() error { return device("/dev/net/tun") }},
	{"fuse device", func() func() error { return device("/dev/fuse") }},
	{"mounts", mounts},
	{"namespaces", namespaces},
	{"traced process", traced},
	{"renamed file", renamed},
	{"appended file", appended},
	{"open directory", openDirectory},
	{"pipe", pipe},
	{"process behind pipes", process},
	{"terminal", terminal},
	{"socket in a file", func() func() error { return unixSocket("/tmp/socket") }},
	{"abstract socket", func() func() error { return unixSocket("@socket") }},
	{"file in flight", inFlight},
	{"lock", lock},
	{"named pipe", namedPipe},
	{"inotify", inotify},
	{"epoll and eventfd", epoll},
	{"open files of proc", openProc},
}

// strained begins all strains, or those whose names are given, waits to be
// asked over the network, and then answers what became of each.
func strained() {
	checks := make(map[string]func() error)
	for _, s := range strains {
		if len(os.Args) > 2 && !slices.Contains(os.Args[2:], s.name) {
			continue
		}
		checks[s.name] = s.begin()
	}
	start, wall := time.Now(), time.Now().Round(0)
	ended := make(chan string, 2)
	outside, err := net.Listen("tcp", ":81")
	must(err)
	go watchOutside(outside, ended)
	http.HandleFunc("/check", func(w http.ResponseWriter, _ *http.Request) {
		for name, check := range checks {
			fmt.Fprintf(w, "%s: %v\n", name, check())
		}
		for range 2 {
			select {
			case what := <-ended:
				fmt.Fprintf(w, "outside %s\n", what)
			case <-time.After(5 * time.Second):
				fmt.Fprintln(w, "outside hangs")
			}
		}
		fmt.Fprintf(w, "clock %d %d %d\n", time.Since(start).Milliseconds(), time.Since(wall).Milliseconds(), time.Now().Unix())
	})
	fmt.Println("ready")
	fmt.Println(http.ListenAndServe(":80", nil))
}

// watchOutside takes a connection from outside, makes one to where that came
// from, and says how reading of each ends.
func watchOutside(l net.Listener, ended chan<- string) {
	in, err := l.Accept()
	must(err)
	host, _, _ := net.SplitHostPort(in.RemoteAddr().String())
	out, err := net.Dial("tcp", net.JoinHostPort(host, os.Getenv("PORT")))
	must(err)
	for name, conn := range map[string]net.Conn{"in": in, "out": out} {
		go func() {
			n, err := io.Copy(io.Discard, conn)
			_, wrote := conn.Write([]byte("x"))
			ended <- fmt.Sprintf("%s: %d bytes, %v, %v", name, n, err, wrote)
		}()
	}
	fmt.Println("connected")
}

func sleeping() func() error {
	var wg sync.WaitGroup
	start := time.Now()
	for range 20 {
		wg.Go(func() {
			t := syscall.NsecToTimespec(int64(2 * time.Second))
			for syscall.Nanosleep(&t, &t) == syscall.EINTR {
			}
		})
		wg.Go(func() { time.Sleep(2 * time.Second) })
	}
	return func() error {
		wg.Wait()
		if d := time.Since(start); d < 2*time.Second {
			return fmt.Errorf("2 seconds took %v", d)
		}
		return nil
	}
}

// registers calculates without a pause with numbers that are nowhere else.
func registers() func() error {
	calculate := func() float64 {
		a, b, c, d := 1.0, 2.0, 3.0, 4.0
		for range 10_000_000 {
			a, b, c, d = a+1, b+3, c+5, d+7
		}
		return a + b + c + d
	}
	want := calculate()
	var over atomic.Bool
	wrong := make(chan error, 1)
	go func() {
		for !over.Load() {
			if got := calculate(); got != want {
				wrong <- fmt.Errorf("%v became %v", want, got)
				return
			}
		}
		wrong <- nil
	}()
	return func() error {
		over.Store(true)
		return <-wrong
	}
}

const mapped = 3 << 20

func mapFile(path string, flags int) (*os.File, []byte) {
	f, err := os.Create(path)
	must(err)
	must(f.Truncate(mapped))
	b, err := syscall.Mmap(int(f.Fd()), 0, mapped, syscall.PROT_READ|syscall.PROT_WRITE, flags)
	must(err)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return f, b
}

func same(b []byte) error {
	for i := range b {
		if b[i] != byte(i%251) {
			return fmt.Errorf("byte %d is %d", i, b[i])
		}
	}
	return nil
}

func sharedMapping() func() error {
	f, b := mapFile("/tmp/shared", syscall.MAP_SHARED)
	return func() error {
		content := make([]byte, mapped)
		_, err := f.ReadAt(content, 0)
		if err := errors.Join(err, same(b), same(content)); err != nil {
			return err
		}
		b[7] = 77
		_, err = f.ReadAt(content, 0)
		if content[7] != 77 {
			return errors.Join(errors.New("a change in memory is not in the file"), err)
		}
		return nil
	}
}

func privateMapping() func() error {
	f, b := mapFile("/tmp/private", syscall.MAP_PRIVATE)
	return func() error {
		content := make([]byte, mapped)
		_, err := f.ReadAt(content, 0)
		if bytes.ContainsFunc(content, func(r rune) bool { return r != 0 }) {
			err = errors.Join(err, errors.New("private memory got into the file"))
		}
		return errors.Join(err, same(b))
	}
}

// mappingOfTwo shares memory with a child.
func mappingOfTwo() func() error {
	f, b := mapFile("/dev/shm/two", syscall.MAP_SHARED)
	cmd := exec.Command("/agent", "mapper")
	cmd.ExtraFiles = []*os.File{f}
	out, err := cmd.StdoutPipe()
	must(err)
	must(cmd.Start())
	_, err = io.ReadFull(out, make([]byte, 1)) // it has mapped it
	must(err)
	return func() error {
		b[0] = 200
		for range 1000 {
			if b[1] == 201 {
				return nil
			}
			time.Sleep(5 * time.Millisecond)
		}
		return errors.New("the other process does not see it")
	}
}

// mapper answers in shared memory.
func mapper() {
	b, err := syscall.Mmap(3, 0, mapped, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	must(err)
	fmt.Print("x")
	for b[0] != 200 {
		time.Sleep(time.Millisecond)
	}
	b[1] = 201
	time.Sleep(time.Hour)
}

func deletedMapping() func() error {
	f, b := mapFile("/tmp/deleted-mapping", syscall.MAP_SHARED)
	must(os.Remove("/tmp/deleted-mapping"))
	f.Close()
	return func() error { return same(b) }
}

func namespaces() func() error {
	cmd := exec.Command("/agent", "cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID |
		syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC}
	in, err := cmd.StdinPipe()
	must(err)
	must(cmd.Start())
	return func() error {
		in.Close()
		return cmd.Wait()
	}
}

func traced() func() error {
	started := make(chan error)
	check := make(chan chan error)
	go func() {
		runtime.LockOSThread() // the tracer is a thread
		cmd := exec.Command("/agent", "cat")
		cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
		started <- cmd.Start()
		answer := <-check
		var status syscall.WaitStatus
		_, err := syscall.Wait4(cmd.Process.Pid, &status, 0, nil)
		answer <- errors.Join(err, syscall.PtraceDetach(cmd.Process.Pid), cmd.Process.Kill())
	}()
	must(<-started)
	return func() error {
		answer := make(chan error)
		check <- answer
		return <-answer
	}
}

func pipe() func() error {
	r, w, err := os.Pipe()
	must(err)
	_, err = w.WriteString("before")
	must(err)
	return func() error {
		_, err := w.WriteString("after")
		w.Close()
		got, read := io.ReadAll(r)
		if string(got) != "beforeafter" {
			return errors.Join(fmt.Errorf("got %q", got), err, read)
		}
		return nil
	}
}

func process() func() error {
	cmd := exec.Command("/agent", "cat")
	in, err := cmd.StdinPipe()
	must(err)
	out, err := cmd.StdoutPipe()
	must(err)
	must(cmd.Start())
	return func() error {
		_, err := in.Write([]byte("line"))
		got := make([]byte, 4)
		_, read := io.ReadFull(out, got)
		in.Close()
		return errors.Join(err, read, cmd.Wait())
	}
}

func terminal() func() error {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	must(err)
	var n, unlock uint32
	must(ioctl(master, syscall.TIOCSPTLCK, unsafe.Pointer(&unlock)))
	must(ioctl(master, syscall.TIOCGPTN, unsafe.Pointer(&n)))
	slave, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	must(err)
	size := [4]uint16{33, 77}
	must(ioctl(master, syscall.TIOCSWINSZ, unsafe.Pointer(&size)))
	_, err = slave.WriteString("before")
	must(err)
	return func() error {
		_, wrote := slave.WriteString("after")
		got := make([]byte, len("beforeafter"))
		_, err := io.ReadFull(master, got)
		var now [4]uint16
		sized := ioctl(slave, syscall.TIOCGWINSZ, unsafe.Pointer(&now))
		if string(got) != "beforeafter" || now != size {
			return errors.Join(fmt.Errorf("got %q, size %v", got, now), wrote, err, sized)
		}
		return nil
	}
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

func epoll() func() error {
	const eventfd2 = 290
	event, _, errno := syscall.Syscall(eventfd2, 0, 0, 0)
	if errno != 0 {
		must(errno)
	}
	ep, err := syscall.EpollCreate1(0)
	must(err)
	must(syscall.EpollCtl(ep, syscall.EPOLL_CTL_ADD, int(event), &syscall.EpollEvent{Events: syscall.EPOLLIN}))
	ready := make(chan error, 1)
	go func() {
		events := make([]syscall.EpollEvent, 1)
		for {
			n, err := syscall.EpollWait(ep, events, -1)
			if err == syscall.EINTR {
				continue
			}
			if n != 1 {
				err = fmt.Errorf("%d events, %w", n, err)
			}
			ready <- err
			return
		}
	}()
	return func() error {
		_, err := syscall.Write(int(event), []byte{1, 0, 0, 0, 0, 0, 0, 0})
		return errors.Join(err, <-ready)
	}
}

func cat() {
	_, err := io.Copy(os.Stdout, os.Stdin)
	must(err)
}
