package kernel_test

import (
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func newBenchWorld(b *testing.B) *world {
	w := newWorld(b, "")
	w.run("x = 0; import sys")
	return w
}

// BenchmarkExecute is one execution of next to nothing, over HTTP.
func BenchmarkExecute(b *testing.B) {
	w := newBenchWorld(b)
	var times []time.Duration
	for b.Loop() {
		start := time.Now()
		response, err := http.Post(w.url+"/execute", "application/json", strings.NewReader(`{"code":"x+=1"}`))
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "µs-median")
}

// BenchmarkOutput is 10 MB of printed lines.
func BenchmarkOutput(b *testing.B) {
	w := newBenchWorld(b)
	const size = 10 << 20
	b.SetBytes(size)
	for b.Loop() {
		response, err := http.Post(w.url+"/execute", "application/json", strings.NewReader(`{"code":"for _ in range(102400): print('`+strings.Repeat("z", 101)+`')"}`))
		if err != nil {
			b.Fatal(err)
		}
		if n, _ := io.Copy(io.Discard, response.Body); n < size {
			b.Fatalf("only %d bytes", n)
		}
		response.Body.Close()
	}
}

func TestAThousandExecutionsLeaveNothingBehind(t *testing.T) {
	w := newWorld(t, "")
	w.run("x = 0")
	measure := func() (heap uint64, goroutines int) {
		http.DefaultClient.CloseIdleConnections()
		runtime.GC()
		runtime.GC() // pools let go at the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, runtime.NumGoroutine()
	}
	for range 100 {
		w.run("x += 1; print(x); x")
	}
	heap, goroutines := measure()
	for range 1000 {
		w.run("x += 1; print(x); x")
	}
	eventually(t, "all goroutines have ended", func() bool { _, now := measure(); return now <= goroutines })
	if now, _ := measure(); now > heap+1<<20 {
		t.Errorf("the heap grew from %d to %d bytes", heap, now)
	}
}
