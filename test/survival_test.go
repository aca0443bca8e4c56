package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

// TestSandboxesOutliveTheServer kills the server while sandboxes work and looks
// at them through the next one.
func TestSandboxesOutliveTheServer(t *testing.T) {
	s := up(t)
	busy := s.createWith(client.NewSandbox{TemplateID: "base", Metadata: map[string]string{"kept": "yes"}}, time.Hour)
	busy.must("echo before > /root/state")
	busy.start(`i=0; while :; do echo $((i++)) > /tmp/count; sleep 0.05; done`)
	busy.start("cd /etc && python3 -m http.server 8000")
	brief := s.create(8 * time.Second)
	brief.alive()
	until(t, "the server inside", func() bool { code, _, _ := busy.get(8000, "/hostname"); return code == 200 })
	boot := busy.must("cat /proc/sys/kernel/random/boot_id /etc/machine-id")
	pid := busy.must("pgrep -f 'python3 -m http.serve[r]'")
	before, err := s.Client.Get(t.Context(), busy.SandboxID)
	if err != nil {
		t.Fatal(err)
	}

	s.Kill()
	s.start()

	after, err := s.Client.Get(t.Context(), busy.SandboxID)
	if err != nil {
		t.Fatalf("the sandbox is gone: %v", err)
	}
	if !after.StartedAt.Equal(before.StartedAt) || !after.EndAt.Equal(before.EndAt) || after.Metadata["kept"] != "yes" {
		t.Errorf("the record changed from %+v to %+v", before, after)
	}
	if got := busy.must("cat /proc/sys/kernel/random/boot_id /etc/machine-id"); got != boot {
		t.Errorf("the guest is another: %q, was %q", got, boot)
	}
	if got := busy.must("pgrep -f 'python3 -m http.serve[r]'"); got != pid {
		t.Errorf("its process is another: %s, was %s", got, pid)
	}
	if got := busy.must("cat /root/state"); got != "before" {
		t.Errorf("its disk says %q", got)
	}
	first := busy.must("cat /tmp/count")
	until(t, "the counter to move on", func() bool { out, err := busy.sh("cat /tmp/count"); return err == nil && out != first && out != "" })
	if code, _, err := busy.get(8000, "/hostname"); code != 200 {
		t.Errorf("its port answers %d, %v", code, err)
	}
	if fresh := s.create(time.Minute); fresh.SandboxID == busy.SandboxID {
		t.Error("an id was given twice")
	}
	until(t, "the time-out given before the kill to end a sandbox", func() bool {
		_, err := s.Client.Get(t.Context(), brief.SandboxID)
		return client.IsNotFound(err)
	})
	if err := s.Client.Kill(t.Context(), busy.SandboxID); err != nil {
		t.Errorf("end a sandbox of the server before: %v", err)
	}
}

// TestSandboxesOutliveAnOrderlyRestart is what an upgrade of the server does.
func TestSandboxesOutliveAnOrderlyRestart(t *testing.T) {
	s := up(t)
	b := s.create(time.Hour)
	b.must("echo before > /root/state")
	s.end(syscall.SIGTERM)
	s.start()
	if got := b.must("cat /root/state"); got != "before" {
		t.Errorf("its disk says %q", got)
	}
}

// TestTimeOutPassesWhileTheServerIsDown ends a sandbox whose time was over
// before the next server came.
func TestTimeOutPassesWhileTheServerIsDown(t *testing.T) {
	s := up(t)
	brief := s.create(time.Second)
	s.Kill()
	for now := range time.Tick(100 * time.Millisecond) {
		if now.After(brief.EndAt.Add(time.Second)) {
			break
		}
	}
	s.start()
	until(t, "it to end", func() bool {
		_, err := s.Client.Get(t.Context(), brief.SandboxID)
		return client.IsNotFound(err)
	})
}

// TestNothingIsLeftBehind makes and ends 500 sandboxes while the server is
// killed at random moments, and compares the host before and after.
func TestNothingIsLeftBehind(t *testing.T) {
	const sandboxes, kills, workers = 500, 8, 4
	warm := up(t)
	warm.create(time.Minute).alive()
	warm.clear()
	warm.stop()
	before := takeInventory(t)

	s := up(t)
	var mu sync.RWMutex // held for writing while the server is exchanged
	made := make(chan struct{}, sandboxes)
	work := make(chan int)
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			for range work {
				createAndEnd(s, &mu)
				made <- struct{}{}
			}
		})
	}
	go func() {
		defer close(work)
		for i := range sandboxes {
			work <- i
		}
	}()
	next := sandboxes / (kills + 1)
	for done := 1; done <= sandboxes; done++ {
		<-made
		if done == next && done < sandboxes {
			s.Kill() // while the workers are in the middle of something
			mu.Lock()
			s.start()
			mu.Unlock()
			next += sandboxes/(kills+1) + rand.IntN(20) - 10
		}
	}
	wait.Wait()
	s.clear()
	if all, err := s.Client.List(t.Context(), client.ListFilter{}); err != nil || len(all) > 0 {
		t.Fatalf("%d sandboxes are left, %v", len(all), err)
	}
	s.create(time.Minute).alive()
	s.clear()
	s.stop()

	for _, what := range leftBehind(t, before) {
		t.Errorf("left behind: %s", what)
	}
}

// leftBehind is what the host has more than before, once it has had the time
// to finish with processes that are on their way out.
func leftBehind(t *testing.T, before inventory) []string {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); ; <-tick.C {
		left := takeInventory(t).minus(before)
		if len(left) == 0 || time.Now().After(end) {
			return left
		}
	}
}

// createAndEnd is one life; whatever a dying server does to it is expected.
func createAndEnd(s *server, mu *sync.RWMutex) {
	mu.RLock()
	c := s.Client
	mu.RUnlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	seconds := 30
	sbx, err := c.Create(ctx, client.NewSandbox{TemplateID: "base", Timeout: &seconds, Secure: true})
	if err != nil {
		awaitServer(ctx, s, mu)
		return
	}
	if rand.IntN(2) == 0 {
		_, _ = c.Guest(sbx).Output(ctx, client.Command{Path: "/bin/true"}, 0)
	}
	if err := c.Kill(ctx, sbx.SandboxID); err != nil && !client.IsNotFound(err) {
		awaitServer(ctx, s, mu)
		_ = c.Kill(ctx, sbx.SandboxID)
	}
}

// awaitServer returns when a server answers again.
func awaitServer(ctx context.Context, s *server, mu *sync.RWMutex) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		mu.RLock()
		err := s.Client.Health(ctx)
		mu.RUnlock()
		if err == nil {
			return
		}
		<-tick.C
	}
}

// TestKillInTheMiddleOfCreating kills the server at growing delays after a
// burst of creates was asked for: none may stay half-made.
func TestKillInTheMiddleOfCreating(t *testing.T) {
	s := up(t, "--pool", "0")
	for _, delay := range []time.Duration{0, 5, 15, 30, 60, 100} {
		delay *= time.Millisecond
		t.Run(fmt.Sprint(delay), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			seconds := 60
			var wait sync.WaitGroup
			for range 4 {
				wait.Go(func() {
					_, _ = s.Client.Create(ctx, client.NewSandbox{TemplateID: "base", Timeout: &seconds, Secure: true})
				})
			}
			<-time.After(delay)
			s.Kill()
			wait.Wait()
			s.start()
			all, err := s.Client.List(ctx, client.ListFilter{})
			if err != nil {
				t.Fatal(err)
			}
			for _, sbx := range all {
				s.full(sbx.SandboxID).alive() // what is listed works
			}
			s.clear()
		})
	}
}
