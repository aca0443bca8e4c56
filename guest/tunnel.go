package guest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/wire"
)

// tunnelDial bounds how long a port on the loopback may take to accept.
const tunnelDial = 5 * time.Second

// tunnel joins the host's connection to a port on the guest's loopback, where
// programs listen that nobody outside can reach.
func (s *Server) tunnel(w http.ResponseWriter, r *http.Request) {
	port, err := strconv.ParseUint(r.URL.Query().Get("port"), 10, 16)
	if err != nil || port == 0 {
		writeError(w, withStatus(http.StatusBadRequest, errors.New("port: want a number from 1 to 65535")))
		return
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), wire.TunnelProtocol) {
		writeError(w, withStatus(http.StatusUpgradeRequired, errors.New("ask for Upgrade: "+wire.TunnelProtocol)))
		return
	}
	inner, err := dialLoopback(r.Context(), uint16(port))
	if err != nil {
		writeError(w, withStatus(http.StatusBadGateway, err))
		return
	}
	defer inner.Close()
	outer, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		writeError(w, withStatus(http.StatusBadRequest, fmt.Errorf("tunnels need HTTP/1.1: %w", err)))
		return
	}
	defer s.connections.forget(outer)
	defer outer.Close()
	outer.SetDeadline(time.Time{})
	if _, err := io.WriteString(outer, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+wire.TunnelProtocol+"\r\n\r\n"); err != nil {
		return // the host left
	}
	joinConnections(inner, outer, buffered.Reader)
}

// dialLoopback tries IPv4 first and then IPv6.
func dialLoopback(ctx context.Context, port uint16) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, tunnelDial)
	defer cancel()
	var d net.Dialer
	var failed error
	for _, host := range []string{"127.0.0.1", "::1"} {
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err == nil {
			return conn.(*net.TCPConn), nil
		}
		if failed == nil {
			failed = err
		}
	}
	return nil, fmt.Errorf("nothing answers on port %d: %w", port, failed)
}

// joinConnections copies both ways and passes each side's end on, until both
// have ended.
func joinConnections(inner *net.TCPConn, outer net.Conn, buffered *bufio.Reader) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var err error
		if n := buffered.Buffered(); n > 0 {
			_, err = io.CopyN(inner, buffered, int64(n))
		}
		if err == nil {
			_, err = io.Copy(inner, outer)
		}
		if err != nil {
			inner.Close()
			return
		}
		inner.CloseWrite()
	}()
	_, err := io.Copy(outer, inner)
	half, ok := outer.(interface{ CloseWrite() error })
	if err != nil || !ok {
		outer.Close()
	} else {
		half.CloseWrite()
	}
	<-done
}
