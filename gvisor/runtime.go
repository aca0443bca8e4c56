// Package gvisor starts, pauses, checkpoints, restores and ends guests in
// gVisor sandboxes, and knows which there are. It exists so that the engine
// deals in guests alone: worker processes, cgroups, namespaces and state on
// disk stay behind it, and gVisor itself stays in another program.
//
// Sandboxes outlive the daemon and its workers: Open finds them again.
package gvisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

var (
	// ErrExists means a machine of that ID is there already.
	ErrExists = errors.New("a sandbox of that name exists already")
	// ErrNotFound means there is none of that ID.
	ErrNotFound = errors.New("no such sandbox")
	// ErrDamaged means that a checkpoint does not have the content it was
	// written with.
	ErrDamaged = protocol.ErrDamaged
	// ErrIncompatible means that a checkpoint needs another version of the
	// runtime, or another processor.
	ErrIncompatible = errors.New("the checkpoint does not fit this runtime")
)

// maxRoot bounds the length of Config.Root: control sockets below it must fit
// the kernel's 107 bytes.
const maxRoot = 60

// Config is what a Runtime needs to know.
type Config struct {
	// Root is the directory of all state, absolute and at most 60 bytes long.
	Root string
	// BinDir holds atoll-sandbox and atoll-prewarm of the current version.
	BinDir string
	// CgroupParent is the cgroup below which machines get theirs, relative to
	// the root of the hierarchies, such as "atoll-main".
	CgroupParent string
	// Workers is how many sandboxes are created at once; 0 means one more
	// than there are CPUs, which is as fast as it gets.
	Workers int
	// Logger takes what nobody is told otherwise.
	Logger *slog.Logger
	// Debug makes sandboxes write gVisor's logs to Root/debug. It slows them.
	Debug bool
}

// Runtime runs guests. Its methods may be called by many goroutines at once.
type Runtime struct {
	cfg     Config
	lock    *os.File // held exclusively: one Runtime per Root
	cgroups cgroups
	key     string
	// background is what goes on after a call; Close waits for it.
	background sync.WaitGroup

	mu       sync.Mutex
	machines map[string]*guest
	helpers  map[string]*helpers // by their folder
	closed   bool
}

// guest is one sandbox as the daemon sees it.
type guest struct {
	id     string
	op     sync.Mutex // one operation at a time; held while creating
	info   diskInfo
	pidfd  *os.File // under Runtime.mu and op; nil where the process is gone
	exited chan struct{}
	end    sync.Once   // closes exited
	roomy  atomic.Bool // its memory limit is raised
}

func newGuest(id string) *guest { return &guest{id: id, exited: make(chan struct{})} }

func (g *guest) ended() { g.end.Do(func() { close(g.exited) }) }

// Open takes charge of Root and of the guests that run there. It waits for
// workers of an earlier daemon to finish what they are doing.
func Open(ctx context.Context, cfg Config) (_ *Runtime, err error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.NumCPU() + 1
	}
	if !filepath.IsAbs(cfg.Root) || len(cfg.Root) > maxRoot {
		return nil, fmt.Errorf("sandbox directory %q must be absolute and at most %d bytes long", cfg.Root, maxRoot)
	}
	r := &Runtime{cfg: cfg, machines: make(map[string]*guest), helpers: make(map[string]*helpers)}
	for _, dir := range []string{cfg.Root, r.gvisorDir(), r.machinesDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make sandbox directory: %w", err)
		}
	}
	if r.lock, err = lockRoot(ctx, cfg.Root); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if err := makeNetNS(r.netNS()); err != nil {
		return nil, err
	}
	if r.cgroups, err = openCgroups(cfg.CgroupParent); err != nil {
		return nil, err
	}
	if r.key, err = r.imageKeyOf(ctx, ""); err != nil {
		return nil, err
	}
	if err := r.helpers[filepath.Clean(cfg.BinDir)].pool.start(ctx); err != nil {
		return nil, err
	}
	if err := r.adopt(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// Close ends the workers once they are done. Guests go on.
func (r *Runtime) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	for _, g := range r.machines {
		if g.pidfd != nil {
			g.pidfd.Close() // ends its watcher
		}
	}
	for _, h := range r.helpers {
		h.close()
	}
	r.mu.Unlock()
	r.background.Wait()
	if r.lock != nil {
		return r.lock.Close()
	}
	return nil
}

// Purge destroys every guest and removes all state; the Runtime is closed.
func (r *Runtime) Purge(ctx context.Context) error {
	var errs []error
	for _, info := range r.List(ctx) {
		errs = append(errs, r.Destroy(ctx, info.ID))
	}
	errs = append(errs, r.cgroups.removeParent(), r.Close(), unix.Unmount(r.netNS(), unix.MNT_DETACH))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove all sandboxes: %w", err)
	}
	return os.RemoveAll(r.cfg.Root)
}

func (r *Runtime) gvisorDir() string   { return filepath.Join(r.cfg.Root, "r") }
func (r *Runtime) machinesDir() string { return filepath.Join(r.cfg.Root, "m") }
func (r *Runtime) netNS() string       { return filepath.Join(r.cfg.Root, "netns") }

func (r *Runtime) stateDir(id string) string { return filepath.Join(r.machinesDir(), id) }
func (r *Runtime) socket(id string) string {
	return filepath.Join(r.gvisorDir(), "runsc-"+id+".sock")
}

func workersLock(root string) string { return filepath.Join(root, "workers.lock") }

// lockRoot makes sure that nobody else works in root: no other daemon, which
// is an error, and no worker left by a killed one, which ends by itself soon.
func lockRoot(ctx context.Context, root string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(root, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open sandbox lock: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("sandbox directory %s is in use by another daemon: %w", root, err)
	}
	workers, err := os.OpenFile(workersLock(root), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("open worker lock: %w", err)
	}
	defer workers.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for unix.Flock(int(workers.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		select {
		case <-ctx.Done():
			lock.Close()
			return nil, fmt.Errorf("wait for workers of an earlier daemon to end: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return lock, nil
}

// setProcess replaces the handle of a guest's process, closing the old one.
func (r *Runtime) setProcess(g *guest, pidfd *os.File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g.pidfd != nil {
		g.pidfd.Close()
	}
	g.pidfd = pidfd
}

// find returns a guest that is not being created.
func (r *Runtime) find(id string) (*guest, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.machines[id]
	if g == nil || r.closed {
		return nil, fmt.Errorf("sandbox %s: %w", id, ErrNotFound)
	}
	return g, nil
}

// ask sends a control request about an existing guest, to a worker of the
// version that the guest runs on.
func (r *Runtime) ask(ctx context.Context, id string, req *protocol.Request) (resp protocol.Response, err error) {
	g, err := r.find(id)
	if err != nil {
		return resp, err
	}
	g.op.Lock()
	defer g.op.Unlock()
	h, release, err := r.helpersFor(g)
	if err == nil {
		req.ID, req.StateDir, req.Socket = id, r.stateDir(id), r.socket(id)
		resp, err = h.call(ctx, req)
		release()
	}
	if err != nil {
		return resp, fmt.Errorf("%s sandbox %s: %w", req.Op, id, err)
	}
	return resp, nil
}
