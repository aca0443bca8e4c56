package sprite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// proxyBuffer is how much of a proxied connection is moved at once, in bytes:
	// in a sandboxed kernel each call costs as much as tens of kilobytes.
	proxyBuffer = 256 << 10
	// proxyDial bounds how long a target may take to accept, and proxyHello how
	// long a client may take to name it.
	proxyDial  = 10 * time.Second
	proxyHello = 30 * time.Second
	// proxyDrain is how long a target may take to read what its client sent last.
	proxyDrain = 5 * time.Second
)

var proxyBuffers = sync.Pool{New: func() any { return new([proxyBuffer]byte) }}

// proxyTarget is what a client wants to be connected to.
type proxyTarget struct {
	Host string `json:"host"`
	Port int    `json:"port"`
}

// proxyStatus answers it.
type proxyStatus struct {
	Status string `json:"status"`
	Target string `json:"target,omitempty"`
	Error  string `json:"error,omitempty"`
}

// parseTarget reads the first message of a proxy's client.
func parseTarget(text []byte) (string, error) {
	var target proxyTarget
	if err := json.Unmarshal(text, &target); err != nil {
		return "", fmt.Errorf("decode the target: %w", err)
	}
	if target.Port < 1 || target.Port > 65535 {
		return "", fmt.Errorf("port %d: want a number from 1 to 65535", target.Port)
	}
	if len(target.Host) > 255 {
		return "", errors.New("the host name is too long")
	}
	if target.Host == "" {
		target.Host = "localhost"
	}
	return net.JoinHostPort(target.Host, strconv.Itoa(target.Port)), nil
}

// dialTarget connects to what a client named. Programs that listen on one of the
// loopback's addresses only are found on either.
func dialTarget(ctx context.Context, target string) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, proxyDial)
	defer cancel()
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return nil, err
	}
	hosts := []string{host}
	if host == "localhost" {
		hosts = []string{"127.0.0.1", "::1"}
	}
	var d net.Dialer
	var failed error
	for _, host := range hosts {
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		if failed == nil {
			failed = err
		}
	}
	return nil, fmt.Errorf("connect to %s: %w", target, failed)
}

// proxy joins a WebSocket to a TCP connection that begins in the machine.
func (s *Server) proxy(w http.ResponseWriter, r *http.Request) {
	k, err := s.accept(w, r, 64<<10)
	if err != nil {
		return
	}
	defer s.guest.ForgetConnection(r)
	defer k.drop()
	slow := time.AfterFunc(proxyHello, k.drop)
	text, err := k.firstText(s.life)
	slow.Stop()
	if err != nil {
		return
	}
	target, err := parseTarget(text)
	var conn *net.TCPConn
	if err == nil {
		conn, err = dialTarget(s.life, target)
	}
	if err != nil {
		done := k.ignore(s.life)
		k.writeJSON(s.life, proxyStatus{Status: "error", Target: target, Error: err.Error()}) // the close tells, too
		k.bye(websocket.StatusInternalError, "no connection to the target", done)
		return
	}
	defer conn.Close()
	if k.writeJSON(s.life, proxyStatus{Status: "connected", Target: target}) != nil {
		return
	}
	s.joinProxy(k, conn)
}

// firstText returns the first message, which must be a text.
func (k *socket) firstText(ctx context.Context) ([]byte, error) {
	kind, from, err := k.read(ctx)
	if err != nil {
		return nil, err
	}
	if kind != websocket.MessageText {
		k.ws.Close(websocket.StatusUnsupportedData, "the first message must name the target as text")
		return nil, errors.New("the first message is no text")
	}
	return readText(from)
}

// joinProxy copies both ways until either side ends.
func (s *Server) joinProxy(k *socket, conn *net.TCPConn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.toTarget(s.life, conn)
		// What was sent last must arrive: no reset, as a plain close would be with
		// unread bytes.
		conn.CloseWrite()
		conn.SetReadDeadline(time.Now().Add(proxyDrain))
	}()
	err := k.fromTarget(s.life, conn)
	select {
	case <-done: // the client ended it
		io.Copy(io.Discard, conn)
	default:
		code := websocket.StatusNormalClosure
		if err != nil && !errors.Is(err, net.ErrClosed) {
			code = websocket.StatusInternalError
		}
		k.bye(code, "", done)
	}
	k.drop()
	<-done
}

// toTarget copies binary messages to the target until the client leaves. It goes
// on reading when the target does not, so that the client gets to read all that
// the target sent.
func (k *socket) toTarget(ctx context.Context, conn *net.TCPConn) {
	buffer := proxyBuffers.Get().(*[proxyBuffer]byte)
	defer proxyBuffers.Put(buffer)
	open := true
	for {
		kind, from, err := k.read(ctx)
		if err != nil {
			return
		}
		for {
			n, err := from.Read(buffer[:])
			if n > 0 && open && kind == websocket.MessageBinary {
				_, err := conn.Write(buffer[:n])
				open = err == nil
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				return
			}
		}
	}
}

// fromTarget copies what the target sends as binary messages, until its end.
func (k *socket) fromTarget(ctx context.Context, conn *net.TCPConn) error {
	buffer := proxyBuffers.Get().(*[proxyBuffer]byte)
	defer proxyBuffers.Put(buffer)
	for {
		n, err := conn.Read(buffer[:])
		if n > 0 {
			if err := k.write(ctx, websocket.MessageBinary, buffer[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
