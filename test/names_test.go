package test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// listen connects to a port by name, says so and waits for data that never
// comes, and then says how the connection ended.
const listen = `
import socket
s = socket.create_connection(('%s', 80), 10)
s.settimeout(None)
open('/tmp/listening', 'w').close()
try:
    s.recv(1)
    how = 'closed'
except OSError as e:
    how = type(e).__name__
open('/tmp/ended', 'w').write(how)
`

// allow replaces what a sandbox may reach by these names alone.
func (b sandbox) allow(names ...string) {
	b.s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	body := fmt.Sprintf(`{"allowOut":["%s"],"denyOut":["0.0.0.0/0"]}`, strings.Join(names, `","`))
	r, err := http.NewRequestWithContext(ctx, "PUT", b.s.APIURL+"/sandboxes/"+b.SandboxID+"/network", strings.NewReader(body))
	if err != nil {
		b.s.t.Fatal(err)
	}
	r.Header.Set("X-API-Key", b.s.APIKey)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		b.s.t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusNoContent {
		b.s.t.Fatalf("allowing %v: %s %s", names, res.Status, text)
	}
}

// Programs reach the names that a sandbox is allowed, and nothing else, from
// one moment to the next, also when the server was killed or the sandbox has slept.
func TestNamesThatAreAllowed(t *testing.T) {
	newOutside(t)
	s := up(t, outsideFlags...)
	b := s.create(5 * time.Minute)
	byAddress, byName := publicHost+":80", publicName+":80"
	opens := func(when string, want ...string) {
		t.Helper()
		if got := b.opens(byAddress, nameServer+":53", forbidden[0]+":80"); !slices.Equal(got, want) {
			t.Errorf("%s: open are %v, want %v", when, got, want)
		}
	}
	b.allow(publicName)
	opens("before the name was asked for")
	if got := b.opens(byName); len(got) != 1 {
		t.Error("the name that is allowed cannot be reached")
	}
	opens("when the name was asked for", byAddress)
	if out := b.must("getent hosts other.example || echo refused"); out != "refused" {
		t.Errorf("a name that is not allowed: %s", out)
	}

	b.start("python3 -c " + quote(fmt.Sprintf(listen, publicName)))
	until(t, "a program that listens", func() bool { _, err := b.sh("test -e /tmp/listening"); return err == nil })
	s.Kill()
	s.start()
	opens("after the server was killed and has started again", byAddress)
	if out, err := b.sh("cat /tmp/ended"); err == nil {
		t.Errorf("the program's connection has ended: %s", out)
	}
	b.allow("another.example")
	until(t, "the program to hear of it", func() bool { out, err := b.sh("cat /tmp/ended"); return err == nil && out != "" })
	if how := b.must("cat /tmp/ended"); how != "ConnectionResetError" {
		t.Errorf("a program that waits for what is closed now: got %s, want a reset", how)
	}
	opens("when another name is allowed")

	b.allow("*.another.example", publicName)
	b.pause()
	b.resume()
	opens("after sleep")
	if got := b.opens(byName); len(got) != 1 {
		t.Error("the name that is allowed cannot be reached after sleep")
	}
}
