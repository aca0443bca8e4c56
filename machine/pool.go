package machine

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"
)

// pool keeps warm guests: restored, answering, paused, without identity. Each
// template has a target that follows demand between the engine's Pool and
// PoolMax, and falls back, to nothing for templates that nobody asks for.
type pool struct {
	mu      sync.Mutex
	floor   int // of built-in templates
	ceiling int
	shelves map[*template]*shelf
	tight   bool          // the host is short of memory: nothing is kept warm
	wanted  int           // creates that are making a guest themselves right now
	stir    chan struct{} // something changed; holds one
}

// shelf is the pool of one template.
type shelf struct {
	warm    []*guest
	floor   int // the least to keep
	filling int
	demands []time.Time // claims within demandSpan, oldest first
}

const (
	// demandSpan is how far back claims count towards a template's target.
	demandSpan = 30 * time.Second
	// poolQuiet is how long after a claim refilling an empty shelf waits, so
	// that it does not take the processor from the client that just got its
	// machine; a full one can wait poolPatience times longer.
	poolQuiet    = 25 * time.Millisecond
	poolPatience = 8
	poolTick     = 5 * time.Second
)

func newPool(floor, ceiling int) *pool {
	return &pool{floor: floor, ceiling: ceiling, shelves: map[*template]*shelf{}, stir: make(chan struct{}, 1)}
}

// open has the pool keep guests of a built-in template also when nobody asks.
func (p *pool) open(t *template) {
	p.mu.Lock()
	p.shelf(t).floor = p.floor
	p.mu.Unlock()
	p.nudge()
}

// close forgets a template and returns its guests.
func (p *pool) close(t *template) []*guest {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.gone.Store(true)
	s := p.shelves[t]
	if s == nil {
		return nil
	}
	delete(p.shelves, t)
	return s.warm
}

// squeeze empties the pool bit by bit while the host is short of memory.
func (p *pool) squeeze(tight bool) {
	p.mu.Lock()
	p.tight = tight
	p.mu.Unlock()
	if tight {
		p.nudge()
	}
}

// shelf returns a template's shelf. The caller holds p.mu.
func (p *pool) shelf(t *template) *shelf {
	s := p.shelves[t]
	if s == nil {
		s = &shelf{}
		p.shelves[t] = s
	}
	return s
}

// demand notes that a machine of the template is asked for.
func (p *pool) demand(t *template, now time.Time) {
	p.mu.Lock()
	if t.gone.Load() {
		p.mu.Unlock()
		return
	}
	s := p.shelf(t)
	if len(s.demands) < p.ceiling+1 {
		s.demands = append(s.demands, now)
	} else if len(s.demands) > 0 {
		copy(s.demands, s.demands[1:])
		s.demands[len(s.demands)-1] = now
	}
	p.mu.Unlock()
	p.nudge()
}

// take returns a warm guest, or nil.
func (p *pool) take(t *template) *guest {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.shelves[t]
	if s == nil || len(s.warm) == 0 {
		return nil
	}
	g := s.warm[0]
	s.warm = s.warm[1:]
	return g
}

// put adds a warm guest, and reports whether its template is still there.
func (p *pool) put(g *guest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g.template.gone.Load() {
		return false
	}
	s := p.shelf(g.template)
	s.warm = append(s.warm, g)
	return true
}

// drop removes a guest, and reports whether it was still there.
func (p *pool) drop(g *guest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.shelves[g.template]
	if s == nil {
		return false
	}
	for i, w := range s.warm {
		if w == g {
			s.warm = append(s.warm[:i:i], s.warm[i+1:]...)
			return true
		}
	}
	return false
}

// target is how many warm guests the template should have.
func (p *pool) target(s *shelf, now time.Time) int {
	if p.tight {
		return 0
	}
	for len(s.demands) > 0 && now.Sub(s.demands[0]) > demandSpan {
		s.demands = s.demands[1:]
	}
	return min(p.ceiling, max(s.floor, len(s.demands)))
}

// next says what the pool needs most: a template to make one more guest of, or
// a guest that is one too many. wait is how long to hold off instead.
func (p *pool) next(now time.Time) (more *template, less *guest, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for t, s := range p.shelves {
		target := p.target(s, now)
		if len(s.warm) > target && (len(s.demands) == 0 || p.tight) {
			return nil, s.warm[len(s.warm)-1], 0
		}
		if len(s.warm)+s.filling >= target {
			continue
		}
		if p.wanted > 0 {
			return nil, nil, poolQuiet
		}
		if n := len(s.demands); n > 0 {
			hold := poolQuiet + poolQuiet*time.Duration(poolPatience*len(s.warm)/target)
			if quiet := now.Sub(s.demands[n-1]); quiet < hold {
				return nil, nil, hold - quiet
			}
		}
		s.filling++
		return t, nil, 0
	}
	return nil, nil, poolTick
}

func (p *pool) filled(t *template) {
	p.mu.Lock()
	if s := p.shelves[t]; s != nil {
		s.filling--
	}
	p.mu.Unlock()
}

// want counts the creates that found the pool empty; refilling makes way for them.
func (p *pool) want(n int) {
	p.mu.Lock()
	p.wanted += n
	p.mu.Unlock()
}

func (p *pool) nudge() {
	select {
	case p.stir <- struct{}{}:
	default:
	}
}

// drain empties the pool and keeps it empty.
func (p *pool) drain() []*guest {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*guest
	for _, s := range p.shelves {
		all = append(all, s.warm...)
		s.warm, s.floor = nil, 0
	}
	p.floor, p.ceiling = 0, 0
	return all
}

// Pool is how full the warm pool of one template is.
type Pool struct {
	Template     string
	Warm, Target int
}

func (p *pool) levels(now time.Time) []Pool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var levels []Pool
	for t, s := range p.shelves {
		levels = append(levels, Pool{Template: t.snapshot().name(), Warm: len(s.warm), Target: p.target(s, now)})
	}
	return levels
}

// keepPool runs until the engine closes: it fills the pool and lets it shrink.
func (e *Engine) keepPool() {
	for e.life.Err() == nil {
		more, less, wait := e.pool.next(time.Now())
		switch {
		case more != nil:
			if !e.fill(more) {
				e.await(poolTick)
			}
		case less != nil:
			if e.pool.drop(less) {
				e.discard(less)
			}
		default:
			e.await(wait)
		}
	}
}

// await waits for a change of the pool, and for a time at the most.
func (e *Engine) await(d time.Duration) {
	if d < poolTick {
		select {
		case <-time.After(d):
		case <-e.life.Done():
		}
		return
	}
	select {
	case <-e.pool.stir:
	case <-time.After(d):
	case <-e.life.Done():
	}
}

// fill makes one warm guest of the template.
func (e *Engine) fill(t *template) bool {
	defer e.pool.filled(t)
	ctx, cancel := context.WithTimeout(e.life, makeTimeout)
	defer cancel()
	g, err := e.makeGuest(ctx, t)
	if err == nil {
		if err = e.ripen(ctx, g); err != nil {
			e.discard(g)
		}
	}
	if err != nil {
		if e.life.Err() == nil && !t.gone.Load() {
			e.log.Error("the warm pool could not be filled", "template", t.snapshot().ID, "error", err)
		}
		return false
	}
	if !e.pool.put(g) {
		e.discard(g)
		return true
	}
	e.watchWarm(g)
	return true
}

// ripen readies a fresh guest for the pool: tried out once, its log emptied of
// that, and paused.
func (e *Engine) ripen(ctx context.Context, g *guest) error {
	if g.paused {
		return nil // of a machine's snapshot, which nobody may touch
	}
	t := trial{rounds: 1, kernels: g.template.kernels, sprite: g.template.snapshot().ShowsCheckpoints}
	if err := t.run(ctx, g.control.address); err != nil {
		return fmt.Errorf("try the guest out: %w", err)
	}
	if err := g.control.prepare(ctx); err != nil {
		return fmt.Errorf("connect to it for its first client: %w", err)
	}
	if err := os.Truncate(e.logPath(g.id), 0); err != nil {
		return fmt.Errorf("empty the guest's log: %w", err)
	}
	if err := e.runtime.Pause(ctx, g.id); err != nil {
		return err
	}
	g.paused = true
	return nil
}

// watchWarm removes a warm guest whose process has ended.
func (e *Engine) watchWarm(g *guest) {
	e.background.Go(func() {
		select {
		case <-e.life.Done():
		case <-e.runtime.Exited(g.id):
			if e.pool.drop(g) {
				e.log.Warn("a warm guest ended by itself", "machine", g.id)
				e.discard(g)
			}
		}
	})
}
