package kernel

import (
	"context"
	"errors"
	"sync"
)

// errStuck is reported to those who wait for code that cannot be stopped.
var errStuck = errors.New("earlier code in this context, whose client has gone, does not end on an interrupt; restart the context, or use another")

// turn lets one execution at a time into a context, in the order in which they
// came.
type turn struct {
	token chan struct{}
	mu    sync.Mutex
	// stuck is closed while whoever has the turn will not give it back soon.
	stuck chan struct{}
}

func newTurn() *turn {
	return &turn{token: make(chan struct{}, 1), stuck: make(chan struct{})}
}

// try takes the turn if it is free.
func (t *turn) try() bool {
	select {
	case t.token <- struct{}{}:
		return true
	default:
		return false
	}
}

// wait takes the turn, unless it is stuck or gets so.
func (t *turn) wait(ctx context.Context) error {
	t.mu.Lock()
	stuck := t.stuck
	t.mu.Unlock()
	select {
	case t.token <- struct{}{}:
		return nil
	case <-stuck:
		return errStuck
	case <-ctx.Done():
		return ctx.Err()
	}
}

// insist takes the turn even if it is stuck.
func (t *turn) insist(ctx context.Context) error {
	select {
	case t.token <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// giveUp says that the turn is stuck until it is released.
func (t *turn) giveUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	closeOnce(t.stuck)
}

func (t *turn) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.stuck:
		t.stuck = make(chan struct{})
	default:
	}
	<-t.token
}
