package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/test/harness"
)

// export copies the root file system of the base template out of a sandbox, so
// that the container runs the same. It is kept for the next run.
func (b *bench) export(s *harness.Server) (string, error) {
	return b.copyRoot(s, "base", "bench-rootfs-", func(w io.Writer) error {
		sbx, err := b.create(s)
		if err != nil {
			return err
		}
		defer s.Client.Kill(context.WithoutCancel(b.ctx), sbx.SandboxID)
		args := packRoot()
		p, err := s.Client.Guest(sbx).As("root").Start(b.ctx, client.Command{Path: args[0], Args: args[1:]})
		if err != nil {
			return err
		}
		_, err = p.Copy(w, io.Discard)
		return err
	})
}

// packRoot is the command that packs a guest's root file system.
func packRoot(without ...string) []string {
	args := []string{"/bin/tar", "-C", "/", "--one-file-system", "--exclude=./tmp/*"}
	for _, dir := range without {
		args = append(args, "--exclude=./"+dir)
	}
	return append(args, "-cf", "-", ".")
}

// copyRoot unpacks a template's root file system into a folder of its build,
// whose name begins with prefix; it replaces those of other builds.
func (b *bench) copyRoot(s *harness.Server, template, prefix string, pack func(io.Writer) error) (string, error) {
	build, err := b.buildOf(s, template)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.data, prefix+build)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	b.say("copying the root file system of %s for the container", template)
	old, err := filepath.Glob(filepath.Join(b.data, prefix+"*"))
	if err != nil {
		return "", err
	}
	for _, o := range old {
		if err := os.RemoveAll(o); err != nil {
			return "", err
		}
	}
	staging := dir + ".part"
	if err := os.MkdirAll(staging, 0o755); err != nil {
		return "", err
	}
	unpack := exec.CommandContext(b.ctx, "tar", "-C", staging, "--numeric-owner", "-xpf", "-")
	in, err := unpack.StdinPipe()
	if err != nil {
		return "", err
	}
	unpack.Stderr = os.Stderr
	if err := unpack.Start(); err != nil {
		return "", err
	}
	err = pack(in)
	if err := errors.Join(err, in.Close(), unpack.Wait()); err != nil {
		return "", fmt.Errorf("copy the root file system: %w", err)
	}
	return dir, os.Rename(staging, dir)
}

// buildOf is the id of a template's build.
func (b *bench) buildOf(s *harness.Server, template string) (string, error) {
	all, err := s.Client.Templates(b.ctx)
	if err != nil {
		return "", err
	}
	for _, t := range all {
		if slices.Contains(t.Names, template) {
			return t.BuildID, nil
		}
	}
	return "", fmt.Errorf("there is no template %q", template)
}

// figures of the container, by the name of the row they belong beside.
type figures map[string][]float64

// containers puts the figures of a container beside ours. They are taken by
// this program once more, in a mount namespace of its own that ends with it.
func (b *bench) containers(rootfs string) error {
	if _, err := exec.LookPath("crun"); err != nil {
		b.say("no crun, so nothing to compare with (make bench installs it)")
		return nil
	}
	b.say("a container")
	f, err := b.again("-containers", rootfs, "-runs", strconv.Itoa(b.runs), "-burst", strconv.Itoa(b.burst))
	if err != nil {
		return err
	}
	for name, values := range f {
		b.compare(name, container, values...)
	}
	return nil
}

// again runs this program once more, in a mount namespace of its own, and reads
// the figures that it prints.
func (b *bench) again(args ...string) (figures, error) {
	cmd := exec.CommandContext(b.ctx, "/proc/self/exe", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("measure the container: %w", err)
	}
	var f figures
	return f, json.Unmarshal(out, &f)
}

// measureContainers is that second run: the same asked of crun, which gets a
// container with its own writable root, cgroup and namespaces, on the host's
// kernel and without network.
func measureContainers(ctx context.Context, rootfs string, runs, burst int) (figures, error) {
	if err := hideNewerCgroups(); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "atoll-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	if err := syscall.Mount("bench", work, "tmpfs", 0, ""); err != nil {
		return nil, err
	}
	defer syscall.Unmount(work, syscall.MNT_DETACH)
	c := crun{ctx: ctx, work: work, rootfs: rootfs}
	f := figures{}
	for i := range runs {
		if err := c.once(fmt.Sprintf("bench-%d", i), f); err != nil {
			return nil, err
		}
	}
	return f, c.crowd(burst, f)
}

// hideNewerCgroups is for crun, which refuses hosts with both generations of
// cgroups, where the newer has controllers of its own. Here the older is enough.
func hideNewerCgroups() error {
	if b, err := os.ReadFile("/sys/fs/cgroup/unified/cgroup.controllers"); err == nil && len(b) > 1 {
		if err := syscall.Unmount("/sys/fs/cgroup/unified", syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("hide the newer cgroups: %w", err)
		}
	}
	return nil
}

// once is the life of one container.
func (c crun) once(name string, f figures) error {
	began := time.Now()
	err := c.start(name)
	if err == nil {
		err = c.exec(name, "/bin/echo")
	}
	took := ms(time.Since(began))
	f[interactiveWarm], f[interactiveOff] = append(f[interactiveWarm], took), append(f[interactiveOff], took)
	if err == nil {
		began = time.Now()
		err = c.exec(name, "/bin/bash", "-l", "-c", "true")
		f[trueCommand] = append(f[trueCommand], ms(time.Since(began)))
	}
	return errors.Join(err, c.remove(name))
}

// crowd starts many at once. What crun spends is counted with them, and the
// first command in each.
func (c crun) crowd(burst int, f figures) error {
	before, err := busy()
	if err != nil {
		return err
	}
	began := time.Now()
	errs := make([]error, burst)
	var wait sync.WaitGroup
	for i := range burst {
		wait.Go(func() {
			name := fmt.Sprintf("bench-burst-%d", i)
			if errs[i] = c.start(name); errs[i] == nil {
				errs[i] = c.exec(name, "/bin/echo")
			}
		})
	}
	wait.Wait()
	f[atOnce] = []float64{ms(time.Since(began))}
	after, err := busy()
	if err != nil {
		return err
	}
	f[cpuCold] = []float64{ms(after-before) / float64(burst)}
	for i := range burst {
		errs[i] = errors.Join(errs[i], c.remove(fmt.Sprintf("bench-burst-%d", i)))
	}
	return errors.Join(errs...)
}

// crun runs containers.
type crun struct {
	ctx          context.Context
	work, rootfs string
}

// start makes a container with a writable root of its own and leaves it running.
func (c crun) start(name string) error {
	bundle := filepath.Join(c.work, name)
	root := filepath.Join(bundle, "rootfs")
	for _, d := range []string{root, filepath.Join(bundle, "upper"), filepath.Join(bundle, "scratch")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/scratch", c.rootfs, bundle, bundle)
	if err := syscall.Mount("overlay", root, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount the container's root: %w", err)
	}
	spec, err := json.Marshal(bundleSpec())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), spec, 0o644); err != nil {
		return err
	}
	return c.call("run", "--detach", "--bundle", bundle, name)
}

func (c crun) exec(name string, command ...string) error {
	return c.call(append([]string{"exec", name}, command...)...)
}

func (c crun) remove(name string) error {
	err := c.call("delete", "--force", name)
	return errors.Join(err, syscall.Unmount(filepath.Join(c.work, name, "rootfs"), syscall.MNT_DETACH))
}

func (c crun) call(args ...string) error {
	cmd := exec.CommandContext(context.WithoutCancel(c.ctx), "crun", append([]string{"--cgroup-manager=cgroupfs"}, args...)...)
	// A container that is left running keeps its output open, so it gets none.
	log, err := os.CreateTemp(c.work, "crun-")
	if err != nil {
		return err
	}
	defer os.Remove(log.Name())
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("crun %s: %w: %s", args[0], err, said)
	}
	return nil
}

// bundleSpec is an ordinary container that waits.
func bundleSpec() any {
	type m = map[string]any
	capabilities := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_KILL", "CAP_SYS_CHROOT"}
	return m{
		"ociVersion": "1.0.0",
		"process": m{
			"user": m{"uid": 0, "gid": 0}, "cwd": "/", "args": []string{"/bin/sleep", "3600"},
			"env":             []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			"capabilities":    m{"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
			"noNewPrivileges": true,
		},
		"root": m{"path": "rootfs"}, "hostname": "bench",
		"mounts": []m{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755", "size=65536k"}},
			{"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
			{"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		"linux": m{
			"resources":  m{"pids": m{"limit": 4096}},
			"namespaces": []m{{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}},
		},
	}
}
