package meter

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/store"
)

// BenchmarkThousand is one round of samples of a thousand machines, and what
// comes of them on the disk.
func BenchmarkThousand(b *testing.B) {
	s, err := store.Open(context.Background(), store.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	at := Instant{Wall: morning, Uptime: time.Hour, Boot: "a"}
	m, err := Open(context.Background(), Config{Store: s, Logger: slog.New(slog.DiscardHandler), Now: func() Instant { return at }})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = fmt.Sprintf("i%019d", i)
		m.Awake(Machine{ID: ids[i], Team: "01234567-89ab-cdef-0123-456789abcdef", CPUs: 2, MemoryMB: 512}, Reading{At: at, Life: 1})
	}
	cpu := time.Duration(0)
	round := func() {
		at.Wall, at.Uptime, cpu = at.Wall.Add(5*time.Second), at.Uptime+5*time.Second, cpu+123456789
		for i, id := range ids {
			m.Sample(id, Reading{At: at, Life: 1, CPU: cpu + time.Duration(i), Memory: 31_456_789, Disk: 12_345_678})
		}
	}
	b.Run("sample", func(b *testing.B) {
		for b.Loop() {
			round()
		}
	})
	b.Run("sample and write", func(b *testing.B) {
		for b.Loop() {
			round()
			if err := m.write(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("report", func(b *testing.B) {
		for b.Loop() {
			if _, err := m.Report(context.Background(), Query{From: morning, To: at.Wall, By: []string{ByMachine}}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
