package gvisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// helpersIdle is how long workers of a version other than the current one stay
// after they were last needed.
const helpersIdle = time.Minute

// helpers are the workers of one version of the binaries. Guests stay on the
// version that they were started with, through upgrades; each version has its
// own workers, started when they are needed. Those of the current version stay,
// others end when nobody has needed them for a while.
type helpers struct {
	cfg  Config // BinDir and Workers are those of this version
	keep bool   // is the current version
	pool *pool

	mu      sync.Mutex
	control *client
	key     string // empty until it was asked for
	users   int
	retire  *time.Timer
	closed  bool
}

// helpersOf returns the workers of a version; empty is the current one.
// They are held until release is called.
func (r *Runtime) helpersOf(binDir string) (h *helpers, release func(), err error) {
	if binDir == "" {
		binDir = r.cfg.BinDir
	}
	binDir = filepath.Clean(binDir)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, nil, errClosed
	}
	h = r.helpers[binDir]
	if h == nil {
		if h, err = newHelpers(r.cfg, binDir); err != nil {
			return nil, nil, err
		}
		r.helpers[binDir] = h
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users++
	if h.retire != nil {
		h.retire.Stop()
	}
	return h, h.release, nil
}

// helpersFor returns the workers for a guest that is there. If its version is
// gone, the current one can still talk to it, if not write a checkpoint.
func (r *Runtime) helpersFor(g *guest) (h *helpers, release func(), err error) {
	h, release, err = r.helpersOf(g.info.BinDir)
	if errors.Is(err, ErrIncompatible) {
		r.cfg.Logger.Warn("a sandbox runs on a version that was removed", slog.String("sandbox", g.id), slog.Any("error", err))
		return r.helpersOf("")
	}
	return h, release, err
}

var errClosed = errors.New("the runtime is closed")

// newHelpers starts no worker yet. For an old version one is enough.
func newHelpers(cfg Config, binDir string) (*helpers, error) {
	h := &helpers{cfg: cfg, keep: filepath.Clean(cfg.BinDir) == binDir}
	h.cfg.BinDir = binDir
	if !h.keep {
		h.cfg.Workers = 1
	}
	_, err := os.Stat(filepath.Join(binDir, "atoll-sandbox"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: its helper binaries are not in %s any more", ErrIncompatible, binDir)
	}
	if err != nil {
		return nil, fmt.Errorf("find helper binaries: %w", err)
	}
	h.pool = newPool(h.cfg)
	return h, nil
}

func (h *helpers) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users--
	if h.users == 0 && !h.keep && !h.closed {
		h.retire = time.AfterFunc(helpersIdle, h.rest)
	}
}

// rest ends the workers if nobody needs them; they are started again when
// somebody does.
func (h *helpers) rest() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users > 0 {
		return
	}
	if h.control != nil {
		h.control.close()
		h.control = nil
	}
	h.pool.rest()
}

func (h *helpers) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.retire != nil {
		h.retire.Stop()
	}
	if h.control != nil {
		h.control.close()
	}
	h.pool.close()
}

// call sends a control request; the worker is started if it is not there.
func (h *helpers) call(ctx context.Context, req *protocol.Request) (protocol.Response, error) {
	c, err := h.controller()
	if err != nil {
		return protocol.Response{}, err
	}
	return c.call(ctx, req)
}

func (h *helpers) controller() (*client, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errClosed
	}
	if h.control != nil && h.control.dead() {
		h.control.close()
		h.control = nil
	}
	if h.control == nil {
		c, err := startClient(h.cfg)
		if err != nil {
			return nil, err
		}
		h.control = c
	}
	return h.control, nil
}

// imageKey asks for the version of gVisor once.
func (h *helpers) imageKey(ctx context.Context) (string, error) {
	h.mu.Lock()
	key := h.key
	h.mu.Unlock()
	if key != "" {
		return key, nil
	}
	resp, err := h.call(ctx, &protocol.Request{Op: protocol.OpVersion})
	if err != nil {
		return "", fmt.Errorf("ask for the version of gVisor: %w", err)
	}
	if key, err = imageKey(resp.Version); err != nil {
		return "", err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.key = key
	return key, nil
}
