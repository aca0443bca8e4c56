package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkDisk prints medians and 99th percentiles of what a machine's life
// costs: go test -run - -bench Disk -benchtime 200x ./disk
func BenchmarkDisk(b *testing.B) {
	d := openTest(b, "btrfs")
	ctx := b.Context()
	base := must(d.Create(ctx, "base"))(b)
	for i := range 2000 {
		dir := filepath.Join(base.Path, fmt.Sprint(i%50))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		writeFile(b, filepath.Join(dir, fmt.Sprint(i)), string(make([]byte, 20<<10)))
	}
	if err := d.Seal(ctx, "base"); err != nil {
		b.Fatal(err)
	}
	var clone, dirty, usage, remove []time.Duration
	timed := func(to *[]time.Duration, f func() error) {
		start := time.Now()
		if err := f(); err != nil {
			b.Fatal(err)
		}
		*to = append(*to, time.Since(start))
	}
	cloneOne := func(name string) func() error {
		return func() error {
			_, err := d.Clone(ctx, "base", name, CloneOptions{LimitBytes: 1 << 30})
			return err
		}
	}
	b.ResetTimer()
	for i := range b.N {
		name := fmt.Sprintf("m/%d", i)
		timed(&clone, cloneOne(name))
		writeFile(b, d.Path(name)+"/own", string(make([]byte, 1<<20)))
		timed(&usage, func() error { _, _, err := d.Usage(ctx, name); return err })
		// Another machine's writes are in the commit that a clone waits for.
		timed(&dirty, cloneOne(name+"-2"))
		timed(&remove, func() error { return d.Remove(ctx, name) })
		timed(&remove, func() error { return d.Remove(ctx, name+"-2") })
	}
	b.StopTimer()
	for what, times := range map[string][]time.Duration{"clone": clone, "clone-dirty": dirty, "usage": usage, "remove": remove} {
		slices.Sort(times)
		b.ReportMetric(float64(times[len(times)/2].Microseconds()), what+"-p50-µs")
		b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), what+"-p99-µs")
	}
	start := time.Now()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if err := cloneOne(fmt.Sprintf("at-once/%d", i))(); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(time.Since(start).Milliseconds()), "50-clones-at-once-ms")
}
