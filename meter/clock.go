package meter

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Instant is one moment on the two clocks that the meter needs: the wall clock
// says which hour usage belongs to, the host's uptime how long something
// lasted. The wall clock may be set at any time; the uptime only grows, also
// over restarts of the server, until the host is booted again.
type Instant struct {
	Wall   time.Time
	Uptime time.Duration
	Boot   string // names the boot that Uptime counts from
}

// hostClock returns the clock of this host.
func hostClock() (func() Instant, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read which boot of the host this is: %w", err)
	}
	boot := strings.TrimSpace(string(b))
	return func() Instant {
		var t unix.Timespec
		// It fails for clocks that do not exist only.
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
		return Instant{Wall: time.Now().Round(0), Uptime: time.Duration(t.Nano()), Boot: boot}
	}, nil
}

// minus is the moment that lies d before i.
func (i Instant) minus(d time.Duration) Instant {
	return Instant{Wall: i.Wall.Add(-d), Uptime: i.Uptime - d, Boot: i.Boot}
}

// maxOff bounds what is charged for the disk of a sleeper over a boot of the
// host, where only the wall clock tells how long that took, rightly or not.
const maxOff = 24 * time.Hour

// span is how long it was from one moment to another, never negative. Over a
// boot of the host it is not known for what was awake, since no guest
// outlives it.
func span(from, to Instant, awake bool) time.Duration {
	switch {
	case from.Boot == to.Boot:
		return max(to.Uptime-from.Uptime, 0)
	case awake:
		return 0
	}
	return min(max(to.Wall.Sub(from.Wall), 0), maxOff)
}
