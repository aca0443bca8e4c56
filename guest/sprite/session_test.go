package sprite_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// id is the session's.
func (c *talk) id() string {
	c.t.Helper()
	c.until("the session", func() bool { return c.info != nil })
	return c.info["session_id"].(string)
}

func TestAttachReplaysAndGoesOn(t *testing.T) {
	w := newWorld(t)
	first := w.dial(command("tty=true", "bash", "--norc"))
	first.send(websocket.MessageBinary, "echo be'fore'\r")
	first.until("output", func() bool { return strings.Contains(first.raw.String(), "before") })
	first.ws.CloseNow()
	for _, route := range []string{"exec/%s", "exec?id=%s", "exec?session_id=%s&tty=true"} {
		again := w.dial(fmt.Sprintf(route, first.id()))
		again.until("the replay", func() bool { return strings.Contains(again.raw.String(), "before") })
		if again.texts[0]["type"] != "session_info" || again.info["tty"] != true {
			t.Error(again.texts)
		}
		again.send(websocket.MessageBinary, "echo $((40+2))\r")
		again.until("new output", func() bool { return strings.Contains(again.raw.String(), "42") })
		again.ws.CloseNow()
	}
	last := w.dial("exec/"+first.id()).send(websocket.MessageBinary, "exit 3\r").finish()
	if last.exit["exit_code"] != 3.0 || last.close != 4003 {
		t.Error(last.exit, last.close)
	}
}

func TestAttachToACommand(t *testing.T) {
	w := newWorld(t)
	first := w.dial(shell("stdin=true&detachable=true", "echo out; echo err >&2; cat; exit 9"))
	first.until("output", func() bool { return first.stdout.Len() > 0 && first.stderr.Len() > 0 })
	first.ws.CloseNow()
	again := w.dial("exec/" + first.id() + "?stdin=true")
	again.send(websocket.MessageBinary, "\x00more").send(websocket.MessageBinary, "\x04").finish()
	if again.stdout.String() != "out\nmore" || again.stderr.String() != "err\n" || again.code != 9 || again.close != 1000 {
		t.Errorf("%q %q %d %d", again.stdout.String(), again.stderr.String(), again.code, again.close)
	}
}

// The published Go client takes a terminal's output for frames when its caller
// did not know better, and sends an end of input.
func TestAttachByTheGoClient(t *testing.T) {
	w := newWorld(t)
	first := w.dial(command("tty=true", "bash", "--norc", "-i"))
	first.send(websocket.MessageBinary, "echo be'fore'\r")
	first.until("output", func() bool { return strings.Contains(first.raw.String(), "before") })
	trapped := w.dial("exec/"+first.id()+"?stdin=false", "User-Agent", "Go-http-client/1.1")
	trapped.send(websocket.MessageBinary, "\x04")
	trapped.until("the replay in frames", func() bool { return strings.Contains(trapped.stdout.String(), "before") })
	first.send(websocket.MessageBinary, "exit 5\r")
	trapped.finish()
	if trapped.code != 5 || trapped.frames != 1 || trapped.close != 1000 || trapped.exit == nil {
		t.Error(trapped.code, trapped.frames, trapped.close, trapped.exit)
	}
}

func TestReplayIsBounded(t *testing.T) {
	w := newWorld(t)
	first := w.dial(shell("tty=true", "stty -onlcr; seq 200000; echo end; read x"))
	first.until("all of it", func() bool { return strings.HasSuffix(first.raw.String(), "end\n") })
	again := w.dial("exec/" + first.id())
	again.until("the end", func() bool { return strings.HasSuffix(again.raw.String(), "end\n") })
	replay := again.raw.String()
	if len(replay) < 64<<10 || len(replay) > 300<<10 || !strings.HasSuffix(first.raw.String(), "\n"+replay) {
		t.Errorf("%d bytes, %.40q", len(replay), replay)
	}
	if first.raw.Len() < 1_200_000 {
		t.Error("the first client lost some:", first.raw.Len())
	}
}

func TestSessionsWithoutClients(t *testing.T) {
	w := newWorld(t)
	mark := filepath.Join(w.home, "ended")
	script := "trap 'touch " + mark + "; exit' TERM; echo ready; while :; do sleep 0.02; done"
	for _, c := range []struct {
		parameters string
		ends       bool
	}{{"max_run_after_disconnect=20ms", true}, {"max_run_after_disconnect=0", false}, {"detachable=true", false}, {"tty=true", false}} {
		os.Remove(mark)
		client := w.dial(shell(c.parameters, script))
		client.until("the start", func() bool { return strings.Contains(client.raw.String(), "ready") })
		client.ws.CloseNow()
		if c.ends {
			eventually(t, "the session ends", func() bool { _, err := os.Stat(mark); return err == nil && len(w.sessions()) == 0 })
			continue
		}
		eventually(t, "the client has left", func() bool {
			// One that is alone at a session says so.
			other := w.dial("exec/" + client.id())
			other.id()
			other.ws.CloseNow()
			return other.info["is_owner"] == true
		})
		if _, err := os.Stat(mark); err == nil || len(w.sessions()) != 1 {
			t.Error(c.parameters, "the session is gone")
		}
		w.do("POST", "exec/"+client.id()+"/kill?signal=KILL", "")
	}
}

func TestComingBackInTime(t *testing.T) {
	w := newWorld(t)
	client := w.dial(command("max_run_after_disconnect=300ms", "sleep", "60"))
	id := client.id()
	client.ws.CloseNow()
	again := w.dial("exec/" + id)
	again.id()
	time.Sleep(400 * time.Millisecond)
	if len(w.sessions()) != 1 {
		t.Error("the session ended though its client came back")
	}
}

func TestKill(t *testing.T) {
	w := newWorld(t)
	stubborn := `trap "" TERM; echo ready; while :; do sleep 0.02; done`
	for _, c := range []struct {
		name, script, query, body string
		types                     string
		code                      any
	}{
		{"TERM by default", "echo ready; exec sleep 60", "", "", "signal exited complete", 143.0},
		{"by query", "echo ready; exec sleep 60", "?signal=INT&timeout=5s", "", "signal exited complete", 130.0},
		{"by JSON", "echo ready; exec sleep 60", "", `{"signal":"SIGKILL","timeout":10}`, "signal exited complete", 137.0},
		{"one that does not listen", stubborn, "?timeout=50ms", "", "signal timeout killed complete", 137.0},
		{"only a signal", stubborn, "?signal=TERM&timeout=0s", "", "signal complete", 0.0},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := w.dial(shell("", c.script))
			client.until("the start", func() bool { return strings.Contains(client.stdout.String(), "ready") })
			status, body, _ := w.do("POST", "exec/"+client.id()+"/kill"+c.query, c.body)
			var types []string
			var last map[string]any
			for line := range strings.Lines(body) {
				last = nil
				if err := json.Unmarshal([]byte(line), &last); err != nil {
					t.Fatal(line, err)
				}
				types = append(types, last["type"].(string))
			}
			if status != 200 || strings.Join(types, " ") != c.types || last["exit_code"] != c.code {
				t.Error(status, body)
			}
			if c.types != "signal complete" {
				client.finish()
				if float64(client.code) != c.code {
					t.Error("the client saw", client.code)
				}
				eventually(t, "it is told from one that never was", func() bool {
					status, _, _ := w.do("POST", "exec/"+client.id()+"/kill", "")
					return status == 410
				})
			}
		})
	}
	if status, body, _ := w.do("POST", "exec/99999999/kill", ""); status != 404 || !strings.HasPrefix(body, "session not found") {
		t.Error(status, body)
	}
	for _, query := range []string{"?signal=NONE", "?timeout=soon", "?timeout=-1s"} {
		if status, body, _ := w.do("POST", "exec/1/kill"+query, ""); status != 400 {
			t.Error(query, status, body)
		}
	}
}

func TestAClientThatNeverReadsStopsNobodyElse(t *testing.T) {
	w := newWorld(t)
	// A raw connection whose client only asks.
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.daemon, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /sprite/%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Atoll-Control: %s\r\n\r\n", shell("detachable=true", "head -c 40000000 /dev/zero; echo; echo end"), control)
	answer, err := http.ReadResponse(bufio.NewReaderSize(io.LimitReader(conn, 400), 400), nil)
	if err != nil || answer.StatusCode != 101 {
		t.Fatal(answer, err)
	}
	eventually(t, "the command runs", func() bool { return len(w.sessions()) == 1 })
	if other := w.dial(command("", "echo", "others")).finish(); other.stdout.String() != "others\n" {
		t.Error(other.stdout.String())
	}
	// One who reads the same session goes on when patience with the first ends.
	second := w.dial("exec/" + w.sessions()[0]["id"].(string))
	second.finish()
	if !strings.HasSuffix(second.stdout.String(), "\nend\n") || second.code != 0 || second.stdout.Len() < 10_000_000 {
		t.Errorf("%d bytes, code %d", second.stdout.Len(), second.code)
	}
}

func TestInputThatNobodyReadsIsBounded(t *testing.T) {
	w := newWorld(t)
	client := w.dial(command("stdin=true", "sleep", "60"))
	id := client.id()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		piece := append([]byte{0}, bytes.Repeat([]byte("x"), 1<<20)...)
		for client.ws.Write(client.ctx, websocket.MessageBinary, piece) == nil {
		}
	}()
	w.do("POST", "exec/"+id+"/kill?signal=KILL", "")
	client.finish()
	if client.code != 137 {
		t.Error(client.code)
	}
	client.ws.CloseNow()
	<-sent
}

func TestActivityOfSessionsThatNobodyWatches(t *testing.T) {
	w := newWorld(t)
	client := w.dial(shell("detachable=true", "while :; do echo x; sleep 0.05; done"))
	client.until("output", func() bool { return client.stdout.Len() > 0 })
	if w.touched.Load() != 0 {
		t.Error("a session that is watched is told")
	}
	client.ws.CloseNow()
	eventually(t, "activity is told", func() bool { return w.touched.Load() > 0 })
	w.do("POST", "exec/"+client.id()+"/kill?signal=KILL", "")
}

func TestHTTPExec(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ name, route, body, want string }{
		{"streams and code", shell("", "echo out; sleep 0.05; echo err >&2; exit 7"), "", "\x01out\n\x02err\n\x03\x07"},
		{"input", command("stdin=true", "tr", "a-z", "A-Z"), "text", "\x01TEXT\x03\x00"},
		{"no program", command("", "no-such-program"), "", "\x02cannot start the process: \"no-such-program\" is not an executable in PATH\n\x03\x7f"},
		{"input that nobody reads", command("stdin=true", "true"), strings.Repeat("x", 1<<20), "\x03\x00"},
	} {
		status, body, head := w.do("POST", c.route, c.body)
		if status != 200 || body != c.want || head.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%s: %d %q %v", c.name, status, body, head)
		}
	}
	if status, _, _ := w.do("POST", command("env=x", "true"), ""); status != 400 {
		t.Error(status)
	}
}

// Clients take what they read at once for a frame.
func TestHTTPFramesComeOneByOne(t *testing.T) {
	w := newWorld(t)
	response, err := http.Post(w.at(shell("", "seq 20000; echo oops >&2; exit 3")), "application/octet-stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var out, errs, exit []byte
	buffer := make([]byte, 64<<10)
	for err == nil {
		var n int
		n, err = response.Body.Read(buffer)
		if n == 0 {
			continue
		}
		switch buffer[0] {
		case 1:
			out = append(out, buffer[1:n]...)
		case 2:
			errs = append(errs, buffer[1:n]...)
		case 3:
			exit = append(exit, buffer[1:n]...)
		default:
			t.Fatalf("a read began with %q", buffer[0])
		}
	}
	if !bytes.HasSuffix(out, []byte("\n20000\n")) || len(out) != 108894 || string(errs) != "oops\n" || !bytes.Equal(exit, []byte{3}) {
		t.Errorf("%d bytes, %q, %v", len(out), errs, exit)
	}
}

func TestFramesCutShort(t *testing.T) {
	w := newWorld(t)
	for _, frame := range []string{"\x82", "\x82\x85", "\x82\x85\x01\x02\x03\x04", "\x82\xfe\xff\xff\x00\x00\x00\x00\x00ab", "\x89\x80", "\x88\x82\x00\x00\x00\x00\x03",
		"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00a", "\x81\x7f", "\xff\xff\xff", "\x80\x80\x00\x00\x00\x00"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.daemon, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET /sprite/%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Atoll-Control: %s\r\n\r\n%s", command("stdin=true&max_run_after_disconnect=1ms", "sleep", "60"), control, frame)
		conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, conn)
		conn.Close()
	}
	eventually(t, "what they started has ended", func() bool { return len(w.sessions()) == 0 })
}
