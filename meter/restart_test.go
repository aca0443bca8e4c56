package meter

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// What a server that is killed and started again makes of a machine.
func TestOverARestart(t *testing.T) {
	for _, c := range []struct {
		name             string
		live             func(b *bench)
		awake, cpu, disk time.Duration
	}{
		{"it ran on while nobody looked", func(b *bench) {
			b.work(minute)
			b.mustWrite()
			b.kill()
			b.pass(3*hour, true)
			b.open()
			b.Adopt(box, b.reading(), true, morning)
		}, 3*hour + minute, 3*hour + minute, 3*hour + minute},
		{"and what was not written is not lost", func(b *bench) {
			b.mustWrite()
			b.work(minute)
			b.kill()
			b.pass(hour, true)
			b.open()
			b.Adopt(box, b.reading(), true, morning)
			b.work(minute)
		}, hour + 2*minute, hour + 2*minute, hour + 2*minute},
		{"many times over", func(b *bench) {
			for range 20 {
				b.work(minute)
				b.mustWrite()
				b.pass(minute, true)
				b.Sample("i", b.reading())
				b.restart()
				b.Adopt(box, b.reading(), true, morning)
				b.Keep()
			}
		}, 40 * minute, 40 * minute, 40 * minute},
		{"it slept on", func(b *bench) {
			b.work(minute)
			b.Asleep(box, b.reading())
			b.mustWrite()
			b.kill()
			b.pass(3*hour, false)
			b.open()
			b.Adopt(box, Reading{At: b.at, Disk: -1}, false, morning.Add(minute))
			b.pass(hour, false)
		}, minute, minute, 4*hour + minute},
		{"it had fallen asleep, frozen, which was not written", func(b *bench) {
			b.work(minute)
			b.mustWrite()
			b.pass(2*time.Second, true)
			b.Asleep(box, b.reading())
			since := b.at.Wall
			b.kill()
			b.pass(hour, false)
			b.open()
			b.Adopt(box, b.reading(), false, since)
		}, minute + 2*time.Second, minute + 2*time.Second, hour + minute + 2*time.Second},
		{"it had fallen asleep, stored, which was not written: its counter is gone", func(b *bench) {
			b.work(minute)
			b.mustWrite()
			b.pass(2*time.Second, true)
			b.Asleep(box, b.reading())
			since := b.at.Wall
			b.kill()
			b.pass(hour, false)
			b.open()
			b.Adopt(box, Reading{At: b.at, Disk: -1}, false, since)
		}, minute + 2*time.Second, minute, hour + minute + 2*time.Second},
		{"it had woken, which was not written", func(b *bench) {
			b.work(minute)
			b.Asleep(box, b.reading())
			b.mustWrite()
			b.pass(hour, false)
			b.Awake(box, b.reading())
			since := b.at.Wall
			b.kill()
			b.pass(hour, true)
			b.open()
			b.Adopt(box, b.reading(), true, since)
		}, hour + minute, hour + minute, 2*hour + minute},
		{"it had woken as another guest, which was not written", func(b *bench) {
			b.work(minute)
			b.Asleep(box, b.reading())
			b.mustWrite()
			b.pass(hour, false)
			b.boot()
			b.Awake(box, b.reading())
			since := b.at.Wall
			b.kill()
			b.pass(hour, true)
			b.open()
			b.Adopt(box, b.reading(), true, since)
		}, hour + minute, hour + minute + 70*time.Millisecond, 2*hour + minute},
		{"the clock was set back meanwhile", func(b *bench) {
			b.work(minute)
			b.mustWrite()
			b.kill()
			b.pass(hour, true)
			b.at.Wall = b.at.Wall.AddDate(0, 0, -1)
			b.open()
			b.Adopt(box, b.reading(), true, morning)
		}, hour + minute, hour + minute, hour + minute},
		{"its guest ended while nobody looked, and its counter is there", func(b *bench) {
			b.work(minute)
			b.mustWrite()
			b.kill()
			b.pass(10*time.Second, true)
			b.at.Wall, b.at.Uptime = b.at.Wall.Add(hour), b.at.Uptime+hour
			b.open()
			b.End("i", b.reading())
			b.Keep()
			b.pass(hour, false)
		}, minute, minute + 10*time.Second, hour + minute + 10*time.Second},
		{"its guest was gone, and it lasts", func(b *bench) {
			b.work(minute)
			b.mustWrite()
			b.kill()
			b.pass(hour, false)
			b.open()
			b.Asleep(box, Reading{At: b.at, Disk: -1})
			b.Keep()
			b.pass(hour, false)
		}, minute, minute, 2*hour + minute},
		{"it had ended, which was not written", func(b *bench) {
			b.work(minute)
			b.mustWrite()
			b.restart()
			b.Keep()
			b.pass(hour, false)
			b.restart()
			b.Keep()
			b.pass(hour, false)
		}, minute, minute, minute},
		{"it had ended, and stays so", func(b *bench) {
			b.work(minute)
			b.End("i", b.reading())
			b.mustWrite()
			b.restart()
			b.Adopt(box, Reading{At: b.at, Disk: -1}, false, time.Time{})
			b.End("i", Reading{At: b.at, Disk: -1})
			b.pass(hour, false)
		}, minute, minute, minute},
		{"the host was booted again: it had run", func(b *bench) {
			b.work(minute)
			b.mustWrite()
			b.kill()
			b.pass(hour, false)
			b.at.Boot, b.at.Uptime = "b", minute
			b.open()
			b.End("i", Reading{At: b.at, Disk: -1})
		}, minute, minute, hour + minute},
		{"the host was booted again: it had slept", func(b *bench) {
			b.work(minute)
			b.Asleep(box, b.reading())
			b.mustWrite()
			b.kill()
			b.pass(hour, false)
			b.at.Boot, b.at.Uptime = "b", minute
			b.open()
			b.Adopt(box, Reading{At: b.at, Disk: -1}, false, morning)
			b.boot()
			b.life = 1 // counters are named anew by each boot
			b.Awake(box, b.reading())
			b.work(minute)
		}, 2 * minute, 2 * minute, hour + 2*minute},
		{"the host was booted again with a clock that is weeks ahead", func(b *bench) {
			b.work(minute)
			b.Asleep(box, b.reading())
			b.mustWrite()
			b.kill()
			b.at = Instant{Wall: b.at.Wall.AddDate(0, 0, 20), Uptime: minute, Boot: "b"}
			b.open()
			b.Adopt(box, Reading{At: b.at, Disk: -1}, false, morning)
		}, minute, minute, maxOff + minute},
		{"the host was booted again with a clock that stood back", func(b *bench) {
			b.work(minute)
			b.Asleep(box, b.reading())
			b.mustWrite()
			b.kill()
			b.at = Instant{Wall: b.at.Wall.Add(-time.Hour), Uptime: minute, Boot: "b"}
			b.open()
			b.Adopt(box, Reading{At: b.at, Disk: -1}, false, morning)
		}, minute, minute, minute},
		{"it is from before the meter, awake", func(b *bench) {
			b.End("i", b.reading())
			b.Adopt(Machine{ID: "old", Team: "t"}, Reading{At: b.at, Life: 77, CPU: 5 * hour, Memory: gib, Disk: gib}, true, time.Time{})
		}, 0, 0, 0},
		{"it is from before the meter, asleep", func(b *bench) {
			b.End("i", b.reading())
			b.Adopt(Machine{ID: "old", Team: "t"}, Reading{At: b.at, Disk: gib}, false, morning.AddDate(-1, 0, 0))
		}, 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := open(t)
			b.Awake(box, b.reading())
			c.live(b)
			b.used("at once", c.awake, c.cpu, c.disk)
			b.mustWrite()
			b.restart()
			b.used("read again", c.awake, c.cpu, c.disk)
		})
	}
}

// A kill between any two entries of one batch of writing leaves records that
// are right: whoever goes on counts what is missing, and nothing twice.
func TestKilledBetweenTwoEntries(t *testing.T) {
	for cut := range 5 {
		b := open(t)
		b.Awake(box, b.reading())
		b.work(minute)
		b.mustWrite()
		b.pass(3*hour, true) // which is four entries, one for each hour
		b.Sample("i", b.reading())
		for i, batch := range b.changes() {
			if i == cut {
				break
			}
			if _, err := b.records.Append(t.Context(), batch.subject, batch.records); err != nil {
				t.Fatal(err)
			}
		}
		b.kill()
		b.pass(hour, true)
		b.open()
		b.Adopt(box, b.reading(), true, morning)
		b.used(fmt.Sprintf("killed after %d entries", cut), 4*hour+minute, 4*hour+minute, 4*hour+minute)
	}
}

// A start reads no more than what was written since everybody was last in it.
func TestStartsReadWhatIsNew(t *testing.T) {
	b := open(t)
	for i := range 250 {
		b.Awake(Machine{ID: fmt.Sprint("sleeper", i), Team: "t", CPUs: 1}, Reading{At: b.at, Life: uint64(i + 10), Disk: gib})
		b.Asleep(Machine{ID: fmt.Sprint("sleeper", i), Team: "t", CPUs: 1}, Reading{At: b.at, Life: uint64(i + 10), Disk: gib})
	}
	b.Awake(box, b.reading())
	for range 72 {
		b.work(hour / 2)
		b.mustWrite()
		b.work(hour / 2)
		b.mustWrite()
	}
	var from mark
	if _, err := b.marks.Get(t.Context(), markKey, &from); err != nil || from.Seq < 200 {
		t.Fatalf("the mark is %+v, %v", from, err)
	}
	if len(b.books) > 3 {
		t.Errorf("%d hours are in memory", len(b.books))
	}
	b.restart()
	if len(b.tracks) != 251 {
		t.Errorf("%d machines were found again, want 251", len(b.tracks))
	}
	for i := range 250 {
		b.Adopt(Machine{ID: fmt.Sprint("sleeper", i), Team: "t", CPUs: 1}, Reading{At: b.at, Disk: gib}, false, morning)
	}
	b.Adopt(box, b.reading(), true, morning)
	b.Keep()
	u := b.report(Query{}).Total.Usage
	if want := (72 * hour).Seconds() * 250.25; math.Abs(u.DiskGiBSeconds-want) > 1 {
		t.Errorf("stored %.1f GiB-seconds, want %.1f", u.DiskGiBSeconds, want)
	}
	if want := (72 * hour).Seconds(); math.Abs(u.CPUSeconds-want) > 1e-3 {
		t.Errorf("used %.3f CPU-seconds, want %.1f", u.CPUSeconds, want)
	}
}
