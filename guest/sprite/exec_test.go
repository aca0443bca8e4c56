package sprite_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestCommandsOverWebSocket(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, route, stdin string
		out, err           string
		code               int
	}{
		{"output and code", shell("stdin=false", "echo out; echo err >&2; exit 42"), "", "out\n", "err\n", 42},
		{"input to its end", command("stdin=true", "cat"), "some input", "some input", "", 0},
		{"no input without being asked", command("", "cat"), "", "", "", 0},
		{"environment over the base", shell("env=A=1%3D2&env=B=", `echo "$A|$B|$FROM_INIT|$HOME|${PATH:+path}"`), "", "1=2||yes|" + w.home + "|path\n", "", 0},
		{"home is where it begins", command("", "pwd"), "", w.home + "\n", "", 0},
		{"elsewhere", command("dir=/usr", "pwd"), "", "/usr\n", "", 0},
		{"another program than its name", command("path=sh", "name", "-c", "echo $0"), "", "name\n", "", 0},
		{"no command is a shell", "exec?stdin=true", "echo hello", "hello\n", "", 0},
		{"no program", command("", "no-such-program"), "", "", "cannot start the process: \"no-such-program\" is not an executable in PATH\n", 127},
		{"not executable", command("", "/etc"), "", "", "cannot start the process '/etc': permission denied\n", 126},
		{"no folder", command("dir=/nowhere", "true"), "", "", "cannot start the process: cwd '/nowhere' does not exist or is not a directory\n", 126},
		{"killed by a signal", shell("", "kill -TERM $$"), "", "", "", 143},
		{"children that hold the output", shell("", "sleep 30 & echo done"), "", "done\n", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := w.dial(c.route)
			if c.stdin != "" {
				client.send(websocket.MessageBinary, "\x00"+c.stdin)
			}
			client.send(websocket.MessageBinary, "\x04").finish()
			if client.stdout.String() != c.out || client.stderr.String() != c.err || client.code != c.code || client.close != 1000 {
				t.Errorf("got %q, %q, %d, close %d", client.stdout.String(), client.stderr.String(), client.code, client.close)
			}
			if client.frames != 1 || fmt.Sprint(client.exit) != fmt.Sprintf("map[code:%d exit_code:%[1]d type:exit]", c.code) {
				t.Errorf("exit: %d frames and %v", client.frames, client.exit)
			}
		})
	}
}

func TestTheFirstMessageTellsTheSession(t *testing.T) {
	w := newWorld(t)
	client := w.dial(command("", "true")).finish()
	if client.head.Get("X-Sprite-Capabilities") != "signal" {
		t.Error(client.head)
	}
	first := client.texts[0]
	id, isText := first["session_id"].(string)
	if first["type"] != "session_info" || !isText || id == "" || first["is_owner"] != true || first["tty"] != false || !strings.HasSuffix(first["command"].(string), "/true") {
		t.Error(first)
	}
}

func TestTerminals(t *testing.T) {
	w := newWorld(t)
	client := w.dial(shell("tty=true&rows=31&cols=101", "stty size; tty; read x; stty size; echo $TERM; exit 7"))
	client.until("the first size", func() bool { return strings.Contains(client.raw.String(), "31 101") })
	client.send(websocket.MessageText, `{"type":"resize","rows":22,"cols":77}`)
	client.send(websocket.MessageBinary, "\r").finish()
	out := client.raw.String()
	if !strings.Contains(out, "/dev/") || !strings.Contains(out, "22 77") || !strings.Contains(out, "xterm") {
		t.Errorf("%q", out)
	}
	if client.exit["exit_code"] != 7.0 || client.exit["code"] != 7.0 || client.close != 4007 {
		t.Error(client.exit, client.close)
	}
	if client.info["rows"] != 31.0 || client.info["cols"] != 101.0 || client.info["tty"] != true {
		t.Error(client.info)
	}
	good := w.dial(command("tty=true", "stty", "size")).finish()
	if good.close != 1000 || !strings.Contains(good.raw.String(), "24 80") {
		t.Error(good.close, good.raw.String())
	}
}

func TestAClientWithoutInputDoesNotEndATerminal(t *testing.T) {
	w := newWorld(t)
	client := w.dial(command("tty=true&stdin=false", "bash", "--norc", "-i"))
	client.send(websocket.MessageBinary, "\x04")
	client.until("the session", func() bool { return client.info != nil })
	other := w.dial("exec/" + client.info["session_id"].(string))
	other.send(websocket.MessageBinary, "echo still $((40+2))\r")
	other.until("the answer", func() bool { return strings.Contains(other.raw.String(), "still 42") })
	other.send(websocket.MessageBinary, "exit\r").finish()
}

func TestSignals(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ name, want string }{{"INT", "got INT\n"}, {"SIGTERM", "got TERM\n"}, {"USR1", "got USR1\n"}} {
		client := w.dial(shell("", `for s in INT TERM USR1; do trap "echo got $s; exit 3" $s; done; echo ready; while :; do sleep 0.02; done`))
		client.until("the traps", func() bool { return strings.Contains(client.stdout.String(), "ready") })
		client.send(websocket.MessageText, `{"type":"signal","signal":"`+c.name+`"}`).finish()
		if client.stdout.String() != "ready\n"+c.want || client.code != 3 {
			t.Errorf("%s: %q, %d", c.name, client.stdout.String(), client.code)
		}
	}
}

func TestInterruptReachesTheForeground(t *testing.T) {
	w := newWorld(t)
	client := w.dial(command("tty=true", "bash", "--norc", "-i"))
	client.send(websocket.MessageBinary, "sh -c 'echo run'ning'; exec sleep 60'\r")
	client.until("the command", func() bool { return strings.Contains(client.raw.String(), "running") })
	client.send(websocket.MessageText, `{"type":"signal","signal":"INT"}`)
	client.send(websocket.MessageBinary, "echo code $?; exit 0\r").finish()
	if !strings.Contains(client.raw.String(), "code 130") || client.close != 1000 {
		t.Errorf("%q %d", client.raw.String(), client.close)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, route, text string
		status            int
	}{
		{"variable without a value", command("env=NOTHING", "true"), "env", 400},
		{"NUL in an argument", "exec?cmd=a%00b", "NUL", 400},
		{"rows that are no number", command("rows=many", "true"), "rows", 400},
		{"a duration that is none", command("max_run_after_disconnect=soon", "true"), "max_run_after_disconnect", 400},
		{"no such session", "exec/999999", "session not found: 999999", 404},
		{"no such session, as of old", "exec?id=999999", "session not found: 999999", 404},
	} {
		_, response, err := w.tryDial(c.route)
		if err == nil || response == nil || response.StatusCode != c.status {
			t.Errorf("%s: %v %v", c.name, response, err)
			continue
		}
		body := make([]byte, 1000)
		n, _ := response.Body.Read(body)
		if !strings.Contains(string(body[:n]), c.text) {
			t.Errorf("%s: %q", c.name, body[:n])
		}
	}
	if status, body, _ := w.do("GET", "exec/1", ""); status != 400 {
		t.Error(status, body)
	}
	if status, body, _ := w.do("GET", "nothing/here", ""); status != 404 {
		t.Error(status, body)
	}
	if response, err := http.Get(w.daemon + "/sprite/exec"); err != nil || response.StatusCode != 401 {
		t.Error("without the host's token:", response, err)
	}
}

// sessions returns the list that the API gives.
func (w *world) sessions() []map[string]any {
	w.t.Helper()
	status, body, _ := w.do("GET", "exec", "")
	var list struct {
		Count    int
		Sessions []map[string]any
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil || status != 200 || list.Count != len(list.Sessions) {
		w.t.Fatal(status, body, err)
	}
	return list.Sessions
}

func TestListOfSessions(t *testing.T) {
	w := newWorld(t)
	if status, body, _ := w.do("GET", "exec", ""); status != 200 || body != `{"count":0,"sessions":[]}` {
		t.Error(status, body)
	}
	if status, _, _ := w.do("HEAD", "exec", ""); status != 200 {
		t.Error(status)
	}
	client := w.dial(command("dir=/usr&tty=true", "cat"))
	client.until("the session", func() bool { return client.info != nil })
	list := w.sessions()
	if len(list) != 1 || list[0]["id"] != client.info["session_id"] || list[0]["workdir"] != "/usr" || list[0]["tty"] != true || list[0]["is_active"] != true {
		t.Fatal(list)
	}
	if created, err := time.Parse(time.RFC3339, list[0]["created"].(string)); err != nil || time.Since(created) > time.Minute {
		t.Error(list[0]["created"], err)
	}
	client.send(websocket.MessageBinary, "\x04").finish()
	eventually(t, "the session is gone", func() bool { return len(w.sessions()) == 0 })
}
