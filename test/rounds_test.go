package test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

// rounds is how often files are edited, put to sleep and compared, all
// sandboxes of the test together.
const rounds = 300

// TestNoByteIsLostInHundredsOfSleeps edits files in sandboxes, puts them to
// sleep by hand, by time-out and by memory pressure in turn, wakes them, and
// compares every file each time.
func TestNoByteIsLostInHundredsOfSleeps(t *testing.T) {
	const sandboxes = 10
	s := up(t, "--memory-reserve", moreThanThereIs(t), "--linger", "300ms")
	var wait sync.WaitGroup
	for i := range sandboxes {
		b := s.createWith(client.NewSandbox{TemplateID: "base", AutoPause: true}, time.Hour)
		b.run("editor.py", 8000)
		wait.Go(func() {
			e := &editor{sandbox: b}
			for round := range rounds / sandboxes {
				if err := e.round((round + i) % 3); err != nil {
					t.Errorf("sandbox %s, round %d: %v", b.SandboxID, round, err)
					return
				}
			}
			if err := e.startAnew(); err != nil {
				t.Errorf("sandbox %s, from its disk: %v", b.SandboxID, err)
			}
			t.Logf("%s: %d edits; it slept %v times by hand, by time-out, by memory pressure", b.SandboxID, e.done, e.slept)
		})
	}
	wait.Wait()
}

// moreThanThereIs is a reserve of memory, in MiB, that no host can keep free:
// what is idle goes to the disk.
func moreThanThereIs(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	var total int // KiB
	if _, err := fmt.Sscanf(string(b), "MemTotal: %d kB", &total); err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(2 * total / 1024)
}

// editor is a sandbox in which files are edited.
type editor struct {
	sandbox
	done  int    // edits that were confirmed
	slept [3]int // by hand, by time-out, by pressure
}

// ask makes one request to the program inside, which answers with a number.
func (e *editor) ask(path string) (int, error) {
	code, body, err := e.get(8000, path)
	if err != nil || code != 200 {
		return 0, fmt.Errorf("%s answers %d %s %w", path, code, body, err)
	}
	return strconv.Atoi(strings.TrimSpace(string(body)))
}

// edit makes some edits; an error leaves open whether they were made.
func (e *editor) edit() error {
	n, err := e.ask("/edit")
	if err == nil {
		e.done = n
	}
	return err
}

// round is one sleep of a kind, with edits before it and all files compared
// after it.
func (e *editor) round(kind int) error {
	if err := e.edit(); err != nil {
		return fmt.Errorf("edit: %w", err)
	}
	var err error
	switch kind {
	case 0:
		if err = e.tryPause(); err == nil {
			err = e.tryResume(client.ResumeOptions{})
		}
	case 1:
		err = e.timeOut()
	case 2:
		err = e.await(func(now client.Sandbox) bool {
			return now.State == client.StateRunning && now.Sleep == client.SleepStored
		})
	}
	if err != nil {
		return fmt.Errorf("sleep: %w", err)
	}
	e.slept[kind]++
	n, err := e.ask("/compare")
	switch {
	case err != nil:
		return fmt.Errorf("compare: %w", err)
	case n < e.done:
		return fmt.Errorf("%d edits of %d are there", n, e.done)
	}
	return nil
}

// timeOut edits until the sandbox's time is over, and resumes it.
func (e *editor) timeOut() error {
	if err := e.s.Client.SetTimeout(e.s.t.Context(), e.SandboxID, time.Second); err != nil {
		return err
	}
	for e.edit() == nil {
	}
	if err := e.await(func(now client.Sandbox) bool { return now.State == client.StatePaused }); err != nil {
		return err
	}
	return e.tryResume(client.ResumeOptions{})
}

// await waits for a state without using the sandbox.
func (e *editor) await(reached func(client.Sandbox) bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		now, err := e.s.Client.Get(e.s.t.Context(), e.SandboxID)
		switch {
		case err != nil:
			return err
		case reached(now):
			return nil
		case time.Now().After(end):
			return fmt.Errorf("waited %v in vain, it is %s %s", patience, now.State, now.Sleep)
		}
	}
}

// startAnew compares all files with what they are without any memory of them.
func (e *editor) startAnew() error {
	const sums = "cd /root/edited && find . -type f -exec sha256sum {} + | sort | sha256sum"
	before, err := e.sh(sums)
	if err != nil {
		return err
	}
	if err := e.tryPause(); err != nil {
		return err
	}
	if err := e.tryResume(client.ResumeOptions{Reboot: true}); err != nil {
		return err
	}
	after, err := e.sh(sums)
	if err == nil && before != after {
		err = fmt.Errorf("the files are others")
	}
	return err
}
