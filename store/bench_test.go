package store

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// machineSized is about as large as the record of a machine.
var machineSized = rec{S: strings.Repeat("x", 700)}

func BenchmarkPut(b *testing.B) {
	ctx := context.Background()
	bk := bucket(b, open(b, b.TempDir()), "machines")
	for i := 0; b.Loop(); i++ {
		if _, err := bk.Put(ctx, fmt.Sprintf("k%d", i%1000), machineSized); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDelete(b *testing.B) {
	ctx := context.Background()
	bk := bucket(b, open(b, b.TempDir()), "machines")
	for i := 0; b.Loop(); i++ {
		if err := bk.Delete(ctx, fmt.Sprintf("k%d", i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	ctx := context.Background()
	bk := bucket(b, open(b, b.TempDir()), "machines")
	if _, err := bk.Put(ctx, "k", machineSized); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := bk.Get(ctx, "k", &rec{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	ctx := context.Background()
	l, err := open(b, b.TempDir()).Log(ctx, "events", LogLimits{MaxBytes: 64 << 20})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := l.Append(ctx, "m1", rec{S: "a line of a log"}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen measures a start with records there, and what they cost in memory.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{0, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ctx := context.Background()
			dir := b.TempDir()
			s := open(b, dir)
			bk := bucket(b, s, "machines")
			for i := range n {
				if _, err := bk.Put(ctx, fmt.Sprintf("k%d", i), machineSized); err != nil {
					b.Fatal(err)
				}
			}
			s.Close()
			var before, after runtime.MemStats
			for b.Loop() {
				b.StopTimer()
				runtime.GC()
				runtime.ReadMemStats(&before)
				b.StartTimer()
				s, err := Open(ctx, Config{Dir: dir})
				if err != nil {
					b.Fatal(err)
				}
				bk := bucket(b, s, "machines")
				if err := bk.All(ctx, func(string, []byte) error { return nil }); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
				s.Close()
				b.StartTimer()
			}
		})
	}
}
