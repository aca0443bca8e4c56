package sprite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// last returns the type of the last text.
func (c *talk) last() any {
	if len(c.texts) == 0 {
		return nil
	}
	return c.texts[len(c.texts)-1]["type"]
}

// forget empties what was heard, before the next operation.
func (c *talk) forget() {
	c.texts, c.info, c.exit, c.frames, c.code = nil, nil, nil, 0, -1
	c.stdout.Reset()
	c.stderr.Reset()
	c.raw.Reset()
}

func TestControlConnections(t *testing.T) {
	w := newWorld(t)
	c := w.dial("control")
	complete := func() bool { return c.last() == "op.complete" }
	c.send(websocket.MessageText, `control:{"type":"op.start","op":"exec","args":{"cmd":["sh","-c","cat; echo $A >&2; exit 4"],"env":["A=1"],"stdin":"true","dir":"/"}}`)
	c.send(websocket.MessageBinary, "\x00input").send(websocket.MessageBinary, "\x04")
	c.until("the end", complete)
	if c.stdout.String() != "input" || c.stderr.String() != "1\n" || c.code != 4 || c.exit["exit_code"] != 4.0 || c.texts[0]["type"] != "session_info" {
		t.Errorf("%q %q %d %v", c.stdout.String(), c.stderr.String(), c.code, c.texts)
	}
	if fmt.Sprint(c.texts[len(c.texts)-1]["args"]) != "map[exitCode:4]" {
		t.Error(c.texts)
	}
	c.forget()
	c.send(websocket.MessageText, `control:{"type":"op.start","op":"exec","args":{"cmd":["sh","-c","stty size; read x; stty size; exit 5"],"tty":"true","rows":"30","cols":"90"}}`)
	c.until("the first size", func() bool { return strings.Contains(c.raw.String(), "30 90") })
	c.send(websocket.MessageText, `control:{"type":"op.start","op":"exec","args":{"cmd":["true"]}}`)
	c.until("one at a time", func() bool { return c.last() == "op.error" })
	// The published JavaScript client sends instructions as binary messages.
	c.send(websocket.MessageBinary, `{"type":"resize","cols":70,"rows":20}`).send(websocket.MessageBinary, "\r")
	c.until("the end", complete)
	if !strings.Contains(c.raw.String(), "20 70") || c.exit["exit_code"] != 5.0 {
		t.Errorf("%q %v", c.raw.String(), c.exit)
	}
	c.forget()
	c.send(websocket.MessageText, `control:{"type":"op.start","op":"exec","args":{"cmd":["sleep","60"]}}`)
	c.until("the session", func() bool { return c.info != nil })
	c.send(websocket.MessageBinary, `{"type":"signal","signal":"SIGTERM"}`)
	c.until("the end", complete)
	if c.code != 143 {
		t.Error(c.code)
	}
	c.forget()
	c.send(websocket.MessageText, `control:{"type":"op.start","op":"exec","args":{"cmd":["no-such-program"]}}`)
	c.until("the end", complete)
	if c.code != 127 {
		t.Error(c.code)
	}
	for _, bad := range []string{`{"type":"op.start","op":"dance"}`, `{"type":"op.start","op":"exec","args":{"cmd":["true"],"env":["X"]}}`, `{"type":"op.start","op":"exec","args":{"id":"99999999","cmd":[""]}}`, `{"type":"op.start","op":"exec","args":7}`} {
		c.forget()
		c.send(websocket.MessageText, "control:"+bad)
		c.until("an error", func() bool { return c.last() == "op.error" })
	}
	c.forget()
	c.send(websocket.MessageText, "rubbish").send(websocket.MessageBinary, "rubbish").send(websocket.MessageText, `{"type":"release"}`)
	c.send(websocket.MessageText, `control:{"type":"op.start","op":"exec","args":{"cmd":["echo","on"]}}`)
	c.until("it goes on", complete)
}

func TestTheGoClientIsToldThatThereIsNoControl(t *testing.T) {
	w := newWorld(t)
	if _, response, err := w.tryDial("control", "User-Agent", "sprites-go-sdk/1.0"); err == nil || response.StatusCode != 404 {
		t.Error(response, err)
	}
}

func TestAttachOverControl(t *testing.T) {
	w := newWorld(t)
	first := w.dial(command("tty=true", "bash", "--norc"))
	c := w.dial("control").send(websocket.MessageText, `control:{"type":"op.start","op":"exec","args":{"id":"`+first.id()+`","cmd":[""],"path":""}}`)
	c.until("the session", func() bool { return c.info != nil })
	if c.info["tty"] != true || c.info["is_owner"] != false {
		t.Error(c.info)
	}
	c.send(websocket.MessageBinary, "exit 6\r").until("the end", func() bool { return c.last() == "op.complete" })
	if first.finish(); first.close != 4006 {
		t.Error(first.close)
	}
	if auto := w.dial("control?op=exec&cmd=echo&cmd=auto"); auto.until("the end", func() bool { return auto.last() == "op.complete" }).stdout.String() != "auto\n" {
		t.Error(auto.stdout.String())
	}
}

func TestLeavingControlLeavesTheSession(t *testing.T) {
	w := newWorld(t)
	c := w.dial("control").send(websocket.MessageText, `control:{"type":"op.start","op":"exec","args":{"cmd":["cat"],"tty":"true"}}`)
	id := c.id()
	c.ws.CloseNow()
	again := w.dial("exec/"+id).send(websocket.MessageBinary, "\x04").finish()
	if again.close != 1000 {
		t.Error(again.close)
	}
}

func TestFilesOverControl(t *testing.T) {
	w := newWorld(t)
	c := w.dial("control")
	do := func(op, args string) map[string]any {
		t.Helper()
		c.forget()
		c.send(websocket.MessageText, `{"type":"op.start","op":"`+op+`","args":"`+args+`"}`)
		if op == "fs.write" {
			c.send(websocket.MessageBinary, strings.Repeat("content ", 100_000))
		}
		c.until("the end", func() bool { return c.last() == "op.complete" || c.last() == "op.error" })
		return c.texts[0]
	}
	if got := do("fs.write", "path=a%2Fb.txt&mode=0600"); got["size"] != 800000.0 || got["mode"] != "0600" {
		t.Error(got)
	}
	if got := do("fs.read", "path=a%2Fb.txt&start=8&end=15"); got["size"] != 7.0 || c.raw.String() != "content" {
		t.Error(got, c.raw.String())
	}
	if got := do("fs.list", "path=a"); got["count"] != 1.0 {
		t.Error(got)
	}
	if got := do("fs.rename", "source=a%2Fb.txt&dest=a%2Fc.txt"); got["dest"] != filepath.Join(w.home, "a/c.txt") {
		t.Error(got)
	}
	if got := do("fs.read", "path=a%2Fb.txt"); got["code"] != "ENOENT" || c.last() != "op.error" {
		t.Error(got)
	}
	if got := do("fs.delete", "path=a&recursive=true"); got["count"] != 1.0 {
		t.Error(got)
	}
	if _, err := os.Stat(filepath.Join(w.home, "a")); err == nil {
		t.Error("it is still there")
	}
}

func TestProxyOverControl(t *testing.T) {
	w := newWorld(t)
	port := listen(t, "127.0.0.1:0", echo)
	c := w.dial("control")
	for range 2 {
		c.forget()
		c.send(websocket.MessageText, fmt.Sprintf(`{"type":"start","operation":"proxy","params":{"host":"localhost","port":%d,"keep_alive":true}}`, port))
		c.until("the answer", func() bool { return len(c.texts) > 0 })
		if c.texts[0]["status"] != "connected" {
			t.Error(c.texts)
		}
		c.send(websocket.MessageBinary, "hello").until("the echo", func() bool { return c.raw.String() == "hello" })
		c.send(websocket.MessageText, `{"type":"release"}`).until("the end", func() bool { return c.last() == "op.complete" })
	}
}
