package client_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/client/doortest"
)

// withSprite is a client of a door with one sprite, web.
func withSprite(t *testing.T) (*client.Client, *client.SpriteGuest, *doortest.Door) {
	d := doortest.New(t, "")
	d.Sprites.Add("web")
	c := d.Client(t)
	return c, c.SpriteGuest("web"), d
}

func TestSpritesAreListedThroughAllPages(t *testing.T) {
	c, _, d := withSprite(t)
	d.Sprites.PageSize = 2
	for _, n := range []string{"a", "b", "c", "d"} {
		if s, err := c.CreateSprite(t.Context(), client.NewSprite{Name: n}); err != nil || s.Name != n || s.URL == "" {
			t.Fatalf("create %s: %+v, %v", n, s, err)
		}
	}
	all, org, err := c.Sprites(t.Context(), "")
	if err != nil || len(all) != 5 || org.Name != doortest.SpriteOrg {
		t.Errorf("%d listed, %+v, %v", len(all), org, err)
	}
	if some, _, err := c.Sprites(t.Context(), "w"); err != nil || len(some) != 1 || some[0].Name != "web" {
		t.Errorf("beginning with w: %+v, %v", some, err)
	}
	if _, err := c.CreateSprite(t.Context(), client.NewSprite{Name: "a"}); client.Status(err) != 409 || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second a: %v", err)
	}
	if err := c.DeleteSprite(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if _, err := c.Sprite(t.Context(), "a"); !client.IsNotFound(err) {
		t.Errorf("of one that is gone: %v", err)
	}
}

func TestSpriteProgramsPassEverythingThrough(t *testing.T) {
	_, g, _ := withSprite(t)
	p, err := g.Start(t.Context(), client.SpriteCommand{Stdin: true, Env: map[string]string{"A": "1=2"}, Dir: "/tmp",
		Args: []string{"sh", "-c", "cat; echo $A $PWD; echo oops >&2; exit 7"}})
	if err != nil {
		t.Fatal(err)
	}
	if p.ID == "" || p.TTY {
		t.Errorf("the session is %+v", p)
	}
	in := bytes.Repeat([]byte("0123456789abcdef"), 10_000) // more than one frame carries
	go func() {
		p.Write(t.Context(), in)
		p.CloseStdin(t.Context())
	}()
	var out, errOut bytes.Buffer
	code, err := p.Copy(t.Context(), &out, &errOut)
	if err != nil || code != 7 || out.String() != string(in)+"1=2 /tmp\n" || errOut.String() != "oops\n" {
		t.Errorf("code %d, %v, %d bytes, %q", code, err, out.Len(), errOut.String())
	}
	if _, err := g.Output(t.Context(), client.SpriteCommand{Args: []string{"false"}}, 10); err == nil || !strings.Contains(err.Error(), "exit code 1") {
		t.Errorf("of one that fails: %v", err)
	}
	if code := codeOf(t, g, "no-such-program"); code != 127 {
		t.Errorf("of what is not there: exit code %d", code)
	}
	if code := codeOf(t, g, "sh", "-c", "kill -KILL $$"); code != 137 {
		t.Errorf("of one that was killed: exit code %d", code)
	}
}

func codeOf(t *testing.T, g *client.SpriteGuest, args ...string) int {
	t.Helper()
	p, err := g.Start(t.Context(), client.SpriteCommand{Args: args})
	if err != nil {
		t.Fatal(err)
	}
	code, err := p.Copy(t.Context(), io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestSpriteSessionsAreLeftAndComeBackTo(t *testing.T) {
	_, g, _ := withSprite(t)
	p, err := g.Start(t.Context(), client.SpriteCommand{TTY: &client.Size{Cols: 100, Rows: 30}, Args: []string{"sh", "-c", "stty size; read line; echo got $line; exit 5"}})
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	all, err := g.Sessions(t.Context())
	if err != nil || len(all) != 1 || all[0].ID != p.ID || !all[0].TTY {
		t.Fatalf("%+v, %v", all, err)
	}
	again, err := g.Attach(t.Context(), p.ID)
	if err != nil || !again.TTY {
		t.Fatalf("%+v, %v", again, err)
	}
	if err := again.Write(t.Context(), []byte("this\r")); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	code, err := again.Copy(t.Context(), &out, io.Discard)
	if err != nil || code != 5 || !strings.Contains(out.String(), "30 100") || !strings.Contains(out.String(), "got this") {
		t.Errorf("code %d, %v, %q", code, err, out.String())
	}
	if _, err := g.Attach(t.Context(), "77"); !client.IsNotFound(err) {
		t.Errorf("to what is not there: %v", err)
	}
}

func TestSpriteSignals(t *testing.T) {
	_, g, d := withSprite(t)
	start := func() *client.SpriteProcess {
		p, err := g.Start(t.Context(), client.SpriteCommand{Args: []string{"sleep", "60"}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := start()
	if err := p.Signal(t.Context(), "TERM"); err != nil {
		t.Fatal(err)
	}
	if code, err := p.Copy(t.Context(), io.Discard, io.Discard); err != nil || code != 143 {
		t.Errorf("code %d, %v", code, err)
	}
	p = start()
	var steps []string
	err := g.KillSession(t.Context(), p.ID, "KILL", time.Second, func(e client.KillEvent) { steps = append(steps, e.Type) })
	if got := strings.Join(steps, " "); err != nil || got != "signal exited complete" {
		t.Errorf("%s, %v", got, err)
	}
	if code, err := p.Copy(t.Context(), io.Discard, io.Discard); err != nil || code != 137 {
		t.Errorf("code %d, %v", code, err)
	}
	p = start()
	d.Break()
	if _, err := p.Copy(t.Context(), io.Discard, io.Discard); !errors.Is(err, client.ErrBroken) {
		t.Errorf("of a connection that broke: %v", err)
	}
	// What was asked for with a question that may be repeated takes a new connection.
	if all, err := g.Sessions(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	if err := g.KillSession(t.Context(), p.ID, "KILL", 0, nil); err != nil {
		t.Error(err)
	}
}

func TestSpriteCheckpoints(t *testing.T) {
	_, g, d := withSprite(t)
	steps := 0
	id, err := g.Checkpoint(t.Context(), client.NewCheckpoint{Comment: "first"}, func(client.SpriteEvent) { steps++ })
	if err != nil || id != "v1" || steps != 2 {
		t.Fatalf("%q after %d steps, %v", id, steps, err)
	}
	if err := g.Restore(t.Context(), id, nil); err != nil {
		t.Fatal(err)
	}
	if got := d.Sprites.Restored("web"); len(got) != 1 || got[0] != id {
		t.Errorf("restored %v", got)
	}
	for auto, n := range map[bool]int{false: 1, true: 2} {
		if all, err := g.Checkpoints(t.Context(), auto); err != nil || len(all) != n {
			t.Errorf("%d listed, %v", len(all), err)
		}
	}
	if cp, err := g.CheckpointInfo(t.Context(), id); err != nil || cp.Comment != "first" {
		t.Errorf("%+v, %v", cp, err)
	}
	if err := g.Restore(t.Context(), "v9", nil); !client.IsNotFound(err) || !strings.Contains(err.Error(), "checkpoint not found: v9") {
		t.Errorf("of what is not there: %v", err)
	}
	broken, err := g.Checkpoint(t.Context(), client.NewCheckpoint{Comment: "broken"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Restore(t.Context(), broken, nil); err == nil || err.Error() != "the disk is full" {
		t.Errorf("of a failure in the middle: %v", err)
	}
	if err := g.DeleteCheckpoint(t.Context(), id); err != nil {
		t.Error(err)
	}
}

func TestSpriteServices(t *testing.T) {
	_, g, _ := withSprite(t)
	var seen []string
	note := func(e client.ServiceEvent) error { seen = append(seen, e.Type); return nil }
	port := 3000
	if err := g.PutService(t.Context(), "web", client.NewService{Cmd: "npm", Args: []string{"start"}, HTTPPort: &port}, time.Second, note); err != nil {
		t.Fatal(err)
	}
	if err := g.StopService(t.Context(), "web", time.Second, note); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(seen, " "); got != "started stdout complete stopping stopped complete" {
		t.Errorf("it told of %s", got)
	}
	if err := g.StopService(t.Context(), "web", time.Second, note); client.Status(err) != 409 {
		t.Errorf("stopped twice: %v", err)
	}
	all, err := g.Services(t.Context())
	if err != nil || len(all) != 1 || all[0].State.Status != "stopped" || *all[0].HTTPPort != 3000 {
		t.Errorf("%+v, %v", all, err)
	}
	if err := g.SignalService(t.Context(), "web", "HUP"); err != nil {
		t.Error(err)
	}
	if err := g.DeleteService(t.Context(), "web"); err != nil {
		t.Error(err)
	}
	if _, err := g.Service(t.Context(), "web"); !client.IsNotFound(err) {
		t.Errorf("of one that is gone: %v", err)
	}
}

func TestSpriteFiles(t *testing.T) {
	_, g, _ := withSprite(t)
	path := filepath.Join(t.TempDir(), "new", "file")
	if err := g.WriteFile(t.Context(), path, 0o751, strings.NewReader("text")); err != nil {
		t.Fatal(err)
	}
	r, size, err := g.ReadFile(t.Context(), path)
	if err != nil || size != 4 {
		t.Fatalf("size %d, %v", size, err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "text" {
		t.Errorf("%q, %v", b, err)
	}
	all, err := g.Files(t.Context(), filepath.Dir(path))
	if err != nil || len(all) != 1 || all[0].Perm() != 0o751 {
		t.Errorf("%+v, %v", all, err)
	}
	if err := g.RemoveFile(t.Context(), filepath.Dir(path), true); err != nil {
		t.Error(err)
	}
	if _, err := g.Files(t.Context(), path); !client.IsNotFound(err) {
		t.Errorf("of what is gone: %v", err)
	}
}

func TestSpritePorts(t *testing.T) {
	_, g, _ := withSprite(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.CopyN(c, c, 1<<20)
	}()
	conn, err := g.Dial(t.Context(), "127.0.0.1", l.Addr().(*net.TCPAddr).Port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sent := bytes.Repeat([]byte("x"), 1<<20)
	go conn.Write(sent)
	back, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(back, sent) {
		t.Errorf("%d bytes came back, %v", len(back), err)
	}
	if _, err := g.Dial(t.Context(), "127.0.0.1", 1); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("to a port that is closed: %v", err)
	}
}
