package test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

// usage is what a sandbox has used until now.
func (b sandbox) usage() client.Usage {
	b.s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := b.s.Client.Usage(ctx, client.UsageQuery{Machine: b.SandboxID, From: b.StartedAt.Add(-time.Hour)})
	if err != nil {
		b.s.t.Fatalf("ask for usage: %v", err)
	}
	return r.Total.Usage
}

// sampled is how old what the meter knows of a sandbox that runs may be.
const sampled = 5 * time.Second

// TestUsage looks at the meter of a sandbox that works, sleeps, wakes, outlives
// the server and ends.
func TestUsage(t *testing.T) {
	s := up(t, "--linger", "1s")
	b := s.create(time.Hour)
	b.must("head -c 20M /dev/urandom > /root/data && sync")
	began, before := time.Now(), b.usage()
	b.start("while :; do :; done")
	until(t, "a second of work to be metered", func() bool { return b.usage().CPUSeconds > before.CPUSeconds+1 })
	u, most := b.usage(), time.Since(began).Seconds()+sampled.Seconds()
	if cpus := float64(b.CPUCount); u.CPUSeconds-before.CPUSeconds > cpus*most || u.AwakeSeconds-before.AwakeSeconds > most ||
		u.CPUAllocatedSeconds != cpus*u.AwakeSeconds || u.MemoryGiBSeconds == 0 || u.MemoryGiBSeconds > u.MemoryAllocatedGiBSeconds {
		t.Errorf("within %.1f s it used\n%+v, before that\n%+v", most, u, before)
	}

	if err := s.Client.Pause(t.Context(), b.SandboxID, true); err != nil {
		t.Fatal(err)
	}
	asleep := b.usage()
	until(t, "its disk to be metered while it sleeps", func() bool { return b.usage().DiskGiBSeconds > asleep.DiskGiBSeconds+20./1024 })
	s.Kill()
	s.start()
	until(t, "its disk to be metered after a kill of the server", func() bool { return b.usage().DiskGiBSeconds > asleep.DiskGiBSeconds+60./1024 })
	u = b.usage()
	if u.DiskGiBSeconds, u.DiskAwakeGiBSeconds = asleep.DiskGiBSeconds, asleep.DiskAwakeGiBSeconds; u != asleep {
		t.Errorf("asleep it used\n%+v, when it fell asleep\n%+v", u, asleep)
	}

	woken := time.Now()
	if _, _, err := s.Client.Resume(t.Context(), b.SandboxID, client.ResumeOptions{}); err != nil {
		t.Fatal(err)
	}
	s.Kill() // the loop goes on meanwhile
	s.start()
	until(t, "what it did beside the server to be metered", func() bool { return b.usage().CPUSeconds > asleep.CPUSeconds+1 })
	if err := s.Client.Kill(t.Context(), b.SandboxID); err != nil {
		t.Fatal(err)
	}
	ended := b.usage()
	most = time.Since(woken).Seconds()
	if ended.CPUSeconds-asleep.CPUSeconds > float64(b.CPUCount)*most || ended.AwakeSeconds-asleep.AwakeSeconds > most {
		t.Errorf("awake for %.1f s it came from\n%+v to\n%+v", most, asleep, ended)
	}
	s.create(time.Minute).alive() // what was counted before is in the file by then
	s.Kill()
	s.start()
	if u := b.usage(); rounded(u) != rounded(ended) {
		t.Errorf("once ended it used\n%+v, after a kill of the server\n%+v", ended, u)
	}
}

// rounded is usage without the last digits: sums of the same numbers in another
// order differ in those.
func rounded(u client.Usage) client.Usage {
	for _, n := range []*float64{&u.AwakeSeconds, &u.CPUSeconds, &u.CPUAllocatedSeconds, &u.MemoryGiBSeconds,
		&u.MemoryAllocatedGiBSeconds, &u.DiskGiBSeconds, &u.DiskAwakeGiBSeconds} {
		*n = math.Round(*n*1e9) / 1e9
	}
	return u
}
