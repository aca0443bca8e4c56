package disk

import (
	"errors"
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

// BenchmarkShare shares 20 MB that differ by a tenth from their base.
func BenchmarkShare(b *testing.B) {
	d := openTest(b, "btrfs")
	ctx := b.Context()
	content := noise(1, 20<<20)
	writeFile(b, must(d.Create(ctx, "base"))(b).Path+"/f", string(content))
	path := must(d.Create(ctx, "memories"))(b).Path + "/f"
	for i := 0; i < len(content); i += 1 << 20 {
		copy(content[i:], noise(uint64(i+2), 100<<10))
	}
	var measured time.Duration
	for b.Loop() {
		b.StopTimer()
		if err := os.RemoveAll(path); err != nil {
			b.Fatal(err)
		}
		writeFile(b, path, string(content))
		if err := d.Sync(ctx, "base", "memories"); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		s, err := d.Share(ctx, File{"memories", "f"}, File{"base", "f"})
		if err != nil || s.Base < 17<<20 {
			b.Fatal(s, err)
		}
		b.StopTimer()
		if err := d.Sync(ctx, "memories"); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		if s, err := d.Stored(ctx, File{"memories", "f"}); err != nil || s.Own > 3<<20 {
			b.Fatal(s, err)
		}
		measured += time.Since(start)
		b.StartTimer()
	}
	b.ReportMetric(float64(measured.Microseconds())/float64(b.N), "stored-µs")
}

// BenchmarkSync makes durable what a pause leaves: an image of 21 MB, and what
// the guest wrote last, beside others who write.
func BenchmarkSync(b *testing.B) {
	for _, c := range []struct {
		name         string
		dirty        int // MiB in the machine's tree
		noisy, whole bool
	}{{name: "idle"}, {name: "100MiB", dirty: 100}, {name: "noisy", noisy: true}, {name: "noisy-syncfs", noisy: true, whole: true}} {
		b.Run(c.name, func(b *testing.B) {
			d := openSized(b, "btrfs", 4*lowBelow)
			d.driver.(*btrfsDriver).flushes = !c.whole
			benchmarkSync(b, d, c.dirty, c.noisy)
		})
	}
}

func benchmarkSync(b *testing.B, d *Disk, dirty int, noisy bool) {
	ctx := b.Context()
	block := noise(1, 1<<20)
	fill := func(path string, blocks int, stop <-chan struct{}) {
		f := must(os.Create(path))(b)
		defer f.Close()
		for range blocks {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := f.Write(block); err != nil {
				b.Error(err)
			}
		}
	}
	memories := must(d.Create(ctx, "memories"))(b).Path
	machine := must(d.Create(ctx, "m"))(b).Path
	other := must(d.Create(ctx, "other"))(b).Path
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	if noisy {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					fill(other+"/f", 1000, stop)
				}
			}
		})
	}
	var times []time.Duration
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		image, file := fmt.Sprintf("%s/%d", memories, i), fmt.Sprintf("%s/%d", machine, i)
		fill(image, 21, nil)
		fill(file, dirty, nil)
		writeFile(b, machine+"/little", string(block[:5000]))
		start := time.Now()
		b.StartTimer()
		if err := d.Sync(ctx, "m", "memories"); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		times = append(times, time.Since(start))
		if err := errors.Join(os.Remove(image), os.Remove(file)); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(times[len(times)-1].Microseconds())/1000, "max-ms")
}
