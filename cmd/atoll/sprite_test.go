package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/client/doortest"
)

// withSprites is a command line in an empty folder, at a door with the sprite
// web.
func withSprites(t *testing.T) (cli, *doortest.Door) {
	d := doortest.New(t, "")
	d.Sprites.Add("web")
	t.Chdir(t.TempDir())
	return at(t, d), d
}

// sprite runs a command that must succeed.
func (c cli) sprite(t *testing.T, args ...string) result {
	t.Helper()
	got := c.run(append([]string{"sprite"}, args...)...)
	if got.code != 0 {
		t.Fatalf("sprite %v: %+v", args, got)
	}
	return got
}

func TestWhichSpriteIsMeant(t *testing.T) {
	c, d := withSprites(t)
	d.Sprites.Add("other")
	if got := c.run("sprite", "url"); got.code != codeUsage || !strings.Contains(got.err, "hint: name it with -s") {
		t.Errorf("of none: %+v", got)
	}
	if got := c.run("sprite", "use", "nobody"); got.code != 1 || !strings.Contains(got.err, "atoll sprite list") {
		t.Errorf("use of what is not there: %+v", got)
	}
	c.sprite(t, "use", "web")
	b, err := os.ReadFile(spriteFile)
	var h map[string]string
	if err != nil || json.Unmarshal(b, &h) != nil || h["sprite"] != "web" || h["organization"] != doortest.SpriteOrg {
		t.Errorf("the file is %s, %v", b, err)
	}
	if err := os.Mkdir("below", 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir("below")
	if got := c.sprite(t, "url"); got.out != "http://web.localhost\n" {
		t.Errorf("below the folder: %+v", got)
	}
	if got := c.sprite(t, "url", "-s", "other"); got.out != "http://other.localhost\n" {
		t.Errorf("with -s: %+v", got)
	}
	if got := c.run("sprite", "info", "-s", "other", "web"); got.code != codeUsage {
		t.Errorf("of two: %+v", got)
	}
	if got := c.run("sprite", "list", "-o", "strangers"); got.code != codeUsage || !strings.Contains(got.err, "belongs to") {
		t.Errorf("with another organisation: %+v", got)
	}
	c.sprite(t, "destroy", "--force")
	if got := c.run("sprite", "use"); got.code != 1 || len(d.Sprites.Names()) != 1 {
		t.Errorf("of one that is gone: %+v, left %v", got, d.Sprites.Names())
	}
}

func TestSpriteCredentials(t *testing.T) {
	c, d := withSprites(t)
	c.env = map[string]string{"ATOLL_DATA": t.TempDir(), "SPRITES_API_URL": d.URL, "SPRITE_TOKEN": doortest.APIKey, "E2B_API_KEY": "e2b_other", "E2B_API_URL": "http://127.0.0.1:1"}
	if got := c.sprite(t, "list", "-q"); got.out != "web\n" {
		t.Errorf("%+v", got)
	}
	c.env["SPRITE_TOKEN"] = "wrong"
	if got := c.run("sprite", "list"); got.code != 1 || !strings.Contains(got.err, "Invalid token") || !strings.Contains(got.err, "hint: ") {
		t.Errorf("with a wrong token: %+v", got)
	}
	delete(c.env, "SPRITE_TOKEN")
	if got := c.run("sprite", "list"); got.code != 1 || !strings.Contains(got.err, "set SPRITE_TOKEN") {
		t.Errorf("with an address alone: %+v", got)
	}
}

func TestWrongUseOfSprites(t *testing.T) {
	c, _ := withSprites(t)
	for _, args := range [][]string{
		{"nonsense"}, {"create"}, {"create", "x", "--from", "@v1"}, {"create", "x", "--url-auth", "all"}, {"exec", "-s", "web"}, {"console", "web"},
		{"exec", "-s", "web", "--file", "x", "--", "true"}, {"checkpoint", "nonsense"}, {"restore", "-s", "web"}, {"proxy", "-s", "web"},
		{"proxy", "-s", "web", "x"}, {"proxy", "-s", "web", "1:2:3:4"}, {"url", "update", "-s", "web"}, {"url", "nonsense"}, {"config", "update", "-s", "web"},
		{"services", "create", "-s", "web"}, {"services", "create", "-s", "web", "a"}, {"sessions", "kill", "-s", "web"}, {"destroy", "web"},
		{"policy", "-s", "web", "--open", "--allow", "x"}, {"file", "pull", "-s", "web"}, {"list", "extra"},
		{"config", "update", "-s", "web", "--org-access", "maybe"},
	} {
		if got := c.run(append([]string{"sprite"}, args...)...); got.code != codeUsage || !strings.HasPrefix(got.err, "atoll: ") || got.out != "" {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

func TestSpritesFromCreateToDestroy(t *testing.T) {
	c, d := withSprites(t)
	c.env["SECRET"] = "s3"
	if got := c.sprite(t, "create", "new", "--label", "a,b", "-e", "K=V", "-e", "SECRET"); got.out != "new\n" {
		t.Errorf("create: %+v", got)
	}
	var one client.Sprite
	if got := c.sprite(t, "info", "new", "--json"); json.Unmarshal([]byte(got.out), &one) != nil || one.Environment["SECRET"] != "s3" || len(one.Labels) != 2 {
		t.Errorf("info: %+v", got)
	}
	if got := c.run("sprite", "create", "new"); got.code != 1 || !strings.Contains(got.err, "hint: \"atoll sprite console -s new\"") {
		t.Errorf("create of what is there: %+v", got)
	}
	if got := c.sprite(t, "list"); !strings.Contains(got.out, "NAME") || !strings.Contains(got.out, "http://new.localhost") {
		t.Errorf("list: %+v", got)
	}
	if got := c.sprite(t, "list", "-w", "--prefix", "n"); !strings.Contains(got.out, "running  new") || strings.Contains(got.out, "web") {
		t.Errorf("list -w: %+v", got)
	}
	c.sprite(t, "url", "update", "-s", "new", "--auth", "public")
	if got := c.sprite(t, "url", "-s", "new", "--json"); !strings.Contains(got.out, `"public"`) {
		t.Errorf("url: %+v", got)
	}
	c.sprite(t, "config", "update", "-s", "new", "--url-auth", "default", "--clear-labels")
	c.sprite(t, "config", "update", "-s", "new", "--org-access", "off")
	if got := c.sprite(t, "info", "new"); !strings.Contains(got.out, "URL auth      sprite\n") || strings.Contains(got.out, "Labels") {
		t.Errorf("info: %+v", got)
	}
	for _, verb := range []string{"restart", "upgrade"} {
		if got := c.sprite(t, verb, "new"); !strings.Contains(got.err, "new was ") {
			t.Errorf("%s: %+v", verb, got)
		}
	}
	c.sprite(t, "destroy", "new", "--force")
	if names := d.Sprites.Names(); len(names) != 1 {
		t.Errorf("left: %v", names)
	}
}

func TestSpriteExecPassesEverythingThrough(t *testing.T) {
	c, _ := withSprites(t)
	c.sprite(t, "use", "web")
	c.env["PASSED"] = "on"
	c.in = "from stdin\n"
	file := filepath.Join(t.TempDir(), "sent")
	if err := os.WriteFile("here", []byte("pushed\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got := c.run("sprite", "exec", "-e", "A=1,B=x,y", "-e", "PASSED", "--dir", "/tmp", "--file", "here:"+file, "--",
		"sh", "-c", "cat; cat "+file+"; echo $A $B $PASSED $PWD; echo err >&2; exit 7")
	if want := (result{"from stdin\npushed\n1 x,y on /tmp\n", "err\n", 7}); got != want {
		t.Errorf("%+v", got)
	}
	for script, code := range map[string]int{"exit 0": 0, "kill -KILL $$": 137, "exit 2": 2} {
		if got := c.run("sprite", "x", "sh", "-c", script); got.code != code || got.err != "" {
			t.Errorf("%s: %+v", script, got)
		}
	}
	if got := c.run("sprite", "exec", "no-such-program"); got.code != codeNotFound {
		t.Errorf("%+v", got)
	}
	if got := c.run("sprite", "exec", "/etc/passwd"); got.code != codeNotExecutable {
		t.Errorf("%+v", got)
	}
	if got := c.run("sprite", "exec", "-s", "nobody", "true"); got.code != 1 || !strings.Contains(got.err, "there is no sprite \"nobody\"") {
		t.Errorf("%+v", got)
	}
	if got := c.run("sprite", "exec", "--tty", "--", "sh", "-c", "tty -s && stty size; cat"); got.code != 0 || !strings.Contains(got.out, "24 80\r\n") {
		t.Errorf("with a terminal, from a script: %+v", got)
	}
}

func TestSpriteSignalsGoToTheProgram(t *testing.T) {
	c, _ := withSprites(t)
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		code := run([]string{"sprite", "exec", "-s", "web", "--", "sh", "-c", "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"},
			strings.NewReader(""), w, io.Discard, func(k string) string { return c.env[k] })
		w.Close()
		done <- code
	}()
	if _, err := io.ReadFull(r, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	// To this process, as a terminal would send it.
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err != nil || string(rest) != "caught\n" {
		t.Errorf("then came %q, %v", rest, err)
	}
	if code := <-done; code != 5 {
		t.Errorf("exit code %d", code)
	}
}

func TestSpriteConsoleIsLeftAndComeBackTo(t *testing.T) {
	c, d := withSprites(t)
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	if err := pty.Setsize(slave, &pty.Winsize{Rows: 33, Cols: 101}); err != nil {
		t.Fatal(err)
	}
	screen := &screen{changed: make(chan struct{}, 1)}
	go io.Copy(screen, master)
	open := func(args ...string) <-chan int {
		done := make(chan int, 1)
		go func() {
			done <- run(append([]string{"sprite"}, args...), slave, slave, slave, func(k string) string { return c.env[k] })
		}()
		return done
	}
	typed := func(s string) {
		if _, err := master.WriteString(s); err != nil {
			t.Fatal(err)
		}
	}
	done := open("create", "fresh")
	screen.await(t, "created fresh in ")
	typed("stty size; kept=yes; echo re''ady\r")
	screen.await(t, "33 101")
	screen.await(t, "ready")
	typed("\x1c")
	screen.await(t, "left session 101 running")
	if code := <-done; code != 0 {
		t.Errorf("left with exit code %d", code)
	}
	if got := c.sprite(t, "sessions", "list", "-s", "fresh"); !strings.Contains(got.out, "101") || !strings.Contains(got.out, "bash -l") {
		t.Errorf("sessions: %+v", got)
	}
	if err := pty.Setsize(slave, &pty.Winsize{Rows: 44, Cols: 111}); err != nil {
		t.Fatal(err)
	}
	done = open("attach", "-s", "fresh")
	// A read of the first command may still wait for keys, and then it gets some.
	typed("\r\r")
	typed("until [ \"$(stty size)\" = '44 111' ]; do sleep 0.05; done; echo has-''$kept\r")
	screen.await(t, "has-yes")
	d.Break()
	// Keys sent to a connection before its end is noticed are lost with it.
	screen.await(t, "\x1b[2J\x1b[H")
	typed("echo back-''$kept\r")
	screen.await(t, "back-yes")
	typed("exit 6\r")
	if code := <-done; code != 6 {
		t.Errorf("exit code %d", code)
	}
}

func TestSpriteSessionsInTheBackground(t *testing.T) {
	c, _ := withSprites(t)
	id := strings.TrimSpace(c.sprite(t, "exec", "-s", "web", "--detach", "--", "sleep", "60").out)
	if id != "101" {
		t.Errorf("its id is %q", id)
	}
	if got := c.run("sprite", "exec", "-s", "web", "--detach", "no-such-program"); got.code != codeNotFound || got.out != "" || got.err == "" {
		t.Errorf("of what is not there: %+v", got)
	}
	if got := c.run("sprite", "attach", "-s", "web"); got.code != 1 || !strings.Contains(got.err, "nothing was left running with a terminal") {
		t.Errorf("attach: %+v", got)
	}
	if got := c.sprite(t, "sessions", "kill", "-s", "web", id); got.out != id+"\n" {
		t.Errorf("kill: %+v", got)
	}
	if got := c.run("sprite", "sessions", "kill", "-s", "web", "7"); got.code != 1 || !strings.Contains(got.err, "sessions list") {
		t.Errorf("kill of none: %+v", got)
	}
	if got := c.run("sprite", "attach", "-s", "web", "7"); got.code != 1 || !strings.Contains(got.err, "session not found: 7") || !strings.Contains(got.err, "sessions list") {
		t.Errorf("attach to none: %+v", got)
	}
}

func TestSpriteCheckpointsAndRestore(t *testing.T) {
	c, d := withSprites(t)
	c.sprite(t, "use", "web")
	if got := c.sprite(t, "checkpoint", "create", "--comment", "evil \x1b[31m"); got.out != "v1\n" {
		t.Errorf("create: %+v", got)
	}
	var made client.Checkpoint
	if got := c.sprite(t, "checkpoint", "create", "--memory", "--json"); json.Unmarshal([]byte(got.out), &made) != nil || made.ID != "v2" || !made.Memory {
		t.Errorf("create --json: %+v", got)
	}
	if got := c.sprite(t, "restore", "v1"); !strings.Contains(got.err, "web is as it was at v1") || len(d.Sprites.Restored("web")) != 1 {
		t.Errorf("restore: %+v", got)
	}
	if got := c.sprite(t, "checkpoint", "list"); strings.ContainsRune(got.out, 0x1b) || !strings.Contains(got.out, "v1 ") || strings.Contains(got.out, "pre-restore") {
		t.Errorf("list: %+v", got)
	}
	if got := c.sprite(t, "checkpoint", "list", "--include-auto"); !strings.Contains(got.out, "pre-restore-v1-") {
		t.Errorf("list: %+v", got)
	}
	if got := c.run("sprite", "restore", "v9"); got.code != 1 || !strings.Contains(got.err, "checkpoint not found: v9") || !strings.Contains(got.err, "checkpoint list") {
		t.Errorf("restore of none: %+v", got)
	}
	c.sprite(t, "create", "--from", "web@v1", "--skip-console", "again")
	c.sprite(t, "create", "--from", "web", "once-more")
	if got := c.run("sprite", "create", "--from", "again", "x"); got.code != 1 || !strings.Contains(got.err, "has no checkpoint") {
		t.Errorf("create from none: %+v", got)
	}
	if got := c.sprite(t, "checkpoint", "delete", "v1"); got.out != "v1\n" {
		t.Errorf("delete: %+v", got)
	}
	if got := c.run("sprite", "checkpoint", "info", "v1"); got.code != 1 || !strings.Contains(got.err, "hint: ") {
		t.Errorf("info of none: %+v", got)
	}
}

func TestSpriteServiceCommands(t *testing.T) {
	c, _ := withSprites(t)
	c.sprite(t, "use", "web")
	if got := c.sprite(t, "services", "create", "site", "--http-port", "3000", "--needs", "db,cache", "--", "npm", "run", "-x"); got.out != "listening\n" {
		t.Errorf("create: %+v", got)
	}
	var v client.Service
	if got := c.sprite(t, "services", "get", "site", "--json"); json.Unmarshal([]byte(got.out), &v) != nil || strings.Join(v.Args, " ") != "run -x" || len(v.Needs) != 2 {
		t.Errorf("get: %+v", got)
	}
	c.sprite(t, "service", "create", "db", "--cmd", "postgres", "--args", "-D,data", "--no-stream")
	if got := c.sprite(t, "services", "list"); !strings.Contains(got.out, "3000") || !strings.Contains(got.out, "postgres -D data") {
		t.Errorf("list: %+v", got)
	}
	if got := c.sprite(t, "services", "logs", "site"); got.out != "a line of site\n" || got.err != "an error\n" {
		t.Errorf("logs: %+v", got)
	}
	if got := c.sprite(t, "services", "logs", "site", "--json"); strings.Count(got.out, "\n") != 3 {
		t.Errorf("logs --json: %+v", got)
	}
	c.sprite(t, "services", "stop", "site")
	if got := c.run("sprite", "services", "stop", "site"); got.code != 1 || !strings.Contains(got.err, "not running") {
		t.Errorf("stop of one that is stopped: %+v", got)
	}
	c.sprite(t, "services", "start", "site")
	c.sprite(t, "services", "restart", "site")
	c.sprite(t, "services", "signal", "site", "sighup")
	c.sprite(t, "services", "delete", "site", "db")
	if got := c.run("sprite", "services", "start", "site"); got.code != 1 || !strings.Contains(got.err, "services list") {
		t.Errorf("start of none: %+v", got)
	}
}

func TestSpriteFileCommands(t *testing.T) {
	c, _ := withSprites(t)
	c.sprite(t, "use", "web")
	there := t.TempDir()
	write := func(path, text string) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o751); err != nil {
			t.Fatal(err)
		}
	}
	is := func(path, text string) {
		t.Helper()
		b, err := os.ReadFile(path)
		info, _ := os.Stat(path)
		if err != nil || string(b) != text || info.Mode().Perm() != 0o751 {
			t.Errorf("%s: %q, %v", path, b, err)
		}
	}
	write("tree/a", "one")
	write("tree/sub/b", "two")
	var told copied
	if got := c.sprite(t, "file", "push", "tree/a", there, "--json"); json.Unmarshal([]byte(got.out), &told) != nil || told.Bytes != 3 {
		t.Errorf("push --json: %+v", got)
	}
	is(filepath.Join(there, "a"), "one")
	c.sprite(t, "file", "push", "tree/a", filepath.Join(there, "new", "name"))
	is(filepath.Join(there, "new", "name"), "one")
	c.sprite(t, "file", "push", "tree", there)
	is(filepath.Join(there, "tree", "sub", "b"), "two")
	c.sprite(t, "file", "pull", filepath.Join(there, "tree"), "back")
	is("back/sub/b", "two")
	c.sprite(t, "file", "pull", filepath.Join(there, "a"))
	is("a", "one")
	if got := c.sprite(t, "file", "pull", filepath.Join(there, "a"), "-"); got.out != "one" {
		t.Errorf("pull to standard output: %+v", got)
	}
	c.env["EDITOR"] = "sh -c 'printf edited >\"$1\"' sh"
	c.sprite(t, "file", "edit", filepath.Join(there, "a"))
	is(filepath.Join(there, "a"), "edited")
	c.env["EDITOR"] = "true"
	if got := c.sprite(t, "file", "edit", filepath.Join(there, "a")); !strings.Contains(got.err, "is as it was") {
		t.Errorf("edit without a change: %+v", got)
	}
	if got := c.sprite(t, "file", "ls", there); !strings.Contains(got.out, "tree/") {
		t.Errorf("ls: %+v", got)
	}
	c.sprite(t, "file", "rm", "-r", filepath.Join(there, "tree"))
	if got := c.run("sprite", "file", "pull", filepath.Join(there, "tree")); got.code != 1 {
		t.Errorf("pull of what is gone: %+v", got)
	}
}

func TestSpriteProxy(t *testing.T) {
	c, _ := withSprites(t)
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	defer server.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- run([]string{"sprite", "proxy", "-s", "web", "0:127.0.0.1:" + port}, strings.NewReader(""), w, io.Discard, func(k string) string { return c.env[k] })
	}()
	said := make([]byte, 100)
	n, err := r.Read(said)
	if err != nil {
		t.Fatal(err)
	}
	address, _, _ := strings.Cut(string(said[:n]), " is port ")
	res, err := http.Get("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	syscall.Kill(os.Getpid(), syscall.SIGINT)
	if code := <-done; code != 0 {
		t.Errorf("exit code %d", code)
	}
	c.in = "GET / HTTP/1.0\r\n\r\n"
	if got := c.sprite(t, "proxy", "-s", "web", "-W", "127.0.0.1:"+port); !strings.HasSuffix(got.out, "hello") {
		t.Errorf("-W: %+v", got)
	}
	if got := c.run("sprite", "proxy", "-s", "nobody", "8080"); got.code != 1 {
		t.Errorf("to nobody: %+v", got)
	}
}

func TestSpritePolicy(t *testing.T) {
	c, _ := withSprites(t)
	c.sprite(t, "use", "web")
	if got := c.sprite(t, "policy"); !strings.Contains(got.err, "anywhere") {
		t.Errorf("%+v", got)
	}
	if got := c.sprite(t, "policy", "--defaults", "--allow", "*.example.com", "--deny", "x.example.com"); !strings.Contains(got.out, "(defaults)") || !strings.Contains(got.out, "deny    x.example.com") {
		t.Errorf("%+v", got)
	}
	c.in = `{"rules":[{"domain":"*","action":"allow"}]}`
	if got := c.sprite(t, "policy", "--file", "-", "--json"); !strings.Contains(got.out, `"*"`) {
		t.Errorf("%+v", got)
	}
	if got := c.sprite(t, "policy", "--open", "--json"); strings.Contains(got.out, `"*"`) {
		t.Errorf("%+v", got)
	}
}
