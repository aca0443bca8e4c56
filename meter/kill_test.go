package meter

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/store"
)

// childEnv names the store of a test that runs as a process to be killed.
const childEnv = "ATOLL_METER_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := countUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// stepLength is the time that passes for the child in each step.
const stepLength = 100 * time.Second

// countUntilKilled meters a machine that is always busy, goes on with what an
// earlier child left, and says how far it has come each time it has written it.
func countUntilKilled(dir string) error {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{Dir: dir})
	if err != nil {
		return err
	}
	at := Instant{Wall: morning, Uptime: time.Hour, Boot: "a"}
	m, err := Open(ctx, Config{Store: s, Logger: slog.New(slog.DiscardHandler), Now: func() Instant { return at }})
	if err != nil {
		return err
	}
	m.stop()
	<-m.done
	step := func(n int) Reading {
		d := time.Duration(n) * stepLength
		at = Instant{Wall: morning.Add(d), Uptime: time.Hour + d, Boot: "a"}
		return Reading{At: at, Life: 1, CPU: d}
	}
	n := 0
	if t := m.tracks["i"]; t != nil {
		n = int(t.cursor.CPU/stepLength) + 1
		m.Adopt(box, step(n), true, morning)
	} else {
		m.Awake(box, step(0))
	}
	// About as fast as entries reach the file, which is more often than the
	// meter writes in earnest.
	for range time.Tick(10 * time.Millisecond) {
		if err := m.write(); err != nil {
			return err
		}
		fmt.Println(n)
		n++
		m.Sample("i", step(n))
	}
	return nil
}

// A process that is killed at any moment, again and again, leaves all but its
// last moments, and what goes on from there counts nothing twice.
func TestKills(t *testing.T) {
	dir := t.TempDir()
	last := 0
	for round := range 12 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childEnv+"="+dir)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for i := 0; i < 5+3*round && lines.Scan(); i++ {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 && n < last-2 {
				t.Errorf("kill %d: it had come to %d and goes on from %d", round, last, n)
			}
			last = n
		}
		child.Process.Kill()
		child.Wait() // it was killed
	}
	s, err := store.Open(t.Context(), store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m, err := Open(t.Context(), Config{Store: s, Logger: slog.New(slog.DiscardHandler), Now: func() Instant { return Instant{Wall: morning, Boot: "a"} }})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	r, err := m.Report(t.Context(), Query{From: morning.AddDate(0, 0, -1), To: morning.AddDate(0, 0, 60)})
	if err != nil {
		t.Fatal(err)
	}
	at := m.tracks["i"].cursor
	if got := r.Total.Usage; math.Abs(got.CPUSeconds-at.CPU.Seconds()) > 1e-3 || math.Abs(got.AwakeSeconds-at.CPU.Seconds()) > 1e-3 {
		t.Errorf("the counter stands at %s, and %+v was counted", at.CPU, got)
	}
	if n := int(at.CPU / stepLength); n < last-2 || n > last+1 {
		t.Errorf("%d steps were written, and %d are left", last, n)
	}
}
