package gvisor

import (
	"context"
	"fmt"
	"sync"
)

// pool is the workers that create sandboxes, one each at a time.
type pool struct {
	cfg  Config
	idle chan *client // nil entries are workers to be started

	mu     sync.Mutex
	closed bool
}

// newPool starts no worker yet.
func newPool(cfg Config) *pool {
	p := &pool{cfg: cfg, idle: make(chan *client, cfg.Workers)}
	for range cfg.Workers {
		p.idle <- nil
	}
	return p
}

// start starts all workers, so that nobody has to wait for one.
func (p *pool) start(ctx context.Context) error {
	started := make([]*client, 0, cap(p.idle))
	defer func() {
		for _, c := range started {
			p.give(c)
		}
	}()
	for range cap(p.idle) {
		c, err := p.take(ctx)
		if err != nil {
			return err
		}
		started = append(started, c)
	}
	return nil
}

// rest ends the workers that do nothing.
func (p *pool) rest() {
	for range cap(p.idle) {
		select {
		case c := <-p.idle:
			if c != nil {
				c.close()
			}
			p.give(nil)
		default:
			return
		}
	}
}

// take waits for a worker; it must be given back.
func (p *pool) take(ctx context.Context) (*client, error) {
	var c *client
	select {
	case c = <-p.idle:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a worker: %w", ctx.Err())
	}
	if c != nil && !c.dead() {
		return c, nil
	}
	if c != nil {
		c.close()
	}
	c, err := startClient(p.cfg)
	if err != nil {
		p.idle <- nil
		return nil, err
	}
	return c, nil
}

func (p *pool) give(c *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.idle <- c
	} else if c != nil {
		c.close()
	}
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for {
		select {
		case c := <-p.idle:
			if c != nil {
				c.close()
			}
		default:
			return
		}
	}
}
