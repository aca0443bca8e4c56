package test

import (
	"math"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/client"
)

// TestTheClockJumps sets the host's clock a day on, and back again, while
// sandboxes run and sleep. It runs where ATOLL_TEST_CLOCK=1 says that the clock
// is the test's own to set.
func TestTheClockJumps(t *testing.T) {
	if os.Getenv("ATOLL_TEST_CLOCK") != "1" {
		t.Skip("set ATOLL_TEST_CLOCK=1 to let this test set the host's clock for a few seconds")
	}
	s := up(t, "--max-timeout", "0", "--linger", "2s")
	ticking := func() sandbox {
		b := s.create(100 * time.Hour)
		b.run("notify.py", 8000)
		return b
	}
	running, lingering, stored := ticking(), ticking(), ticking()
	begun := time.Now()
	set := func(offset time.Duration) {
		t.Helper()
		now := unix.NsecToTimeval(begun.Round(0).Add(time.Since(begun) + offset).UnixNano())
		if err := unix.Settimeofday(&now); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { set(0) })
	for _, offset := range []time.Duration{24 * time.Hour, 0} {
		stored.sleepOnDisk()
		lingering.pause()
		set(offset)
		running.clock(offset)
		for _, b := range []sandbox{lingering, stored} {
			if got := b.now(); got.State != client.StatePaused {
				t.Errorf("a paused one is %s", got.State)
			}
			b.resume()
			b.clock(offset)
		}
		if left := time.Until(stored.now().EndAt); left < 98*time.Hour || left > 101*time.Hour {
			t.Errorf("after its sleep it lives for %v", left)
		}
	}
}

// clock waits until the sandbox's clock is the host's, and fails the test
// unless all its timers work.
func (b sandbox) clock(offset time.Duration) {
	b.s.t.Helper()
	until(b.s.t, "the sandbox's clock to follow", func() bool {
		code, body, err := b.get(8000, "/")
		if err != nil || code != 200 {
			b.s.t.Fatalf("at %v: %d %s %v", offset, code, body, err)
		}
		now, err := strconv.ParseFloat(string(body), 64)
		return err == nil && math.Abs(now-float64(time.Now().UnixNano())/1e9) < 3
	})
}
