package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestLog(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir)
	l, err := s.Log(ctx, "events", LogLimits{MaxAge: time.Hour, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if _, err := l.Append(ctx, fmt.Sprintf("m%d", i%2), rec{N: i}); err != nil {
			t.Fatal(err)
		}
	}
	read := func(q LogQuery) (ns []int) {
		t.Helper()
		err := l.Read(ctx, q, func(e Entry) error {
			var r rec
			ns = append(ns, 0)
			err := json.Unmarshal(e.Data, &r)
			ns[len(ns)-1] = r.N
			if e.Subject != fmt.Sprintf("m%d", r.N%2) || e.Time.IsZero() {
				t.Errorf("entry %d has subject %q and time %v", r.N, e.Subject, e.Time)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return ns
	}
	tests := []struct {
		name string
		q    LogQuery
		want []int
	}{
		{"all", LogQuery{}, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{"one subject", LogQuery{Filter: "m1"}, []int{1, 3, 5, 7, 9}},
		{"from a sequence", LogQuery{From: 8}, []int{7, 8, 9}},
		{"limited", LogQuery{Filter: "m0", Limit: 2}, []int{0, 2}},
		{"since long ago", LogQuery{Since: time.Now().Add(-time.Hour), Limit: 1}, []int{0}},
		{"since the future", LogQuery{Since: time.Now().Add(time.Hour)}, nil},
		{"nothing matches", LogQuery{Filter: "m9"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := read(tt.q); !slices.Equal(got, tt.want) {
				t.Errorf("Read = %v, want %v", got, tt.want)
			}
		})
	}
	if err := l.Purge(ctx, "m0"); err != nil {
		t.Fatal(err)
	}
	if got := read(LogQuery{}); !slices.Equal(got, []int{1, 3, 5, 7, 9}) {
		t.Errorf("after Purge: %v", got)
	}
	s.Close()
	s = open(t, dir)
	if l, err = s.Log(ctx, "events", LogLimits{MaxAge: time.Hour, MaxPerSubject: 2}); err != nil {
		t.Fatal(err)
	}
	if got := read(LogQuery{}); !slices.Equal(got, []int{7, 9}) {
		t.Errorf("after reopening with a limit of 2: %v", got)
	}
}

func TestFollow(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l, err := open(t, t.TempDir()).Log(ctx, "events", LogLimits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(ctx, "m1", rec{N: 1}); err != nil {
		t.Fatal(err)
	}
	got := make(chan Entry)
	done := make(chan error, 1)
	go func() {
		done <- l.Follow(ctx, "m1", 1, func(e Entry) error { got <- e; return nil })
	}()
	first := <-got
	if _, err := l.Append(ctx, "m2", rec{N: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(ctx, "m1", rec{N: 3}); err != nil {
		t.Fatal(err)
	}
	second := <-got
	if first.Seq != 1 || second.Seq != 3 {
		t.Errorf("Follow gave sequences %d and %d, want 1 and 3", first.Seq, second.Seq)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Follow after its context ended = %v, want nil", err)
	}
	stop := errors.New("stop")
	if err := l.Follow(context.Background(), "", 1, func(Entry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Follow = %v, want the callback's error", err)
	}
}
