package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/test/harness"
)

// Names of rows that others are put beside.
const (
	interactiveWarm = "interactive, warm pool"
	interactiveOff  = "interactive, pool off"
	createWarm      = "create call, warm pool"
	trueCommand     = "commands.run('true')"
	atOnce          = "creates at once, last interactive"
	memoryEach      = "memory per idle sandbox"
	cpuCold         = "CPU per create, pool off"
	cpuWarm         = "CPU per create, warm pool"
)

// sdk runs the SDK's half of a measurement.
func (b *bench) sdk(s *harness.Server, what string, runs int, args ...string) (map[string][]float64, error) {
	cmd := exec.CommandContext(b.ctx, harness.Node(b.repository), append([]string{"bench.mjs", what, strconv.Itoa(runs)}, args...)...)
	cmd.Dir = filepath.Join(b.repository, "test", "js")
	cmd.Env, cmd.Stderr = s.Env(), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("measure %s with the SDK: %w", what, err)
	}
	var figures map[string][]float64
	return figures, json.Unmarshal(out, &figures)
}

// second measures a start that finds its data in place.
func (b *bench) second(s *harness.Server) error {
	var starts []float64
	for range max(b.runs/20, 2) {
		if err := s.Stop(); err != nil {
			return err
		}
		if err := s.Start(); err != nil {
			return err
		}
		starts = append(starts, s.Ready.Seconds()*1000)
	}
	b.add("second start of the server", "ms", starts, &goal{Median: 2000})
	return nil
}

// warm measures what a client sees of a server with its pool filled.
func (b *bench) warm(s *harness.Server) error {
	b.say("with a warm pool")
	f, err := b.sdk(s, "interactive", b.runs)
	if err != nil {
		return err
	}
	b.add(interactiveWarm, "ms", f["interactive"], &goal{Median: 15, P99: 50})
	calls, cpu, err := b.creates(s, true)
	if err != nil {
		return err
	}
	b.add(createWarm, "ms", calls, &goal{Median: 6})
	if f, err = b.sdk(s, "calls", b.runs); err != nil {
		return err
	}
	b.add(trueCommand, "ms", f["command"], &goal{Median: 6})
	b.add("write 1 KiB", "ms", f["write"], &goal{Median: 4})
	b.add("read 1 KiB", "ms", f["read"], &goal{Median: 4})
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `[{"name": "bulk", "type": "file", "path": "/tmp/bulk"}]`)
	}))
	defer sink.Close()
	if f, err = b.sdk(s, "bulk", b.bulk, sink.URL); err != nil {
		return err
	}
	b.add("write 100 MiB", "MiB/s", f["up"], &goal{Least: 250})
	b.add("write 100 MiB, to a server that throws it away", "MiB/s", f["sink"], nil)
	b.add("read 100 MiB", "MiB/s", f["down"], &goal{Least: 250})
	b.add(cpuWarm, "ms", cpu, &goal{Median: 10})
	return nil
}

// poolOff measures creates that restore the snapshot while the client waits.
func (b *bench) poolOff(s *harness.Server) error {
	b.say("with the pool off")
	f, err := b.sdk(s, "interactive", b.runs)
	if err != nil {
		return err
	}
	b.add(interactiveOff, "ms", f["interactive"], &goal{Median: 90})
	calls, cpu, err := b.creates(s, false)
	if err != nil {
		return err
	}
	b.add("create call, pool off", "ms", calls, nil)
	b.add(cpuCold, "ms", cpu, &goal{Median: 65})
	return b.density(s)
}

// cold measures creates that boot the guest, without pool and snapshot.
func (b *bench) cold(s *harness.Server) error {
	b.say("with pool and snapshot off")
	f, err := b.sdk(s, "interactive", max(b.runs/2, 5))
	if err != nil {
		return err
	}
	b.compare(interactiveWarm, coldStart, f["interactive"]...)
	b.compare(interactiveOff, coldStart, f["interactive"]...)
	b.compare(createWarm, coldStart, f["create"]...)
	_, cpu, err := b.creates(s, false)
	if err != nil {
		return err
	}
	b.compare(cpuCold, coldStart, cpu...)
	b.compare(cpuWarm, coldStart, cpu...)
	return nil
}

// creates measures the create call on a connection that is open, and what the
// whole host spends on it less what this program does. With a pool it makes as
// many as stand ready, one after the other, and lets the pool refill before
// the next round: what refilling costs is not a part of it.
func (b *bench) creates(s *harness.Server, warm bool) (calls, cpu []float64, err error) {
	round := 10
	for len(calls) < b.runs {
		if warm {
			if round, err = b.poolFilled(s); err != nil {
				return nil, nil, err
			}
		}
		var made []string
		before, err := busy()
		if err != nil {
			return nil, nil, err
		}
		for range min(round, b.runs-len(calls)) {
			began := time.Now()
			sbx, err := b.create(s)
			if err != nil {
				return nil, nil, err
			}
			calls = append(calls, ms(time.Since(began)))
			made = append(made, sbx.SandboxID)
		}
		after, err := busy()
		if err != nil {
			return nil, nil, err
		}
		cpu = append(cpu, ms(after-before)/float64(len(made)))
		for _, id := range made {
			if err := s.Client.Kill(b.ctx, id); err != nil {
				return nil, nil, err
			}
		}
	}
	return calls, cpu, nil
}

func (b *bench) create(s *harness.Server) (client.Sandbox, error) {
	seconds := 600
	return s.Client.Create(b.ctx, client.NewSandbox{TemplateID: "base", Timeout: &seconds, Secure: true})
}

// crowd asks for many at once and waits until the last has run a command.
func (b *bench) crowd(s *harness.Server) error {
	b.say("%d creates at once", b.burst)
	var last []float64
	for range 3 {
		if _, err := b.poolFilled(s); err != nil {
			return err
		}
		began := time.Now()
		errs := make([]error, b.burst)
		var wait sync.WaitGroup
		for i := range b.burst {
			wait.Go(func() {
				sbx, err := b.create(s)
				if err == nil {
					_, err = s.Client.Guest(sbx).Output(b.ctx, client.Command{Path: "/bin/echo"}, 10)
				}
				errs[i] = err
			})
		}
		wait.Wait()
		last = append(last, ms(time.Since(began)))
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("of %d at once some failed: %w", b.burst, err)
		}
		if err := s.Clear(b.ctx); err != nil {
			return err
		}
	}
	b.add(atOnce, "ms", last, &goal{Median: 2500})
	return nil
}

// density measures many sandboxes that do nothing. The pool is off, so that the
// server and the sandboxes that were asked for are all there is.
func (b *bench) density(s *harness.Server) error {
	b.say("%d idle sandboxes", b.idle)
	if err := s.Stop(); err != nil { // so that all of it is counted, the server too
		return err
	}
	free := available()
	if err := s.Start(); err != nil {
		return err
	}
	for range b.idle {
		if _, err := b.create(s); err != nil {
			return err
		}
	}
	// The last ones made are idle too once the time for the processor is over:
	// a sandbox gives back what its start took after some seconds.
	const watch = 10 * time.Second
	before, err := cpuOf(s.PID())
	if err != nil {
		return err
	}
	<-time.After(watch)
	after, err := cpuOf(s.PID())
	if err != nil {
		return err
	}
	pss, err := memoryOf(s.PID(), b.data)
	if err != nil {
		return err
	}
	const mib = 1 << 20
	n := float64(b.idle)
	b.add(memoryEach+", PSS of all processes", "MiB", []float64{float64(pss) / mib / n}, &goal{Median: 28})
	b.add(memoryEach+", fall of MemAvailable", "MiB", []float64{float64(free-available()) / mib / n}, nil)
	b.add("the server, idle, of one processor", "%", []float64{100 * float64(after-before) / float64(watch)}, &goal{Median: 3})
	return s.Clear(b.ctx)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
