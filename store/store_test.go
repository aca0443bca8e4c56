package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

type rec struct {
	N int    `json:"n"`
	S string `json:"s,omitempty"`
}

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(context.Background(), Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func bucket(t testing.TB, s *Store, name string) *Bucket {
	t.Helper()
	b, err := s.Bucket(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func keys(t testing.TB, b *Bucket) []string {
	t.Helper()
	got := []string{}
	err := b.All(context.Background(), func(key string, data []byte) error {
		got = append(got, key)
		return json.Unmarshal(data, &rec{})
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestRecords(t *testing.T) {
	ctx := context.Background()
	b := bucket(t, open(t, t.TempDir()), "machines")

	rev, err := b.Put(ctx, "a", rec{N: 1})
	if err != nil {
		t.Fatal(err)
	}
	var got rec
	if at, err := b.Get(ctx, "a", &got); err != nil || at != rev || got.N != 1 {
		t.Fatalf("Get = %v, %d, %v; want what Put stored at revision %d", got, at, err, rev)
	}
	if _, err := b.Create(ctx, "a", rec{}); !errors.Is(err, ErrExists) {
		t.Errorf("Create over a record = %v, want ErrExists", err)
	}
	if _, err := b.Update(ctx, "a", rec{}, rev+7); !errors.Is(err, ErrConflict) {
		t.Errorf("Update of another revision = %v, want ErrConflict", err)
	}
	if _, err := b.Update(ctx, "a", rec{N: 2}, rev); err != nil {
		t.Errorf("Update of the present revision: %v", err)
	}
	if _, err := b.Get(ctx, "missing", &got); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of a missing key = %v, want ErrNotFound", err)
	}
	for range 2 {
		if err := b.Delete(ctx, "a"); err != nil {
			t.Fatalf("Delete: %v", err)
		}
	}
	if _, err := b.Get(ctx, "a", &got); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of a deleted key = %v, want ErrNotFound", err)
	}
	if left := keys(t, b); len(left) != 0 {
		t.Errorf("All lists deleted keys: %v", left)
	}
	if _, err := b.Create(ctx, "a", rec{N: 3}); err != nil {
		t.Errorf("Create after Delete: %v", err)
	}
	if got := keys(t, b); !slices.Equal(got, []string{"a"}) {
		t.Errorf("All = %v, want [a]", got)
	}
}

func TestInvalidInputIsRefused(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir())
	b := bucket(t, s, "machines")
	for _, key := range []string{"", ".", "a.", ".a", "a..b", "a b", "a*", ">", "a/b", "ä", "a\n", strings.Repeat("a", 300)} {
		if _, err := b.Put(ctx, key, rec{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("Put(%q) = %v, want ErrInvalid", key, err)
		}
		if _, err := b.Get(ctx, key, &rec{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("Get(%q) = %v, want ErrInvalid", key, err)
		}
		if err := b.Delete(ctx, key); !errors.Is(err, ErrInvalid) {
			t.Errorf("Delete(%q) = %v, want ErrInvalid", key, err)
		}
	}
	if _, err := b.Put(ctx, "big", strings.Repeat("x", MaxRecord)); !errors.Is(err, ErrInvalid) {
		t.Errorf("Put of too large a value = %v, want ErrInvalid", err)
	}
	if _, err := b.Put(ctx, "big", strings.Repeat("x", MaxRecord-2)); err != nil {
		t.Errorf("Put of the largest value: %v", err)
	}
	if _, err := b.Put(ctx, "chan", make(chan int)); !errors.Is(err, ErrInvalid) {
		t.Errorf("Put of a value without JSON form = %v, want ErrInvalid", err)
	}
	if _, err := s.Bucket(ctx, "../x"); !errors.Is(err, ErrInvalid) {
		t.Errorf("Bucket(../x) = %v, want ErrInvalid", err)
	}
}

func TestRecordsSurviveReopening(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir)
	b := bucket(t, s, "machines")
	for i := range 50 {
		if _, err := b.Put(ctx, fmt.Sprintf("k%d", i), rec{N: i}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Delete(ctx, "k7"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	b = bucket(t, open(t, dir), "machines")
	if got := keys(t, b); len(got) != 49 || slices.Contains(got, "k7") {
		t.Errorf("after reopening: %d records, want 49 without k7", len(got))
	}
}

func TestCreateHasOneWinner(t *testing.T) {
	ctx := context.Background()
	b := bucket(t, open(t, t.TempDir()), "slots")
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		wg.Go(func() {
			_, err := b.Create(ctx, "slot", rec{N: i})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, ErrExists) {
				t.Errorf("Create = %v, want ErrExists", err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d writers created the same key, want 1", won)
	}
}

func TestAllReadsMoreThanOneBatch(t *testing.T) {
	ctx := context.Background()
	b := bucket(t, open(t, t.TempDir()), "machines")
	const n = 2*scanBatch + 5
	for i := range n {
		if _, err := b.Put(ctx, fmt.Sprintf("k%05d", i), rec{N: i}); err != nil {
			t.Fatal(err)
		}
	}
	if got := keys(t, b); len(got) != n || !slices.IsSorted(got) {
		t.Errorf("All gave %d records (in order: %v), want %d in order", len(got), slices.IsSorted(got), n)
	}
	stop := errors.New("stop")
	if err := b.All(ctx, func(string, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("All = %v, want the callback's error", err)
	}
}

func TestSecondServerIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := Open(context.Background(), Config{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open = %v, want ErrLocked", err)
	}
	s.Close()
	open(t, dir)
}

func TestDamageIsReported(t *testing.T) {
	ctx := context.Background()
	tests := []struct {
		name   string
		damage func(stream string) error
		want   error // of Open
	}{
		{"description cut off", func(d string) error { return os.Truncate(filepath.Join(d, "meta.inf"), 10) }, ErrDamaged},
		{"description removed", func(d string) error { return os.Remove(filepath.Join(d, "meta.inf")) }, ErrDamaged},
		{"checksum removed", func(d string) error { return os.Remove(filepath.Join(d, "meta.sum")) }, ErrDamaged},
		{"index removed", func(d string) error { return os.Remove(filepath.Join(d, "msgs", "index.db")) }, nil},
		{"index overwritten", func(d string) error {
			return os.WriteFile(filepath.Join(d, "msgs", "index.db"), []byte("nonsense"), 0o600)
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			b := bucket(t, s, "machines")
			for i := range 10 {
				if _, err := b.Put(ctx, fmt.Sprintf("k%d", i), rec{N: i}); err != nil {
					t.Fatal(err)
				}
			}
			s.Close()
			if err := tt.damage(filepath.Join(dir, "jetstream", "$G", "streams", "KV_machines")); err != nil {
				t.Fatal(err)
			}
			s, err := Open(ctx, Config{Dir: dir})
			if !errors.Is(err, tt.want) {
				t.Fatalf("Open = %v, want %v", err, tt.want)
			}
			if err != nil {
				t.Log(err)
				return
			}
			defer s.Close()
			if got := keys(t, bucket(t, s, "machines")); len(got) != 10 {
				t.Errorf("%d records after mending, want 10", len(got))
			}
		})
	}
}

// TestLostRecordsAreReported damages bytes of one record on the disk.
func TestLostRecordsAreReported(t *testing.T) {
	ctx := context.Background()
	for _, withIndex := range []bool{true, false} {
		dir := t.TempDir()
		s := open(t, dir)
		b := bucket(t, s, "machines")
		for i := range 20 {
			if _, err := b.Put(ctx, fmt.Sprintf("k%d", i), machineSized); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		messages := filepath.Join(dir, "jetstream", "$G", "streams", "KV_machines", "msgs")
		block := filepath.Join(messages, "1.blk")
		data, err := os.ReadFile(block)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 0xff
		if err := os.WriteFile(block, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if !withIndex {
			if err := os.Remove(filepath.Join(messages, "index.db")); err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		s, err = Open(ctx, Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(&out, nil))})
		if err != nil {
			t.Fatalf("one damaged record keeps the store from opening: %v", err)
		}
		left := len(keys(t, bucket(t, s, "machines")))
		if s.Close(); left == 0 || left == 20 || !strings.Contains(out.String(), "level=ERROR") {
			t.Errorf("index %v: %d of 20 records are left and the log says %q", withIndex, left, out.String())
		}
	}
}

func TestDirectoryThatIsAFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), Config{Dir: path}); err == nil {
		t.Error("Open of a file succeeded")
	}
}

// TestKilledServerLosesNothing kills a process that writes records and looks
// for each one that it was told is stored.
func TestKilledServerLosesNothing(t *testing.T) {
	if dir := os.Getenv("ATOLL_STORE_TEST_DIR"); dir != "" {
		writeUntilKilled(t, dir)
		return
	}
	dir := t.TempDir()
	for round := range 3 {
		last := killAfter(t, dir, round*1000, 200)
		var out bytes.Buffer
		s, err := Open(context.Background(), Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(&out, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), "level=ERROR") {
			t.Errorf("a kill is reported as damage: %s", out.String())
		}
		b := bucket(t, s, "machines")
		for n := round * 1000; n <= last; n++ {
			var r rec
			_, err := b.Get(context.Background(), fmt.Sprintf("k%d", n), &r)
			if n%3 == 2 && n+1 <= last { // deleted again after the next was written
				if !errors.Is(err, ErrNotFound) {
					t.Errorf("deleted record %d is back after the kill: %v", n, err)
				}
			} else if n%3 != 2 && (err != nil || r.N != n) {
				t.Errorf("record %d after the kill: %v, %v", n, r, err)
			}
		}
		s.Close()
	}
}

// killAfter starts the writer, waits until n records are stored and kills it.
// It returns the last number that the writer reported.
func killAfter(t *testing.T, dir string, start, n int) int {
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledServerLosesNothing$")
	cmd.Env = append(os.Environ(), "ATOLL_STORE_TEST_DIR="+dir, fmt.Sprintf("ATOLL_STORE_TEST_START=%d", start))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := -1
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if k, err := fmt.Sscanf(lines.Text(), "stored %d", &last); k == 1 && err == nil && last == start+n {
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	if last < start+n {
		t.Fatalf("writer ended after %d: %s", last, stderr.String())
	}
	return last
}

func writeUntilKilled(t *testing.T, dir string) {
	ctx := context.Background()
	b := bucket(t, open(t, dir), "machines")
	start := 0
	fmt.Sscan(os.Getenv("ATOLL_STORE_TEST_START"), &start)
	for n := start; ; n++ {
		if n%3 == 0 && n > start {
			if err := b.Delete(ctx, fmt.Sprintf("k%d", n-1)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Put(ctx, fmt.Sprintf("k%d", n), rec{N: n}); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("stored %d\n", n)
	}
}

// What is deleted must not come back from the files as a crash leaves them,
// in none of its versions.
func TestDeletedRecordsStayDeletedAfterACrash(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	b := bucket(t, open(t, dir), "apikeys")
	for n := range 5 {
		for _, key := range []string{"kept", "deleted"} {
			if _, err := b.Put(ctx, key, rec{N: n}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := b.Delete(ctx, "deleted"); err != nil {
		t.Fatal(err)
	}
	for round := range 3 { // each start recovers from what the last one recovered
		crashed := filepath.Join(t.TempDir(), "crashed")
		if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(crashed, "lock"))
		s := open(t, crashed)
		if got := keys(t, bucket(t, s, "apikeys")); !slices.Equal(got, []string{"kept"}) {
			t.Errorf("after crash %d there are the records %v", round, got)
		}
		dir = crashed
	}
}

func TestConcurrentUse(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir())
	b := bucket(t, s, "machines")
	l, err := s.Log(ctx, "events", LogLimits{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				key := fmt.Sprintf("w%d.k%d", w, i)
				if _, err := b.Put(ctx, key, rec{N: i}); err != nil {
					t.Error(err)
				}
				if _, err := l.Append(ctx, key, rec{N: i}); err != nil {
					t.Error(err)
				}
				if i%10 == 0 {
					if err := b.All(ctx, func(string, []byte) error { return nil }); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if got := len(keys(t, b)); got != 200 {
		t.Errorf("%d records, want 200", got)
	}
}
