package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/test/harness"
)

const (
	dirtyMiB = 512 // of memory in use, for the sandbox that is not idle
	copies   = "10"
)

// asleep measures pausing and waking, on a server on which paused sandboxes do
// not linger in memory.
func (b *bench) asleep(s *harness.Server) error {
	b.say("pause and resume")
	for _, size := range []struct {
		mib           int
		name          string
		pause, resume float64
		runs          int
	}{{0, "idle", 45, 70, b.runs}, {dirtyMiB, fmt.Sprintf("%d MiB in use", dirtyMiB), 250, 350, max(b.runs/10, 3)}} {
		f, err := b.sdk(s, "sleep", size.runs, strconv.Itoa(size.mib))
		if err != nil {
			return err
		}
		b.add("pause, "+size.name, "ms", f["pause"], &goal{Median: size.pause})
		if size.mib > 0 {
			dir, err := harness.DataDir()
			if err != nil {
				return err
			}
			written, err := writeDirect(dir, size.mib)
			if err != nil {
				return err
			}
			b.compare("pause, "+size.name, "disk alone", written...)
		}
		resume := "resume from the disk, " + size.name
		b.add(resume, "ms", f["resume"], &goal{Median: size.resume})
		b.add(resume+", until it answers", "ms", f["answer"], nil)
	}
	if err := b.forks(s); err != nil {
		return err
	}
	return b.sleepers(s)
}

// frozen measures waking sandboxes that linger in memory.
func (b *bench) frozen(s *harness.Server) error {
	f, err := b.sdk(s, "sleep", b.runs, "0")
	if err != nil {
		return err
	}
	const name = "resume, frozen in memory"
	b.add(name, "ms", f["resume"], &goal{Median: 4})
	b.compare(name, "same call, awake", f["running"]...)
	return nil
}

// writeDirect measures how long the disk below the server takes for so many
// bytes, in milliseconds: what a pause is answered after.
func writeDirect(dir string, mib int) ([]float64, error) {
	var took []float64
	block, err := unix.Mmap(-1, 0, 4<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("map a block to write: %w", err)
	}
	defer unix.Munmap(block)
	rand.Read(block)
	for range 5 {
		f, err := os.OpenFile(filepath.Join(dir, "bench"), os.O_CREATE|os.O_WRONLY|unix.O_DIRECT, 0o600)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		for written := 0; written < mib<<20 && err == nil; written += len(block) {
			_, err = f.Write(block)
		}
		if err == nil {
			err = f.Sync()
		}
		took = append(took, ms(time.Since(began)))
		if err = errors.Join(err, f.Close(), os.Remove(f.Name())); err != nil {
			return nil, fmt.Errorf("write to the disk: %w", err)
		}
	}
	return took, nil
}

func (b *bench) forks(s *harness.Server) error {
	b.say("forks")
	f, err := b.sdk(s, "fork", max(b.runs/10, 3), copies)
	if err != nil {
		return err
	}
	b.add("fork into "+copies+", until all answer", "ms", f["fork"], &goal{Median: 800})
	b.add("the forked one stands still", "ms", f["still"], &goal{Median: 60})
	return nil
}

// sleepers measures a server with many paused sandboxes.
func (b *bench) sleepers(s *harness.Server) error {
	b.say("%d paused sandboxes", b.paused)
	first, err := b.pausedOne(s)
	if err != nil {
		return err
	}
	alone, err := b.resumes(s, first)
	if err != nil {
		return err
	}
	before, err := b.atRest(s)
	if err != nil {
		return err
	}
	if err := b.pauseMany(s, b.paused-1); err != nil {
		return err
	}
	after, err := b.atRest(s)
	if err != nil {
		return err
	}
	var lists []float64
	for range b.runs {
		began := time.Now()
		if err := b.page(s); err != nil {
			return err
		}
		lists = append(lists, ms(time.Since(began)))
	}
	among, err := b.resumes(s, first)
	if err != nil {
		return err
	}
	many := fmt.Sprintf("with %d paused: ", b.paused)
	b.add(many+"a page of the list", "ms", lists, &goal{Median: 20})
	b.add(many+"server memory for each", "KiB", []float64{float64(after-before) / 1024 / float64(b.paused)}, &goal{Median: 10})
	b.add(many+"resume", "ms", among, nil)
	b.compare(many+"resume", "alone", alone...)
	return s.Clear(b.ctx)
}

// atRest is the server's resident memory, in bytes, when it has given back what
// it does not need: Go collects garbage every two minutes at least.
func (b *bench) atRest(s *harness.Server) (int64, error) {
	select {
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	case <-time.After(150 * time.Second):
	}
	return residentOf(s.PID())
}

// page asks for the first page of the list of paused sandboxes, as the SDKs do.
func (b *bench) page(s *harness.Server) error {
	req, err := http.NewRequestWithContext(b.ctx, http.MethodGet, s.APIURL+"/v2/sandboxes?state=paused&limit=100", nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-API-Key", s.APIKey)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("list paused sandboxes: status %d, %w", res.StatusCode, err)
	}
	return nil
}

func (b *bench) pausedOne(s *harness.Server) (string, error) {
	sbx, err := b.create(s)
	if err != nil {
		return "", err
	}
	return sbx.SandboxID, s.Client.Pause(b.ctx, sbx.SandboxID, true)
}

// pauseMany makes paused sandboxes, a few at a time.
func (b *bench) pauseMany(s *harness.Server, n int) error {
	var wait sync.WaitGroup
	errs := make(chan error, n)
	place := make(chan struct{}, 4)
	for range n {
		place <- struct{}{}
		wait.Go(func() {
			defer func() { <-place }()
			if _, err := b.pausedOne(s); err != nil {
				errs <- err
			}
		})
	}
	wait.Wait()
	close(errs)
	return <-errs
}

// resumes measures how long it takes to resume a paused sandbox, and leaves it paused.
func (b *bench) resumes(s *harness.Server, id string) ([]float64, error) {
	var took []float64
	for range max(b.runs/10, 3) {
		began := time.Now()
		if _, _, err := s.Client.Resume(b.ctx, id, client.ResumeOptions{}); err != nil {
			return nil, err
		}
		took = append(took, ms(time.Since(began)))
		if err := s.Client.Pause(b.ctx, id, true); err != nil {
			return nil, err
		}
		<-time.After(200 * time.Millisecond) // its processes end
	}
	return took, nil
}
