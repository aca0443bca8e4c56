package kernel

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-zeromq/zmq4"
	"golang.org/x/sys/unix"
)

// socketType is the property that names the kind of a socket.
const socketType = "Socket-Type"

// handshakeTime bounds how long a kernel may take to greet.
const handshakeTime = 10 * time.Second

// socket is one ZeroMQ connection to a kernel. A kernel's end lives as long as
// the kernel, so nothing here connects again: the end of a connection is the
// end of the kernel.
type socket struct {
	guard *guard
	conn  *zmq4.Conn
	// sending keeps the frames of one message together.
	sending sync.Mutex
}

// dial connects to a kernel's socket; buffer is how much is read at once.
func dial(network, address string, kind zmq4.SocketType, buffer int) (*socket, error) {
	raw, err := net.DialTimeout(network, address, handshakeTime)
	if err != nil {
		return nil, err
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		raw = promptConn{tcp}
	}
	s, err := open(raw, kind, buffer)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return s, nil
}

// promptConn acknowledges at once what it has read. Kernels that leave Nagle's
// algorithm on send the second of two short messages only then, which would
// be 40 ms later.
type promptConn struct{ *net.TCPConn }

func (c promptConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if n > 0 {
		if raw, rawErr := c.SyscallConn(); rawErr == nil {
			_ = raw.Control(func(fd uintptr) { // without it, it is only slower
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
			})
		}
	}
	return n, err
}

// open greets on a connection.
func open(raw net.Conn, kind zmq4.SocketType, buffer int) (*socket, error) {
	g := newGuard(raw, buffer)
	if err := raw.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return nil, err
	}
	conn, err := zmq4.Open(g, plainSecurity{}, kind, nil, false, nil)
	if err != nil {
		return nil, fmt.Errorf("greet the kernel: %w", err)
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	s := &socket{guard: g, conn: conn}
	if kind == zmq4.Sub {
		err = s.send([]byte{1}) // everything
	}
	return s, err
}

// send sends messages of one frame, or one message of several.
func (s *socket) send(frames ...[]byte) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.guard.hold()
	if err := s.conn.SendMsg(zmq4.NewMsgFrom(frames...)); err != nil {
		return err
	}
	return s.guard.flush()
}

// receive returns the frames of the next message, and the size of frames that
// were too large and came out empty.
func (s *socket) receive() (frames [][]byte, lost uint64, err error) {
	for {
		m, err := s.conn.RecvMsg()
		if err != nil {
			return nil, 0, err
		}
		if m.Type == zmq4.UsrMsg {
			return m.Frames, s.guard.lost.Swap(0), nil
		}
	}
}

func (s *socket) close() {
	if s != nil {
		s.guard.Close()
	}
}

// plainSecurity is ZMTP's NULL mechanism. The library has one too, but it
// panics at properties that are cut short.
type plainSecurity struct{}

func (plainSecurity) Type() zmq4.SecurityType { return zmq4.NullSecurity }

func (plainSecurity) Encrypt(w io.Writer, data []byte) (int, error) { return w.Write(data) }

func (plainSecurity) Decrypt(w io.Writer, data []byte) (int, error) { return w.Write(data) }

func (plainSecurity) Handshake(conn *zmq4.Conn, _ bool) error {
	ready, err := conn.Meta.MarshalZMTP()
	if err != nil {
		return err
	}
	if err := conn.SendCmd(zmq4.CmdReady, ready); err != nil {
		return err
	}
	command, err := conn.RecvCmd()
	if err != nil {
		return err
	}
	if command.Name != zmq4.CmdReady {
		return fmt.Errorf("%w: %q for a greeting", errProtocol, command.Name)
	}
	if err := readProperties(command.Body, conn.Peer.Meta); err != nil {
		return err
	}
	// The library panics at kinds that it does not know.
	switch kind := zmq4.SocketType(conn.Peer.Meta[socketType]); kind {
	case zmq4.Pub, zmq4.XPub, zmq4.Router, zmq4.Dealer, zmq4.Rep:
		return nil
	default:
		return fmt.Errorf("%w: a socket of the kind %q", errProtocol, kind)
	}
}

// readProperties reads the properties of a READY command: a byte of length and
// a name, four bytes of length and a value.
func readProperties(body []byte, into zmq4.Metadata) error {
	for len(body) > 0 {
		n := int(body[0])
		if len(body) < 1+n+4 {
			return fmt.Errorf("%w: a property is cut short", errProtocol)
		}
		name := string(body[1 : 1+n])
		if strings.EqualFold(name, socketType) {
			name = socketType
		}
		size := uint64(binary.BigEndian.Uint32(body[1+n:]))
		body = body[1+n+4:]
		if size > uint64(len(body)) {
			return fmt.Errorf("%w: a property is cut short", errProtocol)
		}
		into[name] = string(body[:size])
		body = body[size:]
	}
	return nil
}
