package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// SpriteSession is a program that was started in a sprite and still runs.
type SpriteSession struct {
	ID             string    `json:"id"`
	Command        string    `json:"command"`
	Workdir        string    `json:"workdir,omitempty"`
	Created        time.Time `json:"created,omitzero"`
	BytesPerSecond float64   `json:"bytes_per_second"`
	IsActive       bool      `json:"is_active"` // it wrote lately
	LastActivity   time.Time `json:"last_activity,omitzero"`
	TTY            bool      `json:"tty"`
}

// Sessions lists what runs in the sprite and was started through exec.
func (g *SpriteGuest) Sessions(ctx context.Context) ([]SpriteSession, error) {
	var out struct {
		Sessions []SpriteSession `json:"sessions"`
	}
	k := g.call(http.MethodGet, "exec")
	k.out = &out
	_, err := g.c.do(ctx, k)
	return out.Sessions, err
}

// KillEvent is one step of KillSession.
type KillEvent struct {
	Type     string `json:"type"` // signal, timeout, exited, killed, error or complete
	Message  string `json:"message,omitempty"`
	Signal   string `json:"signal,omitempty"`
	PID      int    `json:"pid,omitempty"`
	ExitCode *int   `json:"exit_code,omitempty"`
}

// KillSession sends a signal to a session's program and waits until it has
// ended; after within it is killed. With 0 it only sends the signal. Each step
// is told to tell, which may be nil.
func (g *SpriteGuest) KillSession(ctx context.Context, id, signal string, within time.Duration, tell func(KillEvent)) error {
	k := g.call(http.MethodPost, "exec", id, "kill")
	k.query = url.Values{"signal": {signal}, "timeout": {within.String()}}
	k.accept = ndjson
	return stream(ctx, g.c, k, func(e KillEvent) error {
		if tell != nil {
			tell(e)
		}
		if e.Type == "error" {
			return errors.New(first(e.Message, "the server failed without saying why"))
		}
		return nil
	})
}
