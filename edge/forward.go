package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"syscall"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/observe"
	"github.com/atoll-cloud/atoll/wire"
)

// route is where one request goes.
type route struct {
	target
	up *upstream
	// client is where the answer goes.
	client *ending
	// token is shown to the guest daemon by requests that only the host may
	// send it; empty for those of clients.
	token string
	// sprite is that token where the request goes to the port that a sprite named.
	sprite string
	// answer is how the client is told what went wrong.
	answer func(http.ResponseWriter, *http.Request, *problem)
}

type routeKey struct{}

func routeOf(r *http.Request) *route { return r.Context().Value(routeKey{}).(*route) }

// dropped are request headers that no guest may see or no client may set: what
// addressed the request, what only the host may say, and what proxies say
// about clients. ReverseProxy itself drops the other forwarding headers.
var dropped = []string{
	headerSandboxID, headerSandboxPort, headerTrafficToken, wire.ControlHeader,
	"X-Real-Ip", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Prefix", "X-Forwarded-Scheme", "X-Forwarded-Ssl",
}

// rewrite turns the client's request into the one for the guest. The path, the
// query and the host name stay as the client wrote them.
func rewrite(p *httputil.ProxyRequest) {
	to := routeOf(p.In)
	out := p.Out
	out.URL.Scheme = "http"
	out.URL.Host = guestHost(to.port)
	out.URL.User = nil
	out.URL.RawQuery = p.In.URL.RawQuery
	for _, name := range dropped {
		delete(out.Header, name)
	}
	if to.token != "" {
		out.Header.Set(wire.ControlHeader, to.token)
		out.Header.Del("Authorization") // the door has looked at it
		out.Header.Del("Cookie")
	}
	if len(p.In.Trailer) > 0 {
		// The values come after the body, into the map of the inbound request.
		out.Trailer = p.In.Trailer
		out.Body = trailed{out.Body, out.Trailer}
	}
	p.SetXForwarded()
	// "Upgrade: h2c" would open a way past every check of this package for the
	// requests that follow on the connection; the daemon upgrades nothing for
	// clients, and WebSockets for doors.
	toDaemon := to.port == wire.GuestPort && (to.token == "" || !strings.EqualFold(out.Header.Get("Upgrade"), "websocket"))
	if up := out.Header.Get("Upgrade"); up != "" && (toDaemon || strings.Contains(strings.ToLower(up), "h2c")) {
		out.Header.Del("Upgrade")
		out.Header.Del("Connection")
		out.Header.Del("Http2-Settings")
	}
}

// trailed is a request body that drops what no client may send from the
// trailer that follows it.
type trailed struct {
	io.ReadCloser
	trailer http.Header
}

func (b trailed) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		for _, name := range dropped {
			delete(b.trailer, name)
		}
	}
	return n, err
}

// roundTripper sends a request over the connections of its machine.
type roundTripper struct{}

func (roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	to := routeOf(r)
	res, err := to.up.roundTrip(r, to.port)
	if err == nil || to.sprite == "" || !isRefused(err) || r.Body != nil && r.Body != http.NoBody {
		return res, err
	}
	// The service that held the port has stopped: asking starts it again.
	to.up.forgetPort()
	port, asked := to.up.spritePort(r.Context(), to.sprite)
	if asked != nil {
		return nil, err
	}
	to.port, to.sprite = port, ""
	r = r.Clone(r.Context())
	r.URL.Host = guestHost(port)
	return to.up.roundTrip(r, port)
}

// isRefused reports whether nothing listens on the port of a request.
func isRefused(err error) bool {
	return errors.Is(err, machine.ErrPortClosed) || errors.Is(err, syscall.ECONNREFUSED)
}

// guestHost names a port of a guest; dial looks at the number alone.
func guestHost(port int) string { return "guest:" + strconv.Itoa(port) }

// isGRPC reports whether the request needs HTTP/2 all the way.
func isGRPC(r *http.Request) bool {
	if r.ProtoMajor != 2 {
		return false
	}
	rest, ok := strings.CutPrefix(r.Header.Get("Content-Type"), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// errNotHTTP is a guest's answer that HTTP does not allow.
var errNotHTTP = errors.New("the answer is not valid HTTP")

// modifyResponse checks and trims the head of a guest's answer.
func modifyResponse(res *http.Response) error {
	to := routeOf(res.Request)
	if res.StatusCode != http.StatusSwitchingProtocols {
		to.client.follow(res)
	}
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		if res.Request.Header.Get("Upgrade") == "" {
			return fmt.Errorf("%w: protocol switched without being asked", errNotHTTP)
		}
	case res.StatusCode < 200 || res.StatusCode > 999:
		return fmt.Errorf("%w: status %d", errNotHTTP, res.StatusCode)
	}
	if id := observe.RequestID(res.Request.Context()); id != "" {
		res.Header.Set(observe.RequestIDHeader, id)
	}
	// Alt-Svc speaks for the whole origin, which with routing by headers is
	// that of the APIs.
	res.Header.Del("Alt-Svc")
	if to.port == wire.GuestPort && to.token == "" {
		res.Header.Set("Access-Control-Allow-Origin", "*")
		res.Header.Set("Access-Control-Expose-Headers", "*")
	}
	return nil
}

// answerFailure answers a request that could not be carried out.
func (e *Edge) answerFailure(w http.ResponseWriter, r *http.Request, err error) {
	to := routeOf(r)
	if id := observe.RequestID(r.Context()); id != "" {
		w.Header().Set(observe.RequestIDHeader, id)
	}
	var p *problem
	switch {
	case r.Context().Err() != nil:
		w.WriteHeader(statusClientGone)
		return
	case e.gone(to.id):
		p = problemNotFound(to.target)
	case to.up.isSevered(), e.paused(to.id), errors.Is(err, machine.ErrPaused):
		p = problemPaused(to.target)
	case to.up.ended.Err() != nil: // the edge is closing
		p = problemUnavailable(to.target)
	case isRefused(err):
		to.up.forgetPort()
		p = problemPortClosed(to.target)
	case errors.Is(err, context.DeadlineExceeded):
		p = problemSilent(to.target)
	case errors.Is(err, machine.ErrUnavailable):
		p = problemUnavailable(to.target)
	default:
		p = problemBroken(to.target)
	}
	e.log.Debug("a request did not reach its guest", "request", observe.RequestID(r.Context()),
		"machine", to.id, "port", to.port, "error", err)
	to.answer(w, r, p)
}

// gone reports whether a machine has ended or is about to. A guest's
// connections break a moment before its end is recorded; clients are told the
// reason, not the symptom.
func (e *Edge) gone(id string) bool {
	m, err := e.engine.Get(id)
	if err != nil {
		return errors.Is(err, machine.ErrNotFound)
	}
	return m.State == machine.Ending || m.State == machine.Ended
}

// paused reports whether a machine was paused, for the same reason.
func (e *Edge) paused(id string) bool {
	m, err := e.engine.Get(id)
	return err == nil && m.Paused && m.State.Asleep()
}

// statusClientGone is the customary status, for the log alone, of a request
// whose client left before there was an answer.
const statusClientGone = 499
