package test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/atoll-cloud/atoll/client"
)

// open is a connection into a sandbox; it is called once the connection stands
// and returns how it ended.
type open func(ctx context.Context, b sandbox, stands func()) error

var opens = map[string]open{
	"a stream": func(ctx context.Context, b sandbox, stands func()) error {
		res, err := b.request(ctx, "/stream", nil)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		lines := bufio.NewReader(res.Body)
		for first := true; ; first = false {
			if _, err := lines.ReadString('\n'); err != nil {
				return err
			}
			if first {
				stands()
			}
		}
	},
	"a request that is not answered yet": func(ctx context.Context, b sandbox, stands func()) error {
		time.AfterFunc(300*time.Millisecond, stands)
		res, err := b.request(ctx, "/slow", nil)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode < 500 {
			return nil
		}
		return fmt.Errorf("it answers %d", res.StatusCode)
	},
	"an upload": func(ctx context.Context, b sandbox, stands func()) error {
		time.AfterFunc(300*time.Millisecond, stands)
		r, w := io.Pipe()
		defer w.Close()
		go func() { // slower than it would have to be
			for range time.Tick(50 * time.Millisecond) {
				if _, err := w.Write(make([]byte, 100)); err != nil {
					return
				}
			}
		}()
		res, err := b.request(ctx, "/", r)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode < 500 {
			return nil
		}
		return fmt.Errorf("it answers %d", res.StatusCode)
	},
	"a WebSocket": func(ctx context.Context, b sandbox, stands func()) error {
		c, _, err := websocket.Dial(ctx, b.s.SandboxURL, &websocket.DialOptions{Host: b.host(8000)})
		if err != nil {
			return err
		}
		defer c.CloseNow()
		if _, _, err := c.Read(ctx); err != nil {
			return err
		}
		stands()
		_, _, err = c.Read(ctx)
		return err
	},
	"a command": func(ctx context.Context, b sandbox, stands func()) error {
		p, err := b.guest().Start(ctx, client.Command{Path: "sleep", Args: []string{"3600"}})
		if err != nil {
			return err
		}
		stands()
		_, err = p.Copy(io.Discard, io.Discard)
		return err
	},
	"a download": func(ctx context.Context, b sandbox, stands func()) error {
		p, err := b.guest().Start(ctx, client.Command{Path: "cat", Args: []string{"/dev/zero"}})
		if err != nil {
			return err
		}
		stands()
		_, err = p.Copy(io.Discard, io.Discard)
		return err
	},
}

// host is the name of a port of the sandbox.
func (b sandbox) host(port int) string { return fmt.Sprintf("%d-%s.localhost", port, b.SandboxID) }

// request starts one request to port 8000; with a body it is a POST of 1 MiB.
func (b sandbox) request(ctx context.Context, path string, body io.Reader) (*http.Response, error) {
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, b.s.SandboxURL+path, body)
	if err != nil {
		return nil, err
	}
	if req.Host = b.host(8000); body != nil {
		req.ContentLength = 1 << 20
	}
	return http.DefaultClient.Do(req)
}

// TestOpenConnectionsEndWithAPause pauses sandboxes while clients are connected:
// every connection ends with an error, none hangs.
func TestOpenConnectionsEndWithAPause(t *testing.T) {
	s := up(t)
	b := s.create(time.Hour)
	b.run("streams.py", 8000)
	for _, how := range []struct {
		name  string
		pause func(b sandbox)
	}{
		{"by hand", func(b sandbox) { b.pause() }},
		{"by hand, without memory", func(b sandbox) {
			if err := s.Client.Pause(t.Context(), b.SandboxID, false); err != nil {
				b.s.t.Fatal(err)
			}
		}},
	} {
		t.Run(how.name, func(t *testing.T) {
			b := sandbox{b.Sandbox, s.in(t)}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			type end struct {
				what string
				err  error
			}
			stand, ends := make(chan struct{}, len(opens)), make(chan end, len(opens))
			for what, f := range opens {
				go func() {
					err := f(ctx, b, func() { stand <- struct{}{} })
					ends <- end{what, err}
				}()
			}
			for range opens {
				select {
				case <-stand:
				case e := <-ends:
					t.Fatalf("%s did not stand: %v", e.what, e.err)
				}
			}
			how.pause(b)
			for range opens {
				if e := <-ends; e.err == nil || ctx.Err() != nil {
					t.Errorf("%s: ended with %v", e.what, e.err)
				}
			}
			b.resume()
			b.alive()
		})
	}
}

// TestAFreezeIsNotFelt lets an idle sandbox be frozen and stored under clients
// that hold on to it or come back to it.
func TestAFreezeIsNotFelt(t *testing.T) {
	s := up(t, "--idle-freeze", "1s", "--idle-store", "2s")
	b := s.create(time.Hour)
	b.put("/dev/shm/kept", "in memory")
	held := s.create(time.Hour)
	held.put("/dev/shm/kept", "in memory")
	p, err := held.guest().Start(t.Context(), client.Command{Path: "cat", Stdin: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, depth := range []string{client.SleepFrozen, client.SleepStored, client.SleepFrozen} {
		until(t, "it to be "+depth, func() bool { return b.now().Sleep == depth })
		if now := b.now(); now.State != client.StateRunning || now.EndAt.Before(b.EndAt) {
			t.Errorf("asleep it is shown as %+v", now)
		}
		if got := b.must("cat /dev/shm/kept"); got != "in memory" {
			t.Errorf("it woke with %q", got)
		}
		if now := held.now(); now.Sleep != "" {
			t.Errorf("one that a client is connected to is %s", now.Sleep)
		}
	}
	brief := s.create(4 * time.Second)
	until(t, "it to sleep", func() bool { return brief.now().Sleep != "" })
	until(t, "its time-out to end it", func() bool {
		_, err := s.Client.Get(t.Context(), brief.SandboxID)
		return client.IsNotFound(err)
	})
	s.Kill()
	s.start()
	for _, one := range []sandbox{b, held} {
		if got := one.must("cat /dev/shm/kept"); got != "in memory" {
			t.Errorf("after a restart it has %q", got)
		}
	}
}

// TestTimersStandStill lets a command sleep in a sandbox that sleeps: what it
// had left, it has left when the sandbox wakes.
func TestTimersStandStill(t *testing.T) {
	s := up(t, onDisk...)
	b := s.create(time.Hour)
	b.start("sleep 4; touch /tmp/done")
	until(t, "it to sleep", func() bool { _, err := b.sh("grep -qx sleep /proc/[0-9]*/comm"); return err == nil })
	asleep := time.Now()
	b.pause()
	until(t, "more than that time to pass", func() bool { return time.Since(asleep) > 5*time.Second })
	b.resume()
	awake := time.Now()
	until(t, "a moment to pass", func() bool { return time.Since(awake) > time.Second })
	if out := b.must("test -e /tmp/done && echo done || echo sleeping"); out != "sleeping" && time.Since(awake) < 2*time.Second {
		t.Errorf("the command that sleeps is %s", out)
	}
	now, err := time.Parse("2006-01-02T15:04:05", b.must("date -u +%Y-%m-%dT%H:%M:%S"))
	if off := time.Since(now).Abs(); err != nil || off > 3*time.Second {
		t.Errorf("the clock is %v off, %v", off, err)
	}
	until(t, "the command to end", func() bool { _, err := b.sh("test -e /tmp/done"); return err == nil })
}
