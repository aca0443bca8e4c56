package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

func loopback() func() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	a, b := connect(l)
	_, err = a.Write([]byte("before")) // waits in the socket
	must(err)
	return func() error {
		_, wrote := a.Write([]byte("after"))
		got := make([]byte, len("beforeafter"))
		_, err := io.ReadFull(b, got)
		if string(got) != "beforeafter" {
			return errors.Join(fmt.Errorf("got %q", got), wrote, err)
		}
		c, d := connect(l)
		return echo(c, d)
	}
}

func connect(l net.Listener) (a, b net.Conn) {
	a, err := net.Dial(l.Addr().Network(), l.Addr().String())
	must(err)
	b, err = l.Accept()
	must(err)
	return a, b
}

func echo(a, b net.Conn) error {
	_, err := a.Write([]byte("x"))
	got := make([]byte, 1)
	_, read := io.ReadFull(b, got)
	return errors.Join(err, read)
}

func manyLoopback() func() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	var pairs [][2]net.Conn
	for range 2000 {
		a, b := connect(l)
		pairs = append(pairs, [2]net.Conn{a, b})
	}
	return func() error {
		for i, p := range pairs {
			if err := errors.Join(echo(p[0], p[1]), echo(p[1], p[0])); err != nil {
				return fmt.Errorf("pair %d: %w", i, err)
			}
		}
		return nil
	}
}

func deletedSocket() func() error {
	l, err := net.Listen("unix", "/tmp/deleted-socket")
	must(err)
	a, b := connect(l)
	must(os.Remove("/tmp/deleted-socket"))
	return func() error { return errors.Join(echo(a, b), echo(b, a)) }
}

func datagrams() func() error {
	a, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(err)
	b, err := net.Dial("udp", a.LocalAddr().String())
	must(err)
	_, err = b.Write([]byte("before"))
	must(err)
	outside, err := net.Dial("udp", "192.0.2.1:9")
	must(err)
	return func() error {
		_, wrote := b.Write([]byte("after"))
		got := make([]byte, 10)
		n, from, err := a.ReadFrom(got)
		if string(got[:n]) != "before" {
			return errors.Join(fmt.Errorf("got %q", got[:n]), wrote, err)
		}
		if n, _, err = a.ReadFrom(got); string(got[:n]) != "after" {
			return errors.Join(fmt.Errorf("got %q", got[:n]), wrote, err)
		}
		_, err = a.WriteTo([]byte("x"), from)
		_, read := b.Read(got)
		// To the world it is lost or refused, but it does not hang.
		_, _ = outside.Write([]byte("x"))
		return errors.Join(err, read)
	}
}

func socket(family, kind, protocol int) func() error {
	fd, err := syscall.Socket(family, kind, protocol)
	must(err)
	return func() error { _, err := syscall.Getsockname(fd); return err }
}

func unixSocket(path string) func() error {
	l, err := net.Listen("unix", path)
	must(err)
	a, b := connect(l)
	return func() error {
		if err := errors.Join(echo(a, b), echo(b, a)); err != nil {
			return fmt.Errorf("old connection: %w", err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			return fmt.Errorf("new connection: %w", err)
		}
		d, err := l.Accept()
		if err != nil {
			return err
		}
		return echo(c, d)
	}
}

// inFlight leaves an open file in a socket.
func inFlight() func() error {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	must(err)
	r, w, err := os.Pipe()
	must(err)
	must(syscall.Sendmsg(fds[0], []byte("x"), syscall.UnixRights(int(w.Fd())), nil, 0))
	w.Close()
	return func() error {
		oob := make([]byte, 64)
		_, n, _, _, err := syscall.Recvmsg(fds[1], make([]byte, 1), oob, 0)
		if err != nil {
			return err
		}
		messages, err := syscall.ParseSocketControlMessage(oob[:n])
		if err != nil || len(messages) != 1 {
			return fmt.Errorf("%d messages, %w", len(messages), err)
		}
		got, err := syscall.ParseUnixRights(&messages[0])
		if err != nil {
			return err
		}
		_, err = syscall.Write(got[0], []byte("y"))
		_, read := io.ReadFull(r, make([]byte, 1))
		return errors.Join(err, read)
	}
}
