package test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/test/harness"
)

// TestSpritesSDKs runs what the three published SDKs for Sprites promise, side
// by side: most of the time they wait.
func TestSpritesSDKs(t *testing.T) {
	s := upSprites(t)
	javaScript := append([]string{harness.Node24(repository), "--test", "--test-concurrency=3",
		"--test-reporter=./reporter.mjs", "--test-reporter-destination=stdout"}, glob("js", "sprites/*.test.mjs")...)
	for name, suite := range map[string]struct {
		dir     string
		command []string
	}{
		"js": {"js", javaScript},
		"py": {"py", python("sprites_sdk.py")},
		"go": {"go", []string{"go", "run", "."}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runSuite(t, s, suite.dir, suite.command)
		})
	}
}

func glob(dir, pattern string) []string {
	files, _ := filepath.Glob(filepath.Join(repository, "test", dir, filepath.FromSlash(pattern)))
	return files
}

// upSprites starts a server that has the template of sprites.
func upSprites(t testing.TB, flags ...string) *server {
	t.Helper()
	s := up(t, append([]string{"--templates", "sprite"}, flags...)...)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	if err := s.AwaitTemplate(ctx, "sprite"); err != nil {
		t.Fatal(err)
	}
	return s
}

// newSprite makes a sprite.
func (s *server) newSprite(name string) client.Sprite {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	sprite, err := s.Client.CreateSprite(ctx, client.NewSprite{Name: name})
	if err != nil {
		s.t.Fatalf("create: %v", err)
	}
	return sprite
}

// inSprite runs a shell script in a sprite over plain HTTP and returns its
// output, errors included.
func (s *server) inSprite(name, script string) string {
	s.t.Helper()
	q := url.Values{"cmd": {"sh", "-c", script + " 2>&1"}}
	status, body := s.api(http.MethodPost, "/v1/sprites/"+name+"/exec?"+q.Encode(), "")
	// One frame or more of output, and one of the exit code.
	if status != http.StatusOK || len(body) < 2 || body[len(body)-2] != 3 {
		s.t.Fatalf("%s in %s: status %d, %q", script, name, status, body)
	}
	return strings.NewReplacer("\x01", "", "\x02", "").Replace(body[:len(body)-2])
}

// api sends a request to the API as the first team.
func (s *server) api(method, path, body string) (int, string) {
	s.t.Helper()
	return s.send(method, s.APIURL+path, "", body)
}

// visit sends a request to a sprite's URL as somebody of its team.
func (s *server) visit(sprite client.Sprite) (int, string) {
	s.t.Helper()
	u, err := url.Parse(sprite.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.send(http.MethodGet, s.APIURL+"/", u.Host, "")
}

func (s *server) send(method, address, host, body string) (int, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Host = host
	r.Header.Set("Authorization", "Bearer "+s.APIKey)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func (s *server) awaitStatus(name, status string) {
	s.t.Helper()
	until(s.t, name+" to be "+status, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		sprite, err := s.Client.Sprite(ctx, name)
		return err == nil && sprite.Status == status
	})
}

func TestSpriteSleepsAndWakesByUse(t *testing.T) {
	s := upSprites(t, "--sprite-freeze", "500ms", "--sprite-store", "500ms")
	sprite := s.newSprite("sleeper")
	s.inSprite("sleeper", "mkdir -p site && cd site && echo home > index.html && setsid python3 -m http.server 8080 >/dev/null 2>&1 &")
	until(t, "the URL", func() bool { status, body := s.visit(sprite); return status == 200 && body == "home\n" })
	before := s.inSprite("sleeper", "pgrep -x python3")

	s.awaitStatus("sleeper", "cold")
	if status, body := s.visit(sprite); status != 200 || body != "home\n" {
		t.Errorf("the URL of a cold sprite: %d %s", status, body)
	}
	if after := s.inSprite("sleeper", "pgrep -x python3"); after != before {
		t.Errorf("the program's process was %q, and is %q after the sleep", before, after)
	}

	s.awaitStatus("sleeper", "cold")
	s.stop()
	s.start()
	if status, body := s.visit(sprite); status != 200 || body != "home\n" {
		t.Errorf("the URL after a restart of the server: %d %s", status, body)
	}
	s.clear()
}

func TestTasksKeepASpriteAwake(t *testing.T) {
	s := upSprites(t, "--sprite-freeze", "500ms", "--sprite-store", "0")
	s.newSprite("busy")
	socket := "curl -s --unix-socket /.sprite/api.sock "
	if out := s.inSprite("busy", socket+`-X POST http://sprite/v1/tasks -d '{"name":"work","expire":"30s"}'`); !strings.Contains(out, "work") {
		t.Fatalf("the task: %s", out)
	}
	stays := time.Now().Add(3 * time.Second)
	for time.Now().Before(stays) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		sprite, err := s.Client.Sprite(ctx, "busy")
		cancel()
		if err != nil || sprite.Status != "running" {
			t.Fatalf("with a task it is %s, %v", sprite.Status, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.inSprite("busy", socket+"-X DELETE http://sprite/v1/tasks/work")
	s.awaitStatus("busy", "warm")
	if out := s.inSprite("busy", "echo awake"); out != "awake\n" {
		t.Errorf("a warm sprite says %q", out)
	}
}

func TestSpriteAsksItsHost(t *testing.T) {
	s := upSprites(t)
	s.newSprite("inside")
	s.newSprite("other")
	if out := s.inSprite("inside", "sprite-env info"); !strings.Contains(out, "inside") || !strings.Contains(out, "http://inside.localhost") {
		t.Errorf("info: %s", out)
	}
	s.inSprite("inside", "echo one > ~/state")
	if out := s.inSprite("inside", "sprite-env checkpoints create"); !strings.Contains(out, "v1") {
		t.Fatalf("checkpoint from inside: %s", out)
	}
	if out := s.inSprite("inside", "sprite-env checkpoints list"); !strings.Contains(out, "v1") {
		t.Errorf("checkpoints from inside: %s", out)
	}
	s.inSprite("inside", "echo two > ~/state; (sleep 0.2; sprite-env checkpoints restore v1) >/dev/null 2>&1 </dev/null &")
	until(t, "the restore", func() bool {
		status, body := s.api(http.MethodGet, "/v1/sprites/inside/fs/read?path=/home/sprite/state", "")
		return status == http.StatusOK && body == "one\n"
	})
	if status, _ := s.api(http.MethodGet, "/v1/sprites/other", ""); status != 200 {
		t.Errorf("the other sprite: %d", status)
	}
}

func TestSpriteStreamsEvents(t *testing.T) {
	s := upSprites(t)
	sprite := s.newSprite("events")
	s.inSprite("events", `cat > s.py <<'P'
import http.server, time
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Type", "text/event-stream"); self.end_headers()
        for n in range(3):
            self.wfile.write(b"data: %d\n\n" % n); self.wfile.flush()
            if n < 2: time.sleep(0.2)
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), H).serve_forever()
P
setsid python3 s.py >/dev/null 2>&1 &`)
	until(t, "the URL", func() bool { status, _ := s.visit(sprite); return status == 200 })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.APIURL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = strings.TrimPrefix(sprite.URL, "http://")
	r.Header.Set("Authorization", "Bearer "+s.APIKey)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for n := range 3 {
		if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", n) || !lines.Scan() {
			t.Fatalf("event %d is %q, %v", n, lines.Text(), lines.Err())
		}
	}
}
