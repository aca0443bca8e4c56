package client

import (
	"context"
	"net/http"
	"time"
)

// Pause puts a sandbox to sleep until it is resumed, and returns once its state
// is on the disk. Without memory only its disk is kept, and a resume starts it
// anew from there. One that is paused already is a conflict (409).
func (c *Client) Pause(ctx context.Context, id string, memory bool) error {
	in := struct {
		Memory bool `json:"memory"`
	}{memory}
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"sandboxes", id, "pause"}, in: in})
	return err
}

// ResumeOptions is what Resume may be asked for beyond waking.
type ResumeOptions struct {
	// Timeout is how long the sandbox shall live from now on, if that is more
	// than what it has left; nil leaves that to the server.
	Timeout *time.Duration
	// Reboot starts it from its disk and forgets its memory.
	Reboot bool
}

// Resume wakes a paused sandbox, and returns it with its tokens. Woken is false
// for one that was not paused; it may live longer now all the same.
func (c *Client) Resume(ctx context.Context, id string, o ResumeOptions) (s Sandbox, woken bool, err error) {
	var in struct {
		Timeout *int  `json:"timeout,omitempty"`
		Memory  *bool `json:"memory,omitempty"`
	}
	if o.Timeout != nil {
		seconds := Seconds(*o.Timeout)
		in.Timeout = &seconds
	}
	if o.Reboot {
		in.Memory = new(bool)
	}
	a, err := c.do(ctx, call{method: http.MethodPost, path: []string{"v2", "sandboxes", id, "connect"}, in: in, out: &s})
	return s, a.status == http.StatusCreated, err
}
