package meter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/store"
)

// bench is a meter on a store and a clock of its own.
type bench struct {
	*Meter
	t     *testing.T
	dir   string
	store *store.Store
	at    Instant
	cpu   time.Duration // of the machine "i", which uses one of its two CPUs while it runs
	life  uint64
}

var morning = time.Date(2026, 3, 1, 10, 15, 0, 0, time.UTC)

func open(t *testing.T) *bench {
	b := &bench{t: t, dir: t.TempDir(), at: Instant{Wall: morning, Uptime: 1000 * time.Hour, Boot: "a"}, life: 1}
	b.open()
	t.Cleanup(b.kill)
	return b
}

func (b *bench) open() {
	b.t.Helper()
	var err error
	if b.store, err = store.Open(context.Background(), store.Config{Dir: b.dir}); err != nil {
		b.t.Fatal(err)
	}
	b.Meter, err = Open(context.Background(), Config{
		Store: b.store, Logger: slog.New(slog.DiscardHandler), Now: func() Instant { return b.at },
	})
	if err != nil {
		b.t.Fatal(err)
	}
	// What would be written each second is written when a test says so.
	b.stop()
	<-b.done
}

// kill ends everything without a last word.
func (b *bench) kill() { b.store.Close() }

// restart is a kill and a new start, with nothing written in between.
func (b *bench) restart() {
	b.t.Helper()
	b.kill()
	b.open()
}

func (b *bench) mustWrite() {
	b.t.Helper()
	if err := b.write(); err != nil {
		b.t.Fatal(err)
	}
}

// pass lets time go by; with busy, one CPU works meanwhile.
func (b *bench) pass(d time.Duration, busy bool) {
	b.at.Wall, b.at.Uptime = b.at.Wall.Add(d), b.at.Uptime+d
	if busy {
		b.cpu += d
	}
}

// boot starts the guest anew, which takes it some processor time.
func (b *bench) boot() { b.life, b.cpu = b.life+1, 70*time.Millisecond }

// work is pass, busy, with a sample every five seconds.
func (b *bench) work(d time.Duration) {
	for ; d > 0; d -= 5 * time.Second {
		b.pass(min(d, 5*time.Second), true)
		b.Sample("i", b.reading())
	}
}

var box = Machine{ID: "i", Team: "t", Name: "box", CPUs: 2, MemoryMB: 1024}

// reading is half a GiB of memory, a quarter of one on the disk.
func (b *bench) reading() Reading {
	return Reading{At: b.at, Life: b.life, CPU: b.cpu, Memory: gib / 2, Disk: gib / 4}
}

func (b *bench) report(q Query) Report {
	b.t.Helper()
	if q.From.IsZero() {
		q.From, q.To = morning.AddDate(0, 0, -3), morning.AddDate(0, 0, 30)
	}
	r, err := b.Report(context.Background(), q)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// used checks what was used in all: seconds awake, of processor time, and
// for which a quarter of a GiB was stored.
func (b *bench) used(what string, awake, cpu, disk time.Duration) {
	b.t.Helper()
	u := b.report(Query{}).Total.Usage
	want := Usage{
		AwakeSeconds: awake.Seconds(), CPUSeconds: cpu.Seconds(), CPUAllocatedSeconds: 2 * awake.Seconds(),
		MemoryGiBSeconds: awake.Seconds() / 2, MemoryAllocatedGiBSeconds: awake.Seconds(),
		DiskGiBSeconds: disk.Seconds() / 4, DiskAwakeGiBSeconds: awake.Seconds() / 4,
	}
	if !near(u, want) {
		b.t.Errorf("%s: used\n%+v, want\n%+v", what, u, want)
	}
}

func near(a, b Usage) bool {
	for _, d := range []float64{
		a.AwakeSeconds - b.AwakeSeconds, a.CPUSeconds - b.CPUSeconds, a.CPUAllocatedSeconds - b.CPUAllocatedSeconds,
		a.MemoryGiBSeconds - b.MemoryGiBSeconds, a.MemoryAllocatedGiBSeconds - b.MemoryAllocatedGiBSeconds,
		a.DiskGiBSeconds - b.DiskGiBSeconds, a.DiskAwakeGiBSeconds - b.DiskAwakeGiBSeconds,
	} {
		if math.Abs(d) > 1e-5 {
			return false
		}
	}
	return true
}

const minute, hour = time.Minute, time.Hour

// Each rule of what counts, on one life of a machine.
func TestWhatCounts(t *testing.T) {
	for _, c := range []struct {
		name             string
		live             func(b *bench)
		awake, cpu, disk time.Duration
	}{
		{"while it runs", func(b *bench) { b.work(minute) }, minute, minute, minute},
		{"nothing of a pool's guest before it is claimed", func(b *bench) {}, 0, 0, 0},
		{"frozen: disk alone", func(b *bench) {
			b.work(minute)
			b.Asleep(box, b.reading())
			b.pass(hour, false)
		}, minute, minute, minute + hour},
		{"frozen and thawed: the same counter", func(b *bench) {
			b.work(minute)
			b.Asleep(box, b.reading())
			b.pass(hour, false)
			b.Awake(box, b.reading())
			b.work(minute)
		}, 2 * minute, 2 * minute, 2*minute + hour},
		{"stored and restored: a new counter, and what restoring took does not count", func(b *bench) {
			b.work(minute)
			b.Asleep(box, b.reading())
			b.pass(hour, false)
			b.boot()
			b.Awake(box, b.reading())
			b.work(minute)
		}, 2 * minute, 2 * minute, 2*minute + hour},
		{"what is done to a sleeper does not count", func(b *bench) {
			b.work(minute)
			b.Asleep(box, b.reading())
			b.pass(minute, true) // its memory is written, say
			b.Awake(box, b.reading())
			b.work(minute)
		}, 2 * minute, 2 * minute, 3 * minute},
		{"changes between samples", func(b *bench) {
			for range 10 {
				b.pass(700*time.Millisecond, true)
				b.Asleep(box, b.reading())
				b.pass(300*time.Millisecond, false)
				b.Awake(box, b.reading())
			}
		}, 7 * time.Second, 7 * time.Second, 10 * time.Second},
		{"a guest that started anew without a word", func(b *bench) {
			b.work(minute)
			b.boot()
			b.pass(5*time.Second, true)
			b.Sample("i", b.reading())
		}, minute + 5*time.Second, minute + 5*time.Second + 70*time.Millisecond, minute + 5*time.Second},
		{"killed", func(b *bench) {
			b.work(minute)
			b.pass(2*time.Second, true)
			b.End("i", b.reading())
			b.pass(hour, true)
			b.Sample("i", b.reading())
			b.End("i", b.reading())
		}, minute + 2*time.Second, minute + 2*time.Second, minute + 2*time.Second},
		{"killed asleep", func(b *bench) {
			b.work(minute)
			b.Asleep(box, b.reading())
			b.pass(hour, false)
			b.End("i", Reading{At: b.at, Disk: -1})
			b.pass(hour, false)
		}, minute, minute, minute + hour},
		{"a counter that cannot be read", func(b *bench) {
			b.work(minute)
			b.pass(5*time.Second, true)
			b.Sample("i", Reading{At: b.at, Disk: -1})
			b.work(5 * time.Second)
		}, minute + 10*time.Second, minute + 10*time.Second, minute + 10*time.Second},
		{"a sample that a change of state overtook", func(b *bench) {
			b.work(minute)
			late := b.reading()
			b.pass(time.Second, true)
			b.Asleep(box, b.reading())
			b.Sample("i", late)
			b.pass(time.Second, false)
			b.boot()
			b.Awake(box, b.reading())
			b.Sample("i", late)
			b.work(minute)
		}, 2*minute + time.Second, 2*minute + time.Second, 2*minute + 2*time.Second},
		{"a change of state that a sample overtook", func(b *bench) {
			b.work(minute)
			late := b.reading()
			b.pass(time.Second, true)
			b.Sample("i", b.reading())
			b.Asleep(box, late)
			b.pass(time.Second, false)
		}, minute + time.Second, minute + time.Second, minute + 2*time.Second},
		{"a sample told twice", func(b *bench) {
			b.work(minute)
			b.Sample("i", b.reading())
			b.Sample("i", b.reading())
		}, minute, minute, minute},
		{"over hours and days", func(b *bench) { b.work(50 * hour) }, 50 * hour, 50 * hour, 50 * hour},
		{"the clock set forward by weeks, and back", func(b *bench) {
			b.work(minute)
			b.at.Wall = b.at.Wall.AddDate(0, 0, 20)
			b.work(minute)
			b.at.Wall = b.at.Wall.AddDate(0, 0, -20)
			b.work(minute)
		}, 3 * minute, 3 * minute, 3 * minute},
		{"the clock set back by a day, and again", func(b *bench) {
			for range 2 {
				b.work(minute)
				b.at.Wall = b.at.Wall.AddDate(0, 0, -1)
				b.work(minute)
			}
		}, 4 * minute, 4 * minute, 4 * minute},
		{"the clock set while it sleeps", func(b *bench) {
			b.work(minute)
			b.Asleep(box, b.reading())
			b.at.Wall = b.at.Wall.AddDate(0, 0, 20)
			b.pass(hour, false)
			b.Awake(box, b.reading())
		}, minute, minute, minute + hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := open(t)
			b.cpu = 70 * time.Millisecond // which making it took
			first := b.reading()
			b.Awake(box, first)
			c.live(b)
			b.used("in memory", c.awake, c.cpu, c.disk)
			b.mustWrite()
			b.used("written", c.awake, c.cpu, c.disk)
		})
	}
}

func TestDiskAndMemoryAreMeansBetweenReadings(t *testing.T) {
	b := open(t)
	b.Awake(box, Reading{At: b.at, Life: 1, Memory: 0, Disk: 0})
	b.pass(10*time.Second, false)
	b.Sample("i", Reading{At: b.at, Life: 1, Memory: gib, Disk: 2 * gib})
	u := b.report(Query{}).Total.Usage
	if math.Abs(u.MemoryGiBSeconds-5) > 1e-9 || math.Abs(u.DiskGiBSeconds-10) > 1e-9 {
		t.Errorf("from 0 to 1 and 2 GiB in 10 s: %+v", u)
	}
}

// What lies in which hour.
func TestHours(t *testing.T) {
	b := open(t)
	b.Awake(box, b.reading())
	b.work(minute)
	b.pass(2*hour, true) // nobody measured: it is spread evenly
	b.Sample("i", b.reading())
	for _, c := range []struct {
		from, to time.Time
		want     time.Duration
	}{
		{morning.Add(-15 * minute), morning.Add(45 * minute), 45 * minute},
		{morning, morning.Add(time.Second), 45 * minute},
		{morning.Add(45 * minute), morning.Add(105 * minute), hour},
		{morning.Add(105 * minute), morning.Add(3 * hour), 16 * minute},
		{morning.Add(-2 * hour), morning.Add(-15 * minute), 0},
	} {
		u := b.report(Query{From: c.from, To: c.to}).Total.Usage
		if math.Abs(u.CPUSeconds-c.want.Seconds()) > 1e-6 || math.Abs(u.AwakeSeconds-c.want.Seconds()) > 1e-6 {
			t.Errorf("from %s to %s: %+v, want %s", c.from, c.to, u, c.want)
		}
	}
}

func TestForksAreMachinesOfTheirOwn(t *testing.T) {
	b := open(t)
	b.Awake(box, b.reading())
	b.work(minute)
	for i := range 3 {
		b.Awake(Machine{ID: fmt.Sprint("copy", i), Team: "t", CPUs: 1, MemoryMB: 512}, Reading{At: b.at, Life: uint64(10 + i), Disk: -1})
	}
	b.pass(minute, true)
	b.Sample("i", b.reading())
	for i := range 3 {
		b.End(fmt.Sprint("copy", i), Reading{At: b.at, Life: uint64(10 + i), CPU: 20 * time.Second, Disk: -1})
	}
	r := b.report(Query{By: []string{ByMachine}})
	if len(r.Rows) != 4 || math.Abs(r.Total.Usage.CPUSeconds-180) > 1e-6 || math.Abs(r.Total.Usage.AwakeSeconds-300) > 1e-6 {
		t.Errorf("%+v", r)
	}
}

func TestReportsAreSplitAsAsked(t *testing.T) {
	b := open(t)
	other := Machine{ID: "j", Team: "u", CPUs: 1, MemoryMB: 512}
	b.Awake(box, b.reading())
	b.Awake(other, Reading{At: b.at, Life: 9, Disk: -1})
	for range 2 {
		b.pass(24*hour, true)
		b.Sample("i", b.reading())
		b.Sample("j", Reading{At: b.at, Life: 9, CPU: b.cpu / 10, Disk: -1})
	}
	groups := func(q Query) (list []Group) {
		for _, r := range b.report(q).Rows {
			list = append(list, r.Group)
		}
		return list
	}
	for _, c := range []struct {
		q    Query
		want []Group
	}{
		{Query{}, []Group{{}}},
		{Query{By: []string{ByTeam}}, []Group{{Team: "t"}, {Team: "u"}}},
		{Query{By: []string{ByMachine}}, []Group{{Team: "t", Machine: "i"}, {Team: "u", Machine: "j"}}},
		{Query{By: []string{ByMachine}, Team: "u"}, []Group{{Team: "u", Machine: "j"}}},
		{Query{By: []string{ByTeam}, Machine: "i"}, []Group{{Team: "t"}}},
		{Query{By: []string{ByDay}}, []Group{{Day: "2026-03-01"}, {Day: "2026-03-02"}, {Day: "2026-03-03"}}},
		{Query{By: []string{ByDay, ByTeam}, Team: "t"}, []Group{{Day: "2026-03-01", Team: "t"}, {Day: "2026-03-02", Team: "t"}, {Day: "2026-03-03", Team: "t"}}},
		{Query{Team: "nobody"}, nil},
	} {
		if got := groups(c.q); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%+v: %+v, want %+v", c.q, got, c.want)
		}
	}
	if r := b.report(Query{By: []string{ByMachine}}); r.Rows[0].Name != "box" || r.Plan.Name != "sprites" || r.Currency != "USD" {
		t.Errorf("%+v", r)
	}
	for _, q := range []Query{
		{From: morning, To: morning.Add(-time.Hour)}, {From: morning, To: morning.AddDate(9, 0, 0)},
		{From: morning, To: morning.Add(time.Hour), By: []string{"week"}}, {From: morning, To: morning.Add(time.Hour), Plan: "free"},
	} {
		if _, err := b.Report(context.Background(), q); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v, want ErrInvalid", q, err)
		}
	}
}

// Everything at once, for the race detector: the sum is right all the same.
func TestConcurrentUse(t *testing.T) {
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m, err := Open(t.Context(), Config{Store: s, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for n := range 8 {
		group.Go(func() {
			mach := Machine{ID: fmt.Sprint("i", n), Team: "t", CPUs: 1}
			for life := range uint64(20) {
				m.Awake(mach, Reading{At: m.Now(), Life: life + 1})
				for i := range 10 {
					m.Sample(mach.ID, Reading{At: m.Now(), Life: life + 1, CPU: time.Duration(i+1) * time.Second})
				}
				m.Asleep(mach, Reading{At: m.Now(), Life: life + 1, CPU: 10 * time.Second})
			}
			m.End(mach.ID, Reading{At: m.Now()})
		})
	}
	for range 2 {
		group.Go(func() {
			for range 20 {
				if _, err := m.Report(t.Context(), Query{From: time.Now(), To: time.Now(), By: []string{ByMachine}}); err != nil {
					t.Error(err)
				}
				if err := m.write(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	r, err := m.Report(t.Context(), Query{From: time.Now().Add(-time.Hour), To: time.Now()})
	if err != nil || math.Abs(r.Total.Usage.CPUSeconds-8*20*10) > 1e-6 {
		t.Errorf("%+v, %v", r.Total, err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
