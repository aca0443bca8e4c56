package sprite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/coder/websocket"

	"github.com/atoll-cloud/atoll/guest"
)

const (
	// controlPrefix begins texts that are about operations, in one of the two ways
	// in which clients write them; the other has no prefix.
	controlPrefix = "control:"
	// goClient is how the published Go client names itself on control connections.
	goClient = "sprites-go-sdk/"
)

// envelope is a message about an operation.
type envelope struct {
	Type string          `json:"type"`
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args"`
	// Operation and Params stand for Op and Args in the messages of proxies.
	Operation string          `json:"operation"`
	Params    json.RawMessage `json:"params"`
}

// operation is what a control connection does at the moment.
type operation struct {
	client *client      // of an exec
	conn   *net.TCPConn // of a proxy
	cancel context.CancelFunc
	done   chan struct{}
}

// controlConn is a connection for one operation after the other.
type controlConn struct {
	server *Server
	socket *socket
	active *operation
}

// control serves control connections. The published Go client reads one from two
// goroutines at once, so that it loses messages in most of its uses; told that
// there is no such route, it does everything over connections of their own.
func (s *Server) control(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.UserAgent(), goClient) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	k, err := s.accept(w, r, 0)
	if err != nil {
		return
	}
	defer s.guest.ForgetConnection(r)
	defer k.drop()
	ctx, cancel := context.WithCancel(s.life)
	defer cancel()
	c := &controlConn{server: s, socket: k}
	defer c.end()
	query := r.URL.Query()
	if op := query.Get("op"); op != "" {
		if c.begin(ctx, true, op, query) != nil {
			return
		}
	}
	for {
		kind, from, err := k.read(ctx)
		if err != nil || c.receive(ctx, kind, from) != nil {
			return
		}
	}
}

// running returns the operation that goes on; nil when there is none.
func (c *controlConn) running() *operation {
	if c.active != nil {
		select {
		case <-c.active.done:
			c.active = nil
		default:
		}
	}
	return c.active
}

// end leaves the operation that goes on; a command's session may go on without.
func (c *controlConn) end() {
	if op := c.running(); op != nil {
		op.cancel()
		if op.conn != nil {
			op.conn.Close()
		}
		<-op.done
	}
}

// receive handles one message of the client. An error ends the connection.
func (c *controlConn) receive(ctx context.Context, kind websocket.MessageType, from io.Reader) error {
	op := c.running()
	if kind == websocket.MessageBinary {
		switch {
		case op != nil && op.client != nil:
			return op.client.receive(ctx, kind, from)
		case op != nil && op.conn != nil:
			if _, err := io.Copy(op.conn, from); err == nil {
				return nil
			}
		}
		return discard(from)
	}
	text, err := readText(from)
	if err != nil {
		return err
	}
	body, prefixed := bytes.CutPrefix(text, []byte(controlPrefix))
	var e envelope
	if json.Unmarshal(body, &e) != nil {
		return nil
	}
	switch {
	case e.Type == "op.start" && op != nil:
		return c.fail(ctx, prefixed, errors.New("an operation is going on; one connection does one at a time"))
	case e.Type == "op.start":
		return c.start(ctx, prefixed, e.Op, e.Args)
	case e.Type == "start" && op == nil:
		return c.start(ctx, prefixed, e.Operation, e.Params)
	case e.Type == "release" && op != nil && op.conn != nil:
		c.end()
	case op != nil && op.client != nil && !prefixed:
		op.client.obey(body)
	}
	return nil
}

func (c *controlConn) start(ctx context.Context, prefixed bool, op string, args json.RawMessage) error {
	values, err := parseArgs(args)
	if err != nil {
		return c.fail(ctx, prefixed, err)
	}
	return c.begin(ctx, prefixed, op, values)
}

// parseArgs reads an operation's arguments: an object, or a query as text.
func parseArgs(args json.RawMessage) (url.Values, error) {
	values := url.Values{}
	if len(args) == 0 || string(args) == "null" {
		return values, nil
	}
	var query string
	if json.Unmarshal(args, &query) == nil {
		values, err := url.ParseQuery(query)
		if err != nil {
			return nil, fmt.Errorf("arguments: %w", err)
		}
		return values, nil
	}
	return values, addJSON(values, args)
}

// begin starts an operation.
func (c *controlConn) begin(ctx context.Context, prefixed bool, op string, values url.Values) error {
	switch {
	case op == "exec":
		return c.exec(ctx, prefixed, values)
	case op == "proxy":
		return c.proxy(ctx, prefixed, values)
	case strings.HasPrefix(op, "fs."):
		return c.files(ctx, prefixed, op, fileArgs{c.server, values})
	}
	return c.fail(ctx, prefixed, fmt.Errorf("there is no operation %q", shortened(op)))
}

// exec runs a command or attaches to a session.
func (c *controlConn) exec(ctx context.Context, prefixed bool, values url.Values) error {
	s := c.server
	request, err := parseRequest(values)
	if err != nil {
		return c.fail(ctx, prefixed, err)
	}
	var client *client
	if request.id != "" {
		n, err := s.sessions.find(request.id)
		if err != nil {
			return c.fail(ctx, prefixed, err)
		}
		client = s.join(n, c.socket, request)
	} else if client, err = c.run(ctx, request); err != nil {
		return c.fail(ctx, prefixed, err)
	} else if client == nil {
		return nil
	}
	client.binaryJSON = true
	ctx, cancel := context.WithCancel(ctx)
	op := &operation{client: client, cancel: cancel, done: make(chan struct{})}
	c.active = op
	go func() {
		defer cancel()
		code, err := client.serve(ctx)
		s.leave(client.session, client.place)
		close(op.done) // the next may begin when this one's end is told
		switch {
		case err == nil:
			c.complete(ctx, prefixed, &code)
		case errors.Is(err, errSlow):
			c.fail(ctx, prefixed, err)
		}
		c.socket.send() // the exit and what follows it at once
	}()
	return nil
}

// run starts a command; nil without an error is one that could not start, of
// which the client has been told as if it had run.
func (c *controlConn) run(ctx context.Context, request *request) (*client, error) {
	n, place, err := c.server.start(request)
	if err == nil {
		return &client{
			server: c.server, session: n, place: place, socket: c.socket,
			owner: true, framed: !n.tty, silent: !request.stdin,
		}, nil
	}
	code, asked := guest.StartFailure(err)
	if !asked {
		return nil, err
	}
	failed := &client{server: c.server, socket: c.socket, framed: !request.tty}
	if err := failed.tellFailure(ctx, err); err != nil {
		return nil, err
	}
	if err := failed.tellExit(ctx, code); err != nil {
		return nil, err
	}
	return nil, c.complete(ctx, true, &code)
}

// proxy connects to a target and copies both ways until either side ends.
func (c *controlConn) proxy(ctx context.Context, prefixed bool, values url.Values) error {
	target, err := parseTarget(targetJSON(values))
	if err != nil {
		return c.fail(ctx, prefixed, err)
	}
	conn, err := dialTarget(ctx, target)
	if err != nil {
		return c.fail(ctx, prefixed, err)
	}
	if err := c.socket.writeJSON(ctx, proxyStatus{Status: "connected", Target: target}); err != nil {
		conn.Close()
		return err
	}
	op := &operation{conn: conn, cancel: func() {}, done: make(chan struct{})}
	c.active = op
	go func() {
		defer conn.Close()
		c.socket.fromTarget(ctx, conn) // however it ended, it has
		close(op.done)
		c.complete(ctx, prefixed, nil)
	}()
	return nil
}

// targetJSON writes a proxy's target as its own route's clients do.
func targetJSON(values url.Values) []byte {
	port := json.Number(values.Get("port"))
	data, err := json.Marshal(map[string]any{"host": values.Get("host"), "port": port})
	if err != nil {
		return nil // the port is no number
	}
	return data
}

// complete tells the end of an operation.
func (c *controlConn) complete(ctx context.Context, prefixed bool, code *int) error {
	var args any
	if code != nil {
		args = map[string]int{"exitCode": *code}
	}
	return c.tell(ctx, prefixed, "op.complete", args)
}

// fail tells that an operation did not succeed.
func (c *controlConn) fail(ctx context.Context, prefixed bool, err error) error {
	return c.tell(ctx, prefixed, "op.error", map[string]string{"error": err.Error()})
}

func (c *controlConn) tell(ctx context.Context, prefixed bool, kind string, args any) error {
	data, err := json.Marshal(struct {
		Type string `json:"type"`
		Args any    `json:"args,omitempty"`
	}{kind, args})
	if err != nil {
		return err
	}
	if prefixed {
		data = append([]byte(controlPrefix), data...)
	}
	return c.socket.write(ctx, websocket.MessageText, data)
}
