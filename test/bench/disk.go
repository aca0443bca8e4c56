package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/test/harness"
)

// diskScript does the work on a disk, wherever it is run.
//
//go:embed disk.py
var diskScript string

// diskFolder is where it works.
const diskFolder = "/home/bench"

// diskWork is one kind of work on a disk.
type diskWork struct {
	name string // the script's
	row  string
	unit string // what is counted by the second, or ms for the whole
	cold bool   // the host's cache is emptied first
	warm bool   // done once before, so that all is cached that can be
}

var diskWorks = []diskWork{
	{"write", "sprite's disk: write 512 MiB, synced", "MiB/s", false, false},
	{"read", "sprite's disk: read 512 MiB, nothing cached", "MiB/s", true, false},
	{"git", "sprite's disk: git status of 20,000 files, nothing cached", "ms", true, false},
	{"git", "sprite's disk: git status of 20,000 files", "ms", false, true},
	{"pip", "sprite's disk: pip install of 20 wheels", "ms", false, false},
	{"sqlite", "sprite's disk: SQLite commits", "1/s", false, false},
}

// figure is what the script's answer comes to.
func (w diskWork) figure(answer []byte) (float64, error) {
	var told struct{ Took, Amount float64 }
	if err := json.Unmarshal(answer, &told); err != nil || told.Took <= 0 {
		return 0, fmt.Errorf("%s tells no time: %q", w.name, answer)
	}
	if w.unit == "ms" {
		return told.Took * 1000, nil
	}
	return told.Amount / told.Took, nil
}

// onDisk does all kinds of work some times over; run runs the script with the
// work's name.
func onDisk(runs int, run func(work string) ([]byte, error)) (figures, error) {
	if _, err := run("prepare"); err != nil {
		return nil, fmt.Errorf("prepare the work on a disk: %w", err)
	}
	f := figures{}
	for range runs {
		for _, w := range diskWorks {
			if w.cold {
				syscall.Sync()
				if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
					return nil, err
				}
			}
			if w.warm {
				if _, err := run(w.name); err != nil {
					return nil, err
				}
			}
			answer, err := run(w.name)
			if err != nil {
				return nil, err
			}
			v, err := w.figure(answer)
			if err != nil {
				return nil, err
			}
			f[w.row] = append(f[w.row], v)
		}
	}
	return f, nil
}

// diskOf measures work in a sprite and the same in a container of its root file
// system, whose writable layer is on the host's disk.
func (b *bench) diskOf(s *harness.Server) error {
	b.say("work on a sprite's disk")
	g, err := b.sprite(s)
	if err != nil {
		return err
	}
	runs := max(b.runs/30, 1)
	ours, err := onDisk(runs, func(work string) ([]byte, error) {
		// As root, as it is in the container.
		return g.Output(b.ctx, client.SpriteCommand{Args: []string{"sudo", "python3", "-c", diskScript, work, diskFolder}}, 1<<10)
	})
	if err != nil {
		return err
	}
	for _, w := range diskWorks {
		b.add(w.row, w.unit, ours[w.row], nil)
	}
	if _, err := exec.LookPath("crun"); err != nil {
		b.say("no crun, so nothing to compare with (make bench installs it)")
		return nil
	}
	rootfs, err := b.copyRoot(s, "sprite", "bench-sprite-rootfs-", func(w io.Writer) error {
		// Without the compilers, which nothing here uses.
		words := append([]string{"sudo"}, packRoot("usr/lib/jvm", "usr/lib/llvm*", "usr/lib/go*", "usr/lib/rust*", "usr/lib/erlang", "usr/share/doc", "home/bench")...)
		p, err := g.Start(b.ctx, client.SpriteCommand{Args: words})
		if err != nil {
			return err
		}
		_, err = p.Copy(b.ctx, w, io.Discard)
		return err
	})
	if err != nil {
		return err
	}
	b.say("the same in a container")
	theirs, err := b.again("-disk", rootfs, "-runs", strconv.Itoa(runs))
	if err != nil {
		return err
	}
	for _, w := range diskWorks {
		b.compare(w.row, container, theirs[w.row]...)
		ratio := quantile(ours[w.row], 0.5) / quantile(theirs[w.row], 0.5)
		if w.unit == "ms" {
			ratio = 1 / ratio
		}
		b.add(w.row+", of a container's", "×", []float64{ratio}, &goal{Least: 0.5})
	}
	return nil
}

// measureDisk is what a container does with the host's disk below the folder of
// its root file system.
func measureDisk(ctx context.Context, rootfs string, runs int) (f figures, err error) {
	if err := hideNewerCgroups(); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(filepath.Dir(rootfs), "bench-disk-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	c := crun{ctx: ctx, work: work, rootfs: rootfs}
	const name = "bench-disk"
	if err := c.start(name); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.remove(name)) }()
	return onDisk(runs, func(work string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, "crun", "--cgroup-manager=cgroupfs", "exec", name, "python3", "-c", diskScript, work, diskFolder)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s in the container: %w: %s", work, err, said.Bytes())
		}
		return out, nil
	})
}
