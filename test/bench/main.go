// Command bench measures how fast Atoll is and prints a table, beside a
// container of the same root file system and a cold start of ours.
//
// It starts its own servers on the data directory of the tests. Figures of an
// SDK are taken by the SDK, in test/js/bench.mjs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/atoll-cloud/atoll/test/harness"
)

// bench is one run of the whole.
type bench struct {
	ctx        context.Context
	repository string
	binary     string
	data       string
	runs       int // of everything that is fast
	burst      int // creates at once
	idle       int // idle sandboxes
	bulk       int // transfers of 100 MiB
	paused     int // paused sandboxes
	names      int // sprites made
	rows       []*row
}

// row is one figure.
type row struct {
	Name   string   `json:"name"`
	Unit   string   `json:"unit"`
	Median float64  `json:"median"`
	P99    float64  `json:"p99,omitempty"`
	Runs   int      `json:"runs"`
	Goal   *goal    `json:"goal,omitempty"`
	Met    *bool    `json:"met,omitempty"`
	Beside []beside `json:"beside,omitempty"`
}

// goal is what a figure is to be: at most median and P99, or, where least is
// set, at least that.
type goal struct {
	Median float64 `json:"median,omitempty"`
	P99    float64 `json:"p99,omitempty"`
	Least  float64 `json:"least,omitempty"`
}

// beside is the same figure of something else.
type beside struct {
	Name   string  `json:"name"`
	Median float64 `json:"median"`
}

// limit is more sandboxes than the benchmark makes.
const limit = "1000"

const (
	container = "crun"
	coldStart = "cold start"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{ctx: ctx}
	asJSON := flag.Bool("json", false, "print the figures as JSON")
	quick := flag.Bool("quick", false, "a tenth of the runs")
	containers := flag.String("containers", "", "measure only containers of this root file system, and print JSON")
	disk := flag.String("disk", "", "measure only work on the disk in a container of this root file system, and print JSON")
	only := flag.String("only", "", "measure only: sandboxes, code or sprites")
	runs := flag.Int("runs", 0, "how many runs, for -containers and -disk")
	burst := flag.Int("burst", 0, "how many at once, for -containers")
	flag.Parse()
	switch {
	case *containers != "":
		f, err := measureContainers(ctx, *containers, *runs, *burst)
		exit(errors.Join(err, json.NewEncoder(os.Stdout).Encode(f)))
	case *disk != "":
		f, err := measureDisk(ctx, *disk, *runs)
		exit(errors.Join(err, json.NewEncoder(os.Stdout).Encode(f)))
	}
	b.runs, b.burst, b.idle, b.bulk, b.paused = 100, 50, 200, 10, 1000
	if *quick {
		b.runs, b.burst, b.idle, b.bulk, b.paused = 10, 10, 20, 2, 50
	}
	if err := b.run(*only); err != nil {
		exit(err)
	}
	if *asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		exit(enc.Encode(b.rows))
	}
	b.print(os.Stdout)
}

// exit ends the program, with a word on why where it failed.
func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run measures everything, one server after the other, and then the container;
// or only one part.
func (b *bench) run(only string) (err error) {
	if os.Geteuid() != 0 {
		return fmt.Errorf("sandboxes need root: sudo make bench")
	}
	if b.repository, err = os.Getwd(); err != nil {
		return err
	}
	b.binary = filepath.Join(b.repository, "bin", "atoll")
	if b.data, err = harness.DataDir(); err != nil {
		return err
	}
	if err := b.quiet(); err != nil {
		return err
	}
	parts := []struct {
		name    string
		measure func() error
	}{{"sandboxes", b.sandboxes}, {"code", b.interpreter}, {"sprites", b.sprites}}
	known := only == ""
	for _, p := range parts {
		if only == "" || only == p.name {
			known = true
			if err := p.measure(); err != nil {
				return err
			}
		}
	}
	if !known {
		return fmt.Errorf("-only %q: there are sandboxes, code and sprites", only)
	}
	return nil
}

// sandboxes measures them, and a container.
func (b *bench) sandboxes() (err error) {
	var rootfs string
	err = b.with(func(s *harness.Server) error {
		if err := b.second(s); err != nil {
			return err
		}
		if err := b.warm(s); err != nil {
			return err
		}
		if rootfs, err = b.export(s); err != nil {
			return err
		}
		return b.crowd(s)
	}, "--max-sandboxes", limit)
	if err != nil {
		return err
	}
	if err := b.with(b.poolOff, "--max-sandboxes", limit, "--pool", "0", "--pool-max", "0"); err != nil {
		return err
	}
	if err := b.with(b.asleep, "--max-sandboxes", limit, "--linger", "0s"); err != nil {
		return err
	}
	if err := b.with(b.frozen); err != nil {
		return err
	}
	if err := b.with(b.cold, "--pool", "0", "--pool-max", "0", "--cold"); err != nil {
		return err
	}
	return b.containers(rootfs)
}

// with runs f on a server of its own.
func (b *bench) with(f func(*harness.Server) error, flags ...string) (err error) {
	s, err := harness.New(b.binary, b.data, flags...)
	if err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	defer func() {
		if clear := s.Clear(context.WithoutCancel(b.ctx)); err == nil {
			err = clear
		}
		if stop := s.Stop(); err == nil {
			err = stop
		}
	}()
	return f(s)
}

// say tells what is being measured.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// add makes a row of measurements.
func (b *bench) add(name, unit string, values []float64, g *goal) *row {
	r := &row{Name: name, Unit: unit, Median: quantile(values, 0.5), Runs: len(values), Goal: g}
	if len(values) > 1 {
		r.P99 = quantile(values, 0.99)
		if g != nil && g.Least > 0 {
			r.P99 = quantile(values, 0.01) // where more is better the slow end is the low one
		}
	}
	if g != nil {
		met := (g.Median == 0 || r.Median <= g.Median) && (g.P99 == 0 || r.P99 <= g.P99) && (g.Least == 0 || r.Median >= g.Least)
		r.Met = &met
	}
	b.rows = append(b.rows, r)
	return r
}

// compare puts something else's figure beside a row.
func (b *bench) compare(name, with string, values ...float64) {
	for _, r := range b.rows {
		if r.Name == name {
			r.Beside = append(r.Beside, beside{with, quantile(values, 0.5)})
		}
	}
}

// quantile is the value below which a share q of the values lies.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	i := int(q*float64(len(sorted)-1) + 0.5)
	return sorted[i]
}
