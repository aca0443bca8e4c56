package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/test/harness"
)

const (
	// writtenMiB is what a sprite has written before its checkpoints.
	writtenMiB = "1024"
	// proxiedMiB is what goes through the TCP proxy at once.
	proxiedMiB = 200
)

// sprites measures machines with names, on a server of their own for each way
// to sleep.
func (b *bench) sprites() error {
	flags := []string{"--templates", "sprite", "--max-sandboxes", limit}
	awake := append(flags, "--sprite-freeze", "0")
	if err := b.with(b.spritesAwake, awake...); err != nil {
		return err
	}
	off := append(awake, "--pool", "0", "--pool-max", "0")
	if err := b.with(func(s *harness.Server) error {
		b.say("sprites with the pool off")
		took, err := b.firstExecs(s, false)
		b.add("sprite: first exec answered, pool off", "ms", took, &goal{Median: 200})
		return err
	}, off...); err != nil {
		return err
	}
	if err := b.with(func(s *harness.Server) error {
		return b.wakes(s, client.SpriteWarm, "sprite: first byte by URL, warm", 15)
	}, append(flags, "--sprite-freeze", "100ms", "--sprite-store", "0")...); err != nil {
		return err
	}
	return b.with(func(s *harness.Server) error {
		return b.wakes(s, client.SpriteCold, "sprite: first byte by URL, cold", 250)
	}, append(flags, "--sprite-freeze", "100ms", "--sprite-store", "100ms")...)
}

// spritesAwake measures what needs no sleep.
func (b *bench) spritesAwake(s *harness.Server) error {
	if err := s.AwaitTemplate(b.ctx, "sprite"); err != nil {
		return err
	}
	defer b.clearSprites(s)
	b.say("sprites with a warm pool")
	took, err := b.firstExecs(s, true)
	if err != nil {
		return err
	}
	b.add("sprite: first exec answered, warm pool", "ms", took, &goal{Median: 30})
	for _, measure := range []func(*harness.Server) error{b.execs, b.proxied, b.checkpoints, b.diskOf} {
		if err := measure(s); err != nil {
			return err
		}
	}
	return nil
}

// sprite makes one for measurements that want one.
func (b *bench) sprite(s *harness.Server) (*client.SpriteGuest, error) {
	b.names++
	name := "bench-" + strconv.Itoa(b.names) + "-" + strconv.FormatInt(time.Now().UnixMilli(), 36)
	if _, err := s.Client.CreateSprite(b.ctx, client.NewSprite{Name: name, URLSettings: &client.SpriteURL{Auth: "public"}}); err != nil {
		return nil, fmt.Errorf("make a sprite: %w", err)
	}
	return s.Client.SpriteGuest(name), nil
}

// clearSprites removes all that the measurements made.
func (b *bench) clearSprites(s *harness.Server) error {
	ctx := context.WithoutCancel(b.ctx)
	all, _, err := s.Client.Sprites(ctx, "bench-")
	for _, one := range all {
		err = errors.Join(err, s.Client.DeleteSprite(ctx, one.Name))
	}
	return err
}

// firstExecs measures creates until the first program has run.
func (b *bench) firstExecs(s *harness.Server, pool bool) ([]float64, error) {
	if err := s.AwaitTemplate(b.ctx, "sprite"); err != nil {
		return nil, err
	}
	var took []float64
	for i := range max(b.runs/2, 5) + 2 { // the first ones warm the pool up
		if pool {
			if _, err := b.poolFilled(s); err != nil {
				return nil, err
			}
		}
		began := time.Now()
		g, err := b.sprite(s)
		if err != nil {
			return nil, err
		}
		if _, err := g.Output(b.ctx, client.SpriteCommand{Args: []string{"true"}}, 0); err != nil {
			return nil, err
		}
		if i > 1 {
			took = append(took, ms(time.Since(began)))
		}
		if err := s.Client.DeleteSprite(b.ctx, g.Name()); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// execs measures a program that does nothing, on a connection of its own.
func (b *bench) execs(s *harness.Server) error {
	g, err := b.sprite(s)
	if err != nil {
		return err
	}
	var took []float64
	for i := range b.runs + 3 {
		began := time.Now()
		if _, err := g.Output(b.ctx, client.SpriteCommand{Args: []string{"true"}}, 0); err != nil {
			return err
		}
		if i > 2 {
			took = append(took, ms(time.Since(began)))
		}
	}
	b.add("sprite: exec of true over WebSocket", "ms", took, &goal{Median: 10})
	return s.Client.DeleteSprite(b.ctx, g.Name())
}

// peer sends or takes bytes at port 7000: its client's first byte says which.
const peer = `
import socket
l = socket.create_server(("127.0.0.1", 7000))
print("ready", flush=True)
block = bytes(1 << 20)
view = memoryview(bytearray(1 << 20))
while True:
    c, _ = l.accept()
    if c.recv(1) == b"d":
        for _ in range(200):
            c.sendall(block)
    else:
        n = 0
        while n < 200 << 20:
            n += c.recv_into(view)
        c.sendall(b"k")
    c.close()
`

// proxied measures bytes through the TCP proxy, both ways.
func (b *bench) proxied(s *harness.Server) error {
	b.say("a sprite's TCP proxy")
	g, err := b.sprite(s)
	if err != nil {
		return err
	}
	end, err := b.background(g, peer)
	if err != nil {
		return err
	}
	defer end()
	var down, up []float64
	for range b.bulk {
		rate, err := b.transfer(g, true)
		if err != nil {
			return err
		}
		down = append(down, rate)
		if rate, err = b.transfer(g, false); err != nil {
			return err
		}
		up = append(up, rate)
	}
	b.add("sprite: 200 MiB out through the TCP proxy", "MiB/s", down, &goal{Least: 200})
	b.add("sprite: 200 MiB in through the TCP proxy", "MiB/s", up, &goal{Least: 200})
	end()
	return s.Client.DeleteSprite(b.ctx, g.Name())
}

// transfer is one of them, in MiB/s.
func (b *bench) transfer(g *client.SpriteGuest, out bool) (float64, error) {
	began := time.Now()
	conn, err := g.Dial(b.ctx, "", 7000)
	if err != nil {
		return 0, err
	}
	defer func() { go conn.Close() }() // it waits for the other side
	buf := make([]byte, 256<<10)
	if out {
		if _, err := conn.Write([]byte("d")); err != nil {
			return 0, err
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(conn, proxiedMiB<<20), buf)
		if err != nil || n != proxiedMiB<<20 {
			return 0, fmt.Errorf("%d bytes came out, %w", n, err)
		}
	} else {
		if _, err := conn.Write([]byte("u")); err != nil {
			return 0, err
		}
		for range (proxiedMiB << 20) / len(buf) {
			if _, err := conn.Write(buf); err != nil {
				return 0, err
			}
		}
		if _, err := io.ReadFull(conn, buf[:1]); err != nil {
			return 0, fmt.Errorf("not all went in: %w", err)
		}
	}
	return proxiedMiB / time.Since(began).Seconds(), nil
}

// background runs a Python program in a sprite until end is called; it is
// running once it has printed something.
func (b *bench) background(g *client.SpriteGuest, script string) (end func(), err error) {
	ctx, cancel := context.WithCancel(b.ctx)
	p, err := g.Start(ctx, client.SpriteCommand{Args: []string{"python3", "-c", script}})
	if err != nil {
		cancel()
		return nil, err
	}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := p.Copy(ctx, w, w)
		w.CloseWithError(err)
	}()
	end = func() {
		g.KillSession(context.WithoutCancel(b.ctx), p.ID, "KILL", 0, nil) // or the sprite goes with it
		cancel()
		r.Close()
		<-done
	}
	if _, err := r.Read(make([]byte, 100)); err != nil {
		end()
		return nil, fmt.Errorf("start a program in %s: %w", g.Name(), err)
	}
	go io.Copy(io.Discard, r)
	return end, nil
}

// ticker looks at the clock all the time, and tells at port 7001 how long it
// could not since it was asked last, in milliseconds.
const ticker = `
import socket, threading, time
worst = 0
def look():
    global worst
    last = time.monotonic()
    while True:
        time.sleep(0.0005)
        now = time.monotonic()
        worst, last = max(worst, now - last), now
threading.Thread(target=look, daemon=True).start()
l = socket.create_server(("127.0.0.1", 7001))
print("ready", flush=True)
while True:
    c, _ = l.accept()
    c.sendall(str(worst * 1000).encode())
    worst = 0
    c.close()
`

// gap asks the ticker.
func (b *bench) gap(g *client.SpriteGuest) (float64, error) {
	conn, err := g.Dial(b.ctx, "", 7001)
	if err != nil {
		return 0, err
	}
	defer func() { go conn.Close() }()
	text, err := io.ReadAll(io.LimitReader(conn, 100))
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(string(text), 64)
}

// checkpoints measures checkpoints of a sprite that has written, how long it
// stands still meanwhile, and restores until a program has run.
func (b *bench) checkpoints(s *harness.Server) error {
	b.say("checkpoints")
	g, err := b.sprite(s)
	if err != nil {
		return err
	}
	fill := "dd if=/dev/urandom of=written bs=1M count=" + writtenMiB + " 2>&1 && sync"
	if _, err := g.Output(b.ctx, client.SpriteCommand{Args: []string{"sh", "-c", fill}}, 0); err != nil {
		return err
	}
	end, err := b.background(g, ticker)
	if err != nil {
		return err
	}
	var taken, still []float64
	last := ""
	for i := range max(b.runs/5, 5) {
		change := fmt.Sprintf("echo %d > changed; dd if=/dev/urandom of=written bs=1M count=1 seek=%d conv=notrunc 2>&1", i, i)
		if _, err := g.Output(b.ctx, client.SpriteCommand{Args: []string{"sh", "-c", change}}, 0); err != nil {
			return err
		}
		if _, err := b.gap(g); err != nil {
			return err
		}
		began := time.Now()
		if last, err = g.Checkpoint(b.ctx, client.NewCheckpoint{}, nil); err != nil {
			return err
		}
		taken = append(taken, ms(time.Since(began)))
		stood, err := b.gap(g)
		if err != nil {
			return err
		}
		still = append(still, stood)
	}
	end()
	b.add("sprite: checkpoint, 1 GiB written", "ms", taken, &goal{Median: 30})
	b.add("sprite: stands still for a checkpoint", "ms", still, &goal{Median: 20})
	var restored []float64
	for range max(b.runs/10, 3) {
		began := time.Now()
		if err := g.Restore(b.ctx, last, nil); err != nil {
			return err
		}
		if _, err := g.Output(b.ctx, client.SpriteCommand{Args: []string{"true"}}, 0); err != nil {
			return err
		}
		restored = append(restored, ms(time.Since(began)))
	}
	b.add("sprite: restore until exec answers", "ms", restored, &goal{Median: 250})
	return s.Client.DeleteSprite(b.ctx, g.Name())
}

// wakes measures requests by URL to a sprite that sleeps, until the first byte
// of the answer.
func (b *bench) wakes(s *harness.Server, status, row string, median float64) error {
	b.say("waking sprites that are %s", status)
	if err := s.AwaitTemplate(b.ctx, "sprite"); err != nil {
		return err
	}
	defer b.clearSprites(s)
	g, err := b.sprite(s)
	if err != nil {
		return err
	}
	serve := client.NewService{Cmd: "python3", Args: []string{"-m", "http.server", "8080", "--directory", "/.sprite/docs"}}
	if err := g.PutService(b.ctx, "web", serve, time.Second, func(client.ServiceEvent) error { return nil }); err != nil {
		return err
	}
	one, err := s.Client.Sprite(b.ctx, g.Name())
	if err != nil {
		return err
	}
	if err := b.answers(s, one); err != nil {
		return err
	}
	var took []float64
	for range max(b.runs/3, 5) {
		if err := b.asleepAs(s, g.Name(), status); err != nil {
			return err
		}
		first, err := b.firstByte(s, one)
		if err != nil {
			return err
		}
		took = append(took, first)
	}
	b.add(row, "ms", took, &goal{Median: median})
	return nil
}

// answers waits until a sprite's service serves.
func (b *bench) answers(s *harness.Server, one client.Sprite) (err error) {
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-poll.C {
		if _, err = b.firstByte(s, one); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the URL of %s does not answer: %w", one.Name, err)
}

// asleepAs waits until a sprite sleeps.
func (b *bench) asleepAs(s *harness.Server, name, status string) error {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	was := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-poll.C {
		one, err := s.Client.Sprite(b.ctx, name)
		if err != nil {
			return err
		}
		if was = one.Status; was == status {
			return nil
		}
	}
	return fmt.Errorf("%s did not become %s within a minute, it is %s", name, status, was)
}

// firstByte is how long the first byte of an answer by URL takes, on a new
// connection.
func (b *bench) firstByte(s *harness.Server, one client.Sprite) (float64, error) {
	u, err := url.Parse(one.URL)
	if err != nil {
		return 0, err
	}
	var came time.Time
	ctx := httptrace.WithClientTrace(b.ctx, &httptrace.ClientTrace{GotFirstResponseByte: func() { came = time.Now() }})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, err
	}
	// The name need not be known to this host: the server's address is.
	direct := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(s.APIURL, "http://"))
	}}}
	began := time.Now()
	res, err := direct.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s answers %s", u, res.Status)
	}
	return ms(came.Sub(began)), nil
}
