package gvisor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// timings collects how long each kind of operation took.
type timings map[string][]float64

func (t timings) measure(b *testing.B, name string, f func() error) {
	b.Helper()
	start := time.Now()
	if err := f(); err != nil {
		b.Fatal(err)
	}
	t.add(name, float64(time.Since(start).Microseconds())/1000)
}

func (t timings) add(name string, v float64) { t[name] = append(t[name], v) }

// report gives medians, as "name-unit".
func (t timings) report(b *testing.B) {
	for name, all := range t {
		slices.Sort(all)
		b.ReportMetric(all[len(all)/2], name)
	}
}

// BenchmarkLife restores a small guest, and measures each step of its life.
// Run it with -benchtime=20x or more; figures are medians in milliseconds,
// "cpu" what the machine's cgroup used until its guest ran again.
func BenchmarkLife(b *testing.B) {
	h := newHarness(b)
	first := h.spec("first", "serve")
	h.must(h.Boot(b.Context(), first))
	h.said("first", "ready")
	h.must(h.Pause(b.Context(), "first"))
	image := filepath.Join(h.dir, "image")
	h.checkpoint(b.Context(), "first", image)
	t := make(timings)
	cpu := func(id string) float64 {
		u, err := h.Usage(id)
		h.must(err)
		return float64(u.CPU.Microseconds()) / 1000
	}
	for i := 0; b.Loop(); i++ {
		boot, s := h.spec(fmt.Sprint("b", i), "serve"), h.spec(fmt.Sprint("r", i), "serve")
		t.measure(b, "boot-ms", func() error { return h.Boot(b.Context(), boot) })
		h.said(boot.ID, "ready")
		t.add("boot-cpu-ms", cpu(boot.ID))
		t.measure(b, "restore-ms", func() error { return h.Restore(b.Context(), s, image) })
		t.add("restore-cpu-ms", cpu(s.ID))
		time.Sleep(50 * time.Millisecond) // let it come to rest
		t.add("pss-mb", h.pss(s.ID))
		t.measure(b, "pause-ms", func() error { return h.Pause(b.Context(), s.ID) })
		dir := filepath.Join(h.dir, "image-"+s.ID)
		t.measure(b, "checkpoint-ms", func() error { _, err := h.Checkpoint(b.Context(), s.ID, dir); return err })
		t.measure(b, "resume-ms", func() error { return h.Resume(b.Context(), s.ID) })
		t.measure(b, "destroy-ms", func() error { return h.Destroy(b.Context(), s.ID) })
		h.must(h.Destroy(b.Context(), boot.ID))
		for _, d := range []string{dir, s.Rootfs, boot.Rootfs} {
			h.must(os.RemoveAll(d))
		}
	}
	t.report(b)
}

// pss is the memory in megabytes of all processes of a machine, with what they
// share counted in part.
func (h *harness) pss(id string) float64 {
	pids, err := h.cgroups.processes(id)
	h.must(err)
	var kb float64
	for _, pid := range pids {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
				n, _ := strconv.ParseFloat(f[1], 64)
				kb += n
			}
		}
	}
	return kb / 1024
}

// BenchmarkBurst restores as many guests at once as it is asked for, keeps them
// all, and tells how long each took of the whole.
func BenchmarkBurst(b *testing.B) {
	h := newHarness(b)
	h.must(h.Boot(b.Context(), h.spec("first", "serve")))
	h.said("first", "ready")
	h.must(h.Pause(b.Context(), "first"))
	image := filepath.Join(h.dir, "image")
	h.checkpoint(b.Context(), "first", image)
	specs := make([]Spec, b.N)
	for i := range specs {
		specs[i] = h.spec(fmt.Sprint("r", i), "serve")
	}
	failed := make(chan error, b.N)
	b.ResetTimer()
	for _, s := range specs {
		go func() { failed <- h.Restore(b.Context(), s, image) }()
	}
	for range specs {
		if err := <-failed; err != nil {
			b.Error(err)
		}
	}
	b.StopTimer()
	start := time.Now()
	for _, s := range specs {
		go func() { failed <- h.Destroy(b.Context(), s.ID) }()
	}
	for range specs {
		if err := <-failed; err != nil {
			b.Error(err)
		}
	}
	b.ReportMetric(float64(time.Since(start).Milliseconds())/float64(b.N), "destroy-ms")
}

// BenchmarkSleep measures putting a guest with much memory in use to sleep and
// waking it, for several sizes in MiB. ATOLL_IMAGES names the directory for
// images, so that file systems can be compared.
func BenchmarkSleep(b *testing.B) {
	for _, size := range []int{0, 16, 128, 512} {
		b.Run(strconv.Itoa(size), func(b *testing.B) { benchSleep(b, size) })
	}
}

func benchSleep(b *testing.B, size int) {
	h := newHarness(b)
	images := h.dir
	if dir := os.Getenv("ATOLL_IMAGES"); dir != "" {
		images = filepath.Join(dir, filepath.Base(h.dir))
		h.must(os.MkdirAll(images, 0o700))
		b.Cleanup(func() { os.RemoveAll(images) })
	}
	memory := int64(1024)
	if m, err := strconv.Atoi(os.Getenv("ATOLL_MEMORY")); err == nil {
		memory = int64(m)
	}
	first := h.spec("first", "fill", strconv.Itoa(size))
	first.MemoryBytes = memory << 20
	h.must(h.Boot(b.Context(), first))
	h.said("first", "memory")
	t := make(timings)
	for i := 0; b.Loop(); i++ {
		image := filepath.Join(images, fmt.Sprint("image", i))
		t.measure(b, "pause-ms", func() error { return h.Pause(b.Context(), "first") })
		t.measure(b, "checkpoint-ms", func() error {
			made, err := h.Checkpoint(b.Context(), "first", image)
			t.add("image-mb", float64(made.Bytes)/(1<<20))
			return err
		})
		t.measure(b, "seal-ms", func() error { return h.Seal(b.Context(), image) })
		t.measure(b, "resume-ms", func() error { return h.Resume(b.Context(), "first") })
		s := h.spec(fmt.Sprint("r", i), "fill", strconv.Itoa(size))
		s.MemoryBytes, s.Paused = first.MemoryBytes, true
		t.measure(b, "restore-ms", func() error { return h.Restore(b.Context(), s, image) })
		t.measure(b, "restore-resume-ms", func() error { return h.Resume(b.Context(), s.ID) })
		t.measure(b, "destroy-ms", func() error { return h.Destroy(b.Context(), s.ID) })
		h.must(os.RemoveAll(image))
		h.must(os.RemoveAll(s.Rootfs))
	}
	t.report(b)
}
