package machine

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// builds knows the templates that are being built while machines run.
type builds struct {
	mu     sync.Mutex
	byName map[string]*running
}

// running is one such build.
type running struct {
	done     chan struct{}
	progress Progress
	err      error // once done is closed
}

func (b *builds) announce(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byName == nil {
		b.byName = map[string]*running{}
	}
	b.byName[name] = &running{done: make(chan struct{})}
}

func (b *builds) report(name string, p Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.byName[name].progress = p
}

func (b *builds) finish(name string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.byName[name]
	r.err = err
	if err == nil {
		delete(b.byName, name)
	}
	close(r.done)
}

func (b *builds) find(ref string) *running {
	name, _, _ := strings.Cut(ref, ":")
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byName[name]
}

// wait returns when a template is not being built, or the client leaves.
func (b *builds) wait(ctx context.Context, ref string) {
	r := b.find(ref)
	if r == nil {
		return
	}
	select {
	case <-r.done:
	case <-ctx.Done():
	}
}

// problem says why a template that comes with Atoll is not there; nil if it is
// not such a one.
func (b *builds) problem(ref string) error {
	r := b.find(ref)
	if r == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-r.done:
		return fmt.Errorf("%w: template %q could not be built: %w; restart the server to try again", ErrUnavailable, ref, r.err)
	default:
	}
	left := ""
	if r.progress.Left > 0 {
		left = fmt.Sprintf(", %s left", r.progress.Left.Round(time.Second))
	}
	return fmt.Errorf("%w: template %q is being built (%.0f%%%s): try again then", ErrUnavailable, ref, 100*r.progress.Done, left)
}
