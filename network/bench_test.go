package network

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

// ahead opens an instance whose pool is full.
func ahead(b *testing.B, slots int) *Network {
	cfg := testConfig(b)
	cfg.Ahead, cfg.Logger = slots, nil
	n := openNetwork(b, cfg)
	eventually(b, "slots are ready", func() bool { return n.freeSlots() >= slots })
	return n
}

// BenchmarkAcquire is the hot path: a slot that is ready, with no policy.
func BenchmarkAcquire(b *testing.B) { benchmarkAcquire(b, Policy{}) }

// BenchmarkAcquireWithPolicy puts a policy into the firewall as well.
func BenchmarkAcquireWithPolicy(b *testing.B) {
	benchmarkAcquire(b, Policy{Deny: prefixes("0.0.0.0/0"), Allow: prefixes("8.8.8.8/32", "1.1.1.0/24")})
}

func benchmarkAcquire(b *testing.B, p Policy) {
	const slots = 100
	n := ahead(b, slots)
	var held []*Slot
	for b.Loop() {
		slot, err := n.Acquire(context.Background(), p)
		must(b, err)
		if held = append(held, slot); len(held) == slots {
			b.StopTimer()
			for _, slot := range held {
				n.Release(slot)
			}
			held = nil
			eventually(b, "the slots are clean", func() bool { return n.freeSlots() >= slots })
			b.StartTimer()
		}
	}
}

// BenchmarkReuse is slots from machine to machine: given back, cleaned, taken.
func BenchmarkReuse(b *testing.B) {
	n := ahead(b, 32)
	for b.Loop() {
		slot, err := n.Acquire(context.Background(), Policy{})
		must(b, err)
		n.Release(slot)
	}
}

// BenchmarkMakeSlot is a slot that is not there yet.
func BenchmarkMakeSlot(b *testing.B) {
	cfg := testConfig(b)
	cfg.Logger = nil
	n := openNetwork(b, cfg)
	for index := 1000; b.Loop(); index++ {
		_, err := n.make(context.Background(), index)
		must(b, err)
	}
}

// BenchmarkOpenTap is the guest's end of the link.
func BenchmarkOpenTap(b *testing.B) {
	n := ahead(b, 1)
	slot, err := n.Acquire(context.Background(), Policy{})
	must(b, err)
	for b.Loop() {
		tap, err := slot.OpenTap()
		must(b, err)
		b.StopTimer()
		tap.Close()
		b.StartTimer()
	}
}

// BenchmarkSetPolicy changes one machine's policy among 200.
func BenchmarkSetPolicy(b *testing.B) {
	n := ahead(b, 1)
	var last *Slot
	for range 200 {
		slot, err := n.Acquire(context.Background(), Policy{Deny: prefixes("0.0.0.0/0"), Allow: prefixes("8.8.8.8/32")})
		must(b, err)
		last = slot
	}
	policies := []Policy{{}, {Deny: prefixes("0.0.0.0/0")}}
	for i := 0; b.Loop(); i++ {
		must(b, last.SetPolicy(policies[i%2]))
	}
}

// BenchmarkBegin is a new machine's policy among 200.
func BenchmarkBegin(b *testing.B) {
	n := ahead(b, 1)
	var last *Slot
	for range 200 {
		slot, err := n.Acquire(context.Background(), Policy{Deny: prefixes("0.0.0.0/0"), Allow: prefixes("8.8.8.8/32")})
		must(b, err)
		last = slot
	}
	policies := []Policy{{}, {Deny: prefixes("0.0.0.0/0")}}
	for i := 0; b.Loop(); i++ {
		must(b, last.Begin(policies[i%2]))
	}
}

// BenchmarkFill200 makes 200 slots ahead and removes them all.
func BenchmarkFill200(b *testing.B) {
	for b.Loop() {
		cfg := testConfig(b)
		cfg.Ahead, cfg.Logger = 200, nil
		n, err := Open(context.Background(), cfg, nil)
		must(b, err)
		eventually(b, "slots are ready", func() bool { return n.freeSlots() >= 200 })
		b.StopTimer()
		must(b, n.Purge())
		b.StartTimer()
	}
}

// BenchmarkOpenByName is an answer with one address that is not open yet.
func BenchmarkOpenByName(b *testing.B) {
	n := ahead(b, 1)
	slot, err := n.Acquire(context.Background(), Policy{Names: allow("*")})
	must(b, err)
	held := n.held[slot.Index]
	for i := 0; b.Loop(); i++ {
		must(b, n.answered(held, "a.example", []netip.Addr{numberAddr(0x08000000 + uint32(i%maxOpened))}, time.Duration(i/maxOpened)*openGrace))
	}
}
