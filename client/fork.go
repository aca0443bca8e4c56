package client

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Forked is the outcome of one copy: a sandbox or an error.
type Forked struct {
	Sandbox *Sandbox `json:"sandbox,omitempty"`
	Error   *Error   `json:"error,omitempty"`
}

// Fork makes copies of a sandbox, memory and disk, all of one instant. Each
// copy lives for ttl, rounded up to whole seconds, and succeeds or fails on its
// own; err says that there was no attempt.
func (c *Client) Fork(ctx context.Context, id string, count int, ttl time.Duration) ([]Forked, error) {
	in := struct {
		Count   int `json:"count"`
		Timeout int `json:"timeout"`
	}{count, Seconds(ttl)}
	var out []Forked
	if _, err := c.do(ctx, call{method: http.MethodPost, path: []string{"sandboxes", id, "fork"}, in: in, out: &out}); err != nil {
		return nil, err
	}
	for i, f := range out {
		if (f.Sandbox == nil) == (f.Error == nil) {
			return nil, fmt.Errorf("read answer of the fork: copy %d is neither a sandbox nor an error", i+1)
		}
	}
	return out, nil
}
