package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	sprites "github.com/superfly/sprites-go"
)

var tests = []test{
	{"sprites", testSprites},
	{"refusals", testRefusals},
	{"exec", testExec},
	{"exec with control connections asked for", testControl},
	{"terminal", testTerminal},
	{"signals", testSignals},
	{"sessions", testSessions},
	{"attach as the SDK's example does", testAttachPlain},
	{"files", testFiles},
	{"services", testServices},
	{"proxy", testProxy},
	{"checkpoints", testCheckpoints},
	{"policy", testPolicy},
	{"tokens", testTokens},
}

func testSprites(ctx context.Context, t *suite) error {
	prefix := t.freshName()
	for _, c := range "abc" {
		name := fmt.Sprintf("%s-%c", prefix, c)
		if _, err := t.client.CreateSpriteWithOrg(ctx, name, &sprites.SpriteConfig{RamMB: 512}, nil, []string{"x"}); err != nil {
			return err
		}
		defer t.client.DestroySprite(ctx, name)
	}
	page, err := t.client.ListSprites(ctx, &sprites.ListOptions{Prefix: prefix, MaxResults: 2})
	if err != nil {
		return err
	}
	every, err := t.client.ListAllSpritesResult(ctx, prefix, nil)
	if err != nil {
		return err
	}
	name := prefix + "-a"
	err = t.client.UpdateSprite(ctx, name, &sprites.UpdateSpriteRequest{ClearLabels: true, URLSettings: &sprites.URLSettings{Auth: "public"}})
	if err != nil {
		return err
	}
	got, err := t.client.GetSprite(ctx, name)
	if err != nil {
		return err
	}
	return all(
		same("the page", len(page.Sprites), 2), same("more", page.HasMore, true),
		same("all", len(every.Sprites), 3), same("running", every.Org.Running >= 3, true),
		same("labels", got.Labels, "[]"), same("auth", got.URLSettings.Auth, "public"), same("status", got.Status, "running"),
		t.client.UpgradeSprite(ctx, name), t.client.UpdateURLSettings(ctx, name, &sprites.URLSettings{Auth: "sprite"}),
		same("version", t.client.SpriteVersion() != "", true),
	)
}

func testRefusals(ctx context.Context, t *suite) error {
	for _, name := range []string{"", "Big", "a.b", "80-x", "api", strings.Repeat("x", 64)} {
		_, err := t.client.CreateSprite(ctx, name, nil)
		if e := sprites.IsAPIError(err); e == nil || e.StatusCode != 400 || e.ErrorCode == "" || e.Message == "" {
			return fmt.Errorf("the name %q: %v", name, err)
		}
	}
	_, err := t.client.CreateSprite(ctx, t.sprite.Name(), nil)
	if e := sprites.IsAPIError(err); e == nil || e.StatusCode != 409 {
		return fmt.Errorf("a name that is taken: %v", err)
	}
	if _, err := t.client.GetSprite(ctx, "no-such-sprite"); err == nil || !strings.Contains(err.Error(), "not found") {
		return fmt.Errorf("a sprite that is not there: %v", err)
	}
	if err := newClient().Sprite("no-such-sprite").CommandContext(ctx, "true").Run(); err == nil {
		return errors.New("a command ran in a sprite that is not there")
	}
	_, err = sprites.New("nonsense", sprites.WithBaseURL(os.Getenv("SPRITES_API_URL"))).ListSprites(ctx, nil)
	if e := sprites.IsAPIError(err); e == nil || e.StatusCode != 401 {
		return fmt.Errorf("a wrong token: %v", err)
	}
	return nil
}

// execOf checks commands of one client.
func execOf(ctx context.Context, s *sprites.Sprite) error {
	out, err := s.CommandContext(ctx, "echo", "hello", "world").Output()
	if err := all(err, same("output", string(out), "hello world\n")); err != nil {
		return err
	}
	failing := s.CommandContext(ctx, "sh", "-c", "echo err >&2; exit 42")
	var stderr bytes.Buffer
	failing.Stderr = &stderr
	err = failing.Run()
	var exit *sprites.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 42 || stderr.String() != "err\n" {
		return fmt.Errorf("exit 42 is %v, %q", err, stderr.String())
	}
	cat := s.CommandContext(ctx, "wc", "-c")
	cat.Stdin = strings.NewReader(strings.Repeat("x", 200_000))
	out, err = cat.Output()
	if err := all(err, same("counted", strings.TrimSpace(string(out)), "200000")); err != nil {
		return err
	}
	where := s.CommandContext(ctx, "sh", "-c", "pwd; echo $A; tty")
	where.Dir, where.Env = "/usr", []string{"A=b c"}
	out, err = where.Output()
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		return fmt.Errorf("tty without a terminal: %v", err)
	}
	if err := same("directory and environment", string(out), "/usr\nb c\nnot a tty\n"); err != nil {
		return err
	}
	errs := make([]error, 10)
	var wait sync.WaitGroup
	for i := range errs {
		wait.Go(func() {
			out, err := s.CommandContext(ctx, "echo", fmt.Sprint(i)).Output()
			errs[i] = all(err, same("output", string(out), fmt.Sprintln(i)))
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

func testExec(ctx context.Context, t *suite) error {
	return execOf(ctx, newClient(sprites.WithDisableControl()).Sprite(t.sprite.Name()))
}

func testControl(ctx context.Context, t *suite) error {
	client := newClient()
	defer client.Close()
	return execOf(ctx, client.Sprite(t.sprite.Name()))
}

func testTerminal(ctx context.Context, t *suite) error {
	c := t.sprite.CommandContext(ctx, "sh", "-c", "tty; stty size; read line; echo got $line; exit 3")
	c.SetTTY(true)
	if err := c.SetTTYSize(33, 99); err != nil {
		return err
	}
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	c.Stdout = &out
	if err := c.Start(); err != nil {
		return err
	}
	if _, err := io.WriteString(in, "hello\n"); err != nil {
		return err
	}
	err = c.Wait()
	var exit *sprites.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		return fmt.Errorf("the exit is %v; output %q", err, out.String())
	}
	if text := out.String(); !regexp.MustCompile(`/dev/\S+\r\n[\s\S]*33 99\r\n[\s\S]*got hello`).MatchString(text) {
		return fmt.Errorf("output %q", text)
	}
	return nil
}

func testSignals(ctx context.Context, t *suite) error {
	c := t.sprite.CommandContext(ctx, "sh", "-c", `trap "exit 9" TERM; echo ready; while :; do sleep 0.05; done`)
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		return err
	}
	go io.Copy(io.Discard, out)
	if err := c.Signal("TERM"); err != nil {
		return err
	}
	err = c.Wait()
	var exit *sprites.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 9 {
		return fmt.Errorf("the exit is %v", err)
	}
	return nil
}

// leaveSession starts a session and leaves it.
func leaveSession(ctx context.Context, t *suite) (*sprites.Session, error) {
	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	c := t.sprite.CommandContext(starting, "sh", "-c", "echo started; read line; echo got $line; exit 5")
	c.SetTTY(true)
	if _, err := c.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(out, make([]byte, 7)); err != nil {
		return nil, fmt.Errorf("read the start: %w", err)
	}
	go io.Copy(io.Discard, out)
	sessions, err := t.sprite.ListSessions(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(sessions, func(s *sprites.Session) bool { return strings.Contains(s.Command, "echo started") })
	if i < 0 || !sessions[i].TTY {
		return nil, fmt.Errorf("the session is not in the list %+v", sessions)
	}
	return sessions[i], nil
}

func testSessions(ctx context.Context, t *suite) error {
	session, err := leaveSession(ctx, t)
	if err != nil {
		return err
	}
	again := t.sprite.AttachSessionContext(ctx, session.ID)
	again.SetTTY(true)
	return finishSession(again)
}

func testAttachPlain(ctx context.Context, t *suite) error {
	session, err := leaveSession(ctx, t)
	if err != nil {
		return err
	}
	return finishSession(t.sprite.AttachSessionContext(ctx, session.ID))
}

func finishSession(c *sprites.Cmd) error {
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	c.Stdout = &out
	if err := c.Start(); err != nil {
		return err
	}
	if _, err := io.WriteString(in, "bye\n"); err != nil {
		return err
	}
	err = c.Wait()
	var exit *sprites.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 5 || !strings.Contains(out.String(), "started") || !strings.Contains(out.String(), "got bye") {
		return fmt.Errorf("the session ended with %v and said %q", err, out.String())
	}
	return nil
}

func testFiles(_ context.Context, t *suite) error {
	f := t.sprite.FilesystemAt("/home/sprite")
	if err := f.WriteFile("deep/file.txt", []byte("hello"), 0o640); err != nil {
		return err
	}
	data, err := f.ReadFile("deep/file.txt")
	if err := all(err, same("content", string(data), "hello")); err != nil {
		return err
	}
	info, err := f.Stat("deep/file.txt")
	if err != nil {
		return err
	}
	if err := all(same("size", info.Size(), 5), same("mode", info.Mode().Perm(), fs.FileMode(0o640))); err != nil {
		return err
	}
	if err := all(f.MkdirAll("deep/er/and/er", 0o755), f.Rename("deep/file.txt", "deep/er/other.txt"), f.Chmod("deep/er/other.txt", 0o600), f.Copy("deep/er", "copy")); err != nil {
		return err
	}
	entries, err := f.ReadDir("deep/er")
	if err := all(err, same("entries", len(entries), 2)); err != nil {
		return err
	}
	if _, err := f.ReadFile("nope"); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("a file that is not there: %v", err)
	}
	return all(f.Remove("copy/other.txt"), f.RemoveAll("deep"), f.RemoveAll("copy"))
}

func testServices(ctx context.Context, t *suite) error {
	port := 7777
	stream, err := t.sprite.CreateServiceWithDuration(ctx, "echo", &sprites.ServiceRequest{
		Cmd: "python3", Args: []string{"-m", "http.server", "7777"}, HTTPPort: &port,
	}, time.Second)
	if err != nil {
		return err
	}
	last := ""
	if err := stream.ProcessAll(func(e *sprites.ServiceLogEvent) error { last = e.Type; return nil }); err != nil {
		return err
	}
	got, err := t.sprite.GetService(ctx, "echo")
	if err != nil {
		return err
	}
	list, err := t.sprite.ListServices(ctx)
	if err := all(err, same("last event", last, "complete"), same("status", got.State.Status, "running"), same("services", len(list), 1)); err != nil {
		return err
	}
	if err := t.sprite.SignalService(ctx, "echo", "CONT"); err != nil {
		return err
	}
	if stream, err = t.sprite.StopServiceWithTimeout(ctx, "echo", 5*time.Second); err != nil {
		return err
	}
	if err := stream.ProcessAll(func(*sprites.ServiceLogEvent) error { return nil }); err != nil {
		return err
	}
	if stream, err = t.sprite.StartServiceWithDuration(ctx, "echo", time.Second); err != nil {
		return err
	}
	return stream.ProcessAll(func(*sprites.ServiceLogEvent) error { return nil })
}

// testProxy uses the service of the test before it.
func testProxy(ctx context.Context, t *suite) error {
	ask := func(c net.Conn) error {
		defer c.Close()
		if _, err := io.WriteString(c, "HEAD / HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		head := make([]byte, 12)
		_, err := io.ReadFull(c, head)
		return all(err, same("the answer", string(head), "HTTP/1.0 200"))
	}
	c, err := t.sprite.ProxySocket(ctx, "tcp", "localhost:7777")
	if err != nil {
		return err
	}
	if err := ask(c); err != nil {
		return fmt.Errorf("by socket: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	session, err := t.sprite.ProxyPort(ctx, port, 7777)
	if err != nil {
		return err
	}
	defer session.Close()
	for range 5 {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		if err := ask(c); err != nil {
			return fmt.Errorf("by port: %w", err)
		}
	}
	return t.sprite.DeleteService(ctx, "echo")
}

func testCheckpoints(ctx context.Context, t *suite) error {
	sh := func(script string) (string, error) {
		out, err := t.sprite.CommandContext(ctx, "sh", "-c", script).Output()
		return string(out), err
	}
	if _, err := sh("echo one > ~/state"); err != nil {
		return err
	}
	stream, err := t.sprite.CreateCheckpointWithComment(ctx, "from Go")
	if err != nil {
		return err
	}
	id := ""
	err = stream.ProcessAll(func(m *sprites.StreamMessage) error { id = regexp.MustCompile(`v\d+`).FindString(m.Data); return nil })
	if err != nil || id == "" {
		return fmt.Errorf("the id is %q: %v", id, err)
	}
	if _, err := sh("echo two > ~/state"); err != nil {
		return err
	}
	restore, err := t.sprite.RestoreCheckpoint(ctx, id)
	if err != nil {
		return err
	}
	last := sprites.StreamMessage{}
	if err := restore.ProcessAll(func(m *sprites.StreamMessage) error { last = *m; return nil }); err != nil {
		return err
	}
	state, err := sh("cat ~/state")
	if err := all(err, same("the last message", last.Type, "complete"), same("the state", state, "one\n")); err != nil {
		return err
	}
	list, err := t.sprite.ListCheckpoints(ctx, "")
	if err != nil {
		return err
	}
	auto, err := t.sprite.ListCheckpointsWithOptions(ctx, sprites.ListCheckpointsOptions{IncludeAuto: true})
	if err != nil {
		return err
	}
	one, err := t.sprite.GetCheckpoint(ctx, id)
	if err != nil {
		return err
	}
	if _, err := t.sprite.GetCheckpoint(ctx, "v999"); err == nil {
		return errors.New("a checkpoint is there that was never taken")
	}
	return all(same("checkpoints", len(list), 1), same("with automatic ones", len(auto), 2), same("comment", one.Comment, "from Go"))
}

func testPolicy(ctx context.Context, t *suite) error {
	want := &sprites.NetworkPolicy{Rules: []sprites.NetworkPolicyRule{{Include: "defaults"}, {Domain: "*.example.test", Action: "allow"}}}
	if err := t.sprite.UpdateNetworkPolicy(ctx, want); err != nil {
		return err
	}
	got, err := t.sprite.GetNetworkPolicy(ctx)
	if err := all(err, same("the policy", fmt.Sprint(got.Rules), fmt.Sprint(want.Rules))); err != nil {
		return err
	}
	bad := &sprites.NetworkPolicy{Rules: []sprites.NetworkPolicyRule{{Domain: "not a domain", Action: "allow"}}}
	if err := t.sprite.UpdateNetworkPolicy(ctx, bad); err == nil || !strings.Contains(err.Error(), "invalid policy") {
		return fmt.Errorf("a wrong policy: %v", err)
	}
	return t.sprite.UpdateNetworkPolicy(ctx, &sprites.NetworkPolicy{Rules: []sprites.NetworkPolicyRule{}})
}

// testTokens makes a token as the SDK does, from a key in place of what the
// vendor's tool has.
func testTokens(ctx context.Context, _ *suite) error {
	token, err := sprites.CreateToken(ctx, os.Getenv("SPRITE_TOKEN"), "default", "", os.Getenv("SPRITES_API_URL"))
	if err != nil {
		return err
	}
	_, err = sprites.New(token, sprites.WithBaseURL(os.Getenv("SPRITES_API_URL"))).ListSprites(ctx, nil)
	return err
}
