package sprites

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/wire"
)

// guestSide stands for the daemon of a sprite: it accepts the connection for
// calls and is the client on it.
type guestSide struct {
	t      *testing.T
	dialed chan net.Conn
}

func newGuestSide(t *testing.T, e *fakeEngine) *guestSide {
	g := &guestSide{t: t, dialed: make(chan net.Conn, 4)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	e.mu.Lock()
	e.dial = func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
	e.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.dialed <- c
		}
	}()
	return g
}

// accept answers the next upgrade and returns a client of the host.
func (g *guestSide) accept() (*http.Client, net.Conn) {
	g.t.Helper()
	var conn net.Conn
	select {
	case conn = <-g.dialed:
	case <-time.After(patience):
		g.t.Fatal("the host did not connect")
	}
	g.t.Cleanup(func() { conn.Close() })
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		g.t.Fatal(err)
	}
	if r.URL.Path != wire.CallsPath || r.Header.Get("Upgrade") != wire.CallsProtocol || r.Header.Get(wire.ControlHeader) != "control" {
		g.t.Fatalf("the host asked for %s with %v", r.URL, r.Header)
	}
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+wire.CallsProtocol+"\r\n\r\n")
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	used := false
	transport := &http.Transport{Protocols: p, DialContext: func(context.Context, string, string) (net.Conn, error) {
		if used {
			return nil, io.ErrClosedPipe
		}
		used = true
		return conn, nil
	}}
	return &http.Client{Transport: transport, Timeout: patience}, conn
}

func call(t *testing.T, c *http.Client, method, path, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://host"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestSpritesCallTheirHost(t *testing.T) {
	w := newWorld(t)
	g := newGuestSide(t, w.engine)
	w.create("me")
	w.create("victim", "Authorization", "Bearer "+w.otherKey)
	host, _ := g.accept()

	status, body := call(t, host, "GET", wire.CallInfo, "")
	var info wire.SpriteInfo
	if err := json.Unmarshal([]byte(body), &info); err != nil || status != 200 || info.Name != "me" || info.Org != "default" || info.URL == "" || info.ID == "" {
		t.Errorf("info = %d %s", status, body)
	}
	until := time.Now().Add(time.Minute).UTC().Truncate(time.Second)
	if status, body = call(t, host, "PUT", wire.CallActivity, `{"until":"`+until.Format(time.RFC3339)+`"}`); status != 204 || !w.engine.holds["i1"].Equal(until) {
		t.Errorf("activity = %d %s, %v", status, body, w.engine.holds)
	}
	if status, _ = call(t, host, "PUT", wire.CallActivity, `{"until":"soon"}`); status != 400 {
		t.Errorf("activity without a time = %d", status)
	}
	if status, body = call(t, host, "POST", wire.CallCheckpoint, `{"comment":"mine"}`); status != 200 || !strings.Contains(body, "Checkpoint v1 created") {
		t.Errorf("checkpoint = %d %s", status, body)
	}
	if status, body = call(t, host, "GET", wire.CallCheckpoints, ""); status != 200 || !strings.Contains(body, `"comment":"mine"`) {
		t.Errorf("checkpoints = %d %s", status, body)
	}
	if status, body = call(t, host, "POST", wire.CallCheckpoints+"/v1/restore", ""); status != 202 || <-w.engine.restored != "v1" {
		t.Errorf("restore = %d %s", status, body)
	}
	if status, _ = call(t, host, "POST", wire.CallCheckpoints+"/v9/restore", ""); status != 404 {
		t.Errorf("restore of what is not there = %d", status)
	}
	if status, body = call(t, host, "GET", wire.CallPolicy, ""); status != 200 || body != `{"rules":[]}` {
		t.Errorf("policy = %d %s", status, body)
	}
	if status, body = call(t, host, "GET", wire.CallOrgs, ""); status != 200 || !strings.Contains(body, "default") {
		t.Errorf("orgs = %d %s", status, body)
	}
	for _, c := range [][2]string{{"GET", "/v1/sprites"}, {"POST", wire.CallPolicy}, {"DELETE", "/v1/sprites/victim"}, {"GET", "/"}} {
		if status, body = call(t, host, c[0], c[1], "{}"); status < 400 {
			t.Errorf("%v = %d %s", c, status, body)
		}
	}
}

func TestConnectionForCallsFollowsTheSprite(t *testing.T) {
	w := newWorld(t)
	g := newGuestSide(t, w.engine)
	w.create("a")
	host, conn := g.accept()
	call(t, host, "GET", wire.CallInfo, "")

	conn.Close() // it broke while the sprite runs
	host, conn = g.accept()
	call(t, host, "GET", wire.CallInfo, "")

	w.engine.mu.Lock() // the sprite is stored
	close(w.engine.severed["i1"])
	w.engine.mu.Unlock()
	w.engine.edit("i1", func(m *machine.Machine) { m.State = machine.Stored })
	if _, err := io.Copy(io.Discard, conn); err == nil {
		conn.Close()
	}
	w.engine.edit("i1", func(m *machine.Machine) { m.State = machine.Running })
	w.engine.mu.Lock() // as with the engine, connections hold a little later
	w.engine.severed["i1"] = make(chan struct{})
	w.engine.mu.Unlock()
	host, _ = g.accept()
	call(t, host, "GET", wire.CallInfo, "")
	select {
	case <-g.dialed:
		t.Error("the host connected twice")
	default:
	}
}
