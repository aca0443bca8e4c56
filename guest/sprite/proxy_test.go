package sprite_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// listen serves connections with a function until the test ends.
func listen(t testing.TB, address string, serve func(net.Conn)) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func echo(conn net.Conn) { io.Copy(conn, conn) }

// connect opens a proxy and waits for its answer.
func (w *world) connect(target string) *talk {
	w.t.Helper()
	c := w.dial("proxy", "User-Agent", "sprites-go-sdk/1.0").send(websocket.MessageText, target+"\n")
	return c.until("an answer", func() bool { return len(c.texts) > 0 })
}

func TestProxy(t *testing.T) {
	w := newWorld(t)
	port := listen(t, "127.0.0.1:0", echo)
	c := w.connect(fmt.Sprintf(`{"host":"localhost","port":%d}`, port))
	if fmt.Sprint(c.texts[0]) != fmt.Sprintf("map[status:connected target:localhost:%d]", port) {
		t.Error(c.texts[0])
	}
	big := strings.Repeat("0123456789", 100_000)
	c.send(websocket.MessageText, "texts do not matter").send(websocket.MessageBinary, "").send(websocket.MessageBinary, big)
	c.until("the echo", func() bool { return c.raw.Len() == len(big) })
	if c.raw.String() != big {
		t.Error("the echo differs")
	}
	if err := c.ws.Close(1000, ""); err != nil {
		t.Error(err)
	}
}

func TestProxyReachesIPv6AndTheDefaultHost(t *testing.T) {
	w := newWorld(t)
	port := listen(t, "[::1]:0", echo)
	for _, host := range []string{`"localhost"`, `"::1"`, `""`} {
		c := w.connect(fmt.Sprintf(`{"host":%s,"port":%d}`, host, port)).send(websocket.MessageBinary, "hello")
		c.until("the echo", func() bool { return c.raw.String() == "hello" })
	}
}

func TestProxyFailures(t *testing.T) {
	w := newWorld(t)
	free := listen(t, "127.0.0.1:0", echo)
	for _, target := range []string{`{"host":"localhost","port":1}`, `{"port":0}`, `{"port":70000}`, `{"port":"http"}`, `nonsense`, `{"host":"no.such.invalid","port":80}`} {
		c := w.connect(target).finish()
		if c.texts[0]["status"] != "error" || c.texts[0]["error"] == "" || c.close != 1011 {
			t.Error(target, c.texts, c.close)
		}
	}
	c := w.dial("proxy").send(websocket.MessageBinary, fmt.Sprintf(`{"port":%d}`, free)).finish()
	if c.close != 1003 {
		t.Error("a first message that is no text:", c.close)
	}
}

func TestTheEndOfATargetIsTold(t *testing.T) {
	w := newWorld(t)
	port := listen(t, "127.0.0.1:0", func(conn net.Conn) {
		io.ReadFull(conn, make([]byte, 5))
		io.WriteString(conn, strings.Repeat("bye", 1<<20))
	})
	c := w.connect(fmt.Sprintf(`{"port":%d}`, port)).send(websocket.MessageBinary, "hello").finish()
	if c.raw.Len() != 3<<20 || c.close != 1000 {
		t.Error(c.raw.Len(), c.close)
	}
}

func TestWhatAClientSentLastArrives(t *testing.T) {
	w := newWorld(t)
	got := make(chan int, 1)
	port := listen(t, "127.0.0.1:0", func(conn net.Conn) {
		io.WriteString(conn, "something unread")
		data, _ := io.ReadAll(conn)
		got <- len(data)
	})
	c := w.connect(fmt.Sprintf(`{"port":%d}`, port)).send(websocket.MessageBinary, strings.Repeat("x", 1<<20))
	c.ws.Close(1000, "")
	select {
	case n := <-got:
		if n != 1<<20 {
			t.Error(n)
		}
	case <-c.ctx.Done():
		t.Error("the target never saw the end")
	}
}

func TestPingsAreAnsweredWhileTheClientIsBusy(t *testing.T) {
	w := newWorld(t)
	c := w.dial(shell("", "yes | head -c 5000000; sleep 1; echo end"))
	ping := make(chan error, 1)
	go func() { ping <- c.ws.Ping(c.ctx) }()
	c.until("output", func() bool { return c.stdout.Len() >= 5000000 })
	if err := <-ping; err != nil {
		t.Error(err)
	}
	c.finish()
}

func TestPortsOfACommandAreTold(t *testing.T) {
	w := newWorld(t)
	other := listen(t, "127.0.0.1:0", echo)
	c := w.dial(command("stdin=true", "python3", "-c", "import socket,sys\ns=socket.create_server(('127.0.0.1',0))\nprint(s.getsockname()[1],flush=True)\nsys.stdin.read(1)\ns.close()\nsys.stdin.read()"))
	event := func(kind string) func() bool {
		return func() bool {
			for _, text := range c.texts {
				if text["type"] == kind && fmt.Sprintf("%v\n", text["port"]) == c.stdout.String() && text["address"] == "127.0.0.1" && fmt.Sprint(text["pid"]) == c.info["session_id"] {
					return true
				}
			}
			return false
		}
	}
	c.until("the port is told", event("port_opened"))
	c.send(websocket.MessageBinary, "\x00x")
	c.until("its end is told", event("port_closed"))
	c.send(websocket.MessageBinary, "\x04").finish()
	for _, text := range c.texts {
		if text["port"] == float64(other) {
			t.Error("a port of somebody else is told:", text)
		}
	}
}

func TestWatchPorts(t *testing.T) {
	w := newWorld(t)
	port := listen(t, "127.0.0.1:0", echo)
	c := w.dial("ports/watch")
	c.until("the list", func() bool { return len(c.texts) > 0 })
	found := false
	for _, entry := range c.texts[0]["ports"].([]any) {
		found = found || entry.(map[string]any)["port"] == float64(port)
	}
	if c.texts[0]["type"] != "port_list" || !found {
		t.Error(c.texts[0])
	}
	later := listen(t, "0.0.0.0:0", echo)
	c.until("the new port", func() bool {
		last := c.texts[len(c.texts)-1]
		return last["type"] == "port_opened" && last["port"] == float64(later) && (last["address"] == "0.0.0.0" || last["address"] == "::")
	})
}

func BenchmarkExec(b *testing.B) {
	w := newWorld(b)
	for b.Loop() {
		if c := w.dial(command("", "true")).finish(); c.code != 0 {
			b.Fatal(c.code)
		}
	}
}

func BenchmarkProxy(b *testing.B) {
	const size = 200 << 20
	w := newWorld(b)
	down := listen(b, "127.0.0.1:0", func(conn net.Conn) {
		piece := make([]byte, 256<<10)
		for range size / len(piece) {
			conn.Write(piece)
		}
	})
	up := listen(b, "127.0.0.1:0", func(conn net.Conn) {
		io.CopyN(io.Discard, conn, size)
		conn.Write([]byte("done"))
	})
	for _, c := range []struct {
		name string
		port int
		run  func(*talk)
	}{
		{"down", down, func(c *talk) {
			n := 0
			for {
				_, from, err := c.ws.Reader(c.ctx)
				if err != nil {
					break
				}
				m, _ := io.Copy(io.Discard, from)
				n += int(m)
			}
			if n != size {
				b.Fatal(n)
			}
		}},
		{"up", up, func(c *talk) {
			piece := bytes.Repeat([]byte("x"), 256<<10)
			for range size / len(piece) {
				if err := c.ws.Write(c.ctx, websocket.MessageBinary, piece); err != nil {
					b.Fatal(err)
				}
			}
			c.until("the end", func() bool { return c.raw.String() == "done" })
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				talk := w.directly("proxy").send(websocket.MessageText, fmt.Sprintf(`{"port":%d}`, c.port))
				talk.until("an answer", func() bool { return len(talk.texts) > 0 })
				c.run(talk)
				talk.ws.CloseNow()
			}
		})
	}
}

// directly opens a WebSocket to the daemon without a door between.
func (w *world) directly(route string) *talk {
	w.t.Helper()
	ctx := deadline(w.t)
	ws, _, err := websocket.Dial(ctx, w.daemon+"/sprite/"+route, &websocket.DialOptions{HTTPHeader: http.Header{"X-Atoll-Control": {control}}})
	if err != nil {
		w.t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	return &talk{t: w.t, ctx: ctx, ws: ws, code: -1, close: -1}
}
