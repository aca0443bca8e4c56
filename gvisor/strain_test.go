package gvisor

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWhatSurvivesSleep puts a guest to sleep that is in the middle of all that
// a program can be in, and looks at each after it woke, with another address.
func TestWhatSurvivesSleep(t *testing.T) {
	h := newHarness(t)
	prefix := fmt.Sprintf("ats%d", os.Getpid()%100000)
	first, second := wire(t, prefix+"a", byte(os.Getpid())|1, 0), wire(t, prefix+"b", byte(os.Getpid())&^1, 1)
	l, err := net.Listen("tcp", net.JoinHostPort(first.Gateway.String(), "0"))
	h.must(err)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	s := h.spec("a", "strain")
	if only := os.Getenv("ATOLL_STRAIN"); only != "" {
		s.Args = append(s.Args, strings.Split(only, ",")...)
	}
	s.Link, s.Env = first, []string{"PORT=" + port}
	h.must(h.Boot(t.Context(), s))
	h.said("a", "ready")
	conn, err := net.Dial("tcp", net.JoinHostPort(first.Address.Addr().String(), "81"))
	h.must(err)
	defer conn.Close()
	h.said("a", "connected")
	slept := time.Now()
	h.must(h.Pause(t.Context(), "a"))
	image := filepath.Join(h.dir, "image")
	h.checkpoint(t.Context(), "a", image)
	c := h.twin("b", s)
	h.must(h.Destroy(t.Context(), "a"))
	time.Sleep(1500 * time.Millisecond) // the time that the guest must not notice as its own
	c.Paused, c.Link = true, second
	h.must(h.Restore(t.Context(), c, image))
	h.must(h.Resume(t.Context(), "b"))
	client := http.Client{Timeout: 60 * time.Second}
	resp, err := client.Get("http://" + second.Address.Addr().String() + "/check")
	h.must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	h.must(err)
	var mono, wall, now int64
	ended := 0
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "clock "):
			_, err := fmt.Sscanf(line, "clock %d %d %d", &mono, &wall, &now)
			h.must(err)
		case strings.HasPrefix(line, "outside "):
			if ended++; strings.Contains(line, "hangs") || strings.HasSuffix(line, "<nil>") {
				t.Error(line)
			}
		case !strings.HasSuffix(line, ": <nil>"):
			t.Error(line)
		}
		t.Log(line)
	}
	if asleep := wall - mono; asleep < 1500 || asleep > time.Since(slept).Milliseconds() {
		t.Errorf("the guest's own clock went on by %d ms, the wall clock by %d", mono, wall)
	}
	if late := time.Since(time.Unix(now, 0)); late < 0 || late > 30*time.Second || ended != 2 {
		t.Errorf("the guest's time is wrong by %v; %d connections ended", late, ended)
	}
}
