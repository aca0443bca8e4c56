package sprite_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/atoll-cloud/atoll/guest"
	"github.com/atoll-cloud/atoll/guest/sprite"
	"github.com/atoll-cloud/atoll/wire"
)

var spawner *guest.Spawner

func TestMain(m *testing.M) {
	var err error
	if spawner, err = guest.NewSpawner(""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	spawner.Close()
	os.Exit(code)
}

const control = "the host's token"

// world is a daemon with a sprite, and a door that forwards to it as the host
// does.
type world struct {
	t       testing.TB
	url     string // of the door
	daemon  string // of the daemon itself
	home    string
	server  *guest.Server
	sprites *sprite.Server
	touched atomic.Int64
}

func (w *world) Touch() { w.touched.Add(1) }

func newWorld(t testing.TB) *world {
	t.Helper()
	root, home := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"passwd": fmt.Sprintf("sprite:x:%d:%d::%s:/bin/bash\nroot:x:0:0::/root:/bin/bash\n", os.Getuid(), os.Getgid(), home),
		"group":  "wheel:x:77:sprite\n",
	} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	log := guest.NewLog(io.Discard)
	w := &world{t: t, home: home}
	w.server = guest.New(guest.Config{DefaultUser: "sprite", Root: root, Log: log, Spawner: spawner})
	w.sprites = sprite.New(sprite.Config{Guest: w.server, Activity: w, Log: log.Write})
	w.server.Mount(wire.SpritePath, w.sprites.Handler())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(listener) }()
	w.daemon = "http://" + listener.Addr().String()
	target, err := url.Parse(w.daemon)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			_, rest, _ := strings.Cut(strings.TrimPrefix(r.In.URL.Path, "/v1/sprites/"), "/")
			r.Out.URL.Path = wire.SpritePath + rest
			r.Out.Header.Set(wire.ControlHeader, control)
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Set("Sprite-Version", "0.0.1-rc48")
			return nil
		},
	}
	door := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.NewResponseController(rw).EnableFullDuplex() // HTTP/2 is so anyway
		forward.ServeHTTP(rw, r)
	}))
	w.url = door.URL
	response, err := http.Post(w.daemon+"/init", "application/json", strings.NewReader(`{"controlToken":"`+control+`","envVars":{"FROM_INIT":"yes"}}`))
	if err != nil || response.StatusCode != http.StatusNoContent {
		t.Fatal("init:", response, err)
	}
	response.Body.Close()
	t.Cleanup(func() {
		ended, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		w.sprites.Close(ended)
		w.server.Shutdown(ended)
		door.CloseClientConnections()
		door.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
		log.Close()
	})
	return w
}

// at returns the address of a route of the sprite.
func (w *world) at(route string) string { return w.url + "/v1/sprites/mine/" + route }

// do sends a request to a route and returns what it answers.
func (w *world) do(method, route, body string, headers ...string) (int, string, http.Header) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(deadline(w.t), method, w.at(route), strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, string(data), response.Header
}

// talk is a WebSocket of a client, with what it heard.
type talk struct {
	t    testing.TB
	ctx  context.Context
	ws   *websocket.Conn
	head http.Header

	info   map[string]any
	texts  []map[string]any
	stdout strings.Builder
	stderr strings.Builder
	raw    strings.Builder // binary messages as they were
	frames int             // exit frames
	code   int             // of the exit frame
	exit   map[string]any  // the exit text
	close  websocket.StatusCode
}

// dial opens a WebSocket as a browser's runtime would.
func (w *world) dial(route string, headers ...string) *talk {
	w.t.Helper()
	c, response, err := w.tryDial(route, headers...)
	if err != nil {
		w.t.Fatal(route, err, response)
	}
	return c
}

func (w *world) tryDial(route string, headers ...string) (*talk, *http.Response, error) {
	h := http.Header{"User-Agent": {"node"}}
	for i := 0; i+1 < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	ctx := deadline(w.t)
	ws, response, err := websocket.Dial(ctx, w.at(route), &websocket.DialOptions{HTTPHeader: h})
	if err != nil {
		return nil, response, err
	}
	ws.SetReadLimit(-1)
	w.t.Cleanup(func() { ws.CloseNow() })
	return &talk{t: w.t, ctx: ctx, ws: ws, head: response.Header, code: -1, close: -1}, response, nil
}

// next reads one message; false at the end.
func (c *talk) next() bool {
	kind, data, err := c.ws.Read(c.ctx)
	if err != nil {
		c.close = websocket.CloseStatus(err)
		return false
	}
	if kind == websocket.MessageText {
		var text map[string]any
		if err := json.Unmarshal([]byte(strings.TrimPrefix(string(data), "control:")), &text); err != nil {
			c.t.Errorf("text %q: %v", data, err)
		}
		c.texts = append(c.texts, text)
		switch text["type"] {
		case "session_info":
			c.info = text
		case "exit":
			c.exit = text
		}
		return true
	}
	c.raw.Write(data)
	if len(data) > 0 {
		switch data[0] {
		case 1:
			c.stdout.Write(data[1:])
		case 2:
			c.stderr.Write(data[1:])
		case 3:
			c.frames++
			c.code = int(data[1])
		}
	}
	return true
}

// finish reads to the end.
func (c *talk) finish() *talk {
	for c.next() {
	}
	return c
}

// until reads messages until a condition holds.
func (c *talk) until(what string, condition func() bool) *talk {
	c.t.Helper()
	for !condition() {
		if !c.next() {
			c.t.Fatalf("never came: %s (raw %q, texts %v, close %d)", what, c.raw.String(), c.texts, c.close)
		}
	}
	return c
}

func (c *talk) send(kind websocket.MessageType, data string) *talk {
	c.t.Helper()
	if err := c.ws.Write(c.ctx, kind, []byte(data)); err != nil {
		c.t.Error(err)
	}
	return c
}

// command is the route that runs a command.
func command(parameters string, args ...string) string {
	q := url.Values{"cmd": args}
	return "exec?" + q.Encode() + "&" + parameters
}

func shell(parameters, script string) string { return command(parameters, "sh", "-c", script) }

// deadline is the longest any test waits for something that must happen.
func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx := deadline(t)
	for !condition() {
		if ctx.Err() != nil {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
