package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"time"
)

// Checkpoint is a sprite's disk as it was at one instant.
type Checkpoint struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"create_time,omitzero"`
	SourceID  string    `json:"source_id,omitempty"` // the checkpoint that it came after
	Comment   string    `json:"comment,omitempty"`
	History   []string  `json:"history,omitempty"`
	Health    string    `json:"health,omitempty"` // empty is good
	IsAuto    bool      `json:"is_auto,omitempty"`

	// What follows is Atoll's own.

	SizeBytes int64 `json:"size_bytes,omitempty"` // its disk, shared parts included
	Memory    bool  `json:"memory,omitempty"`     // its processes are in it too
}

// SpriteEvent is one step of a checkpoint or a restore.
type SpriteEvent struct {
	Type  string    `json:"type"` // info, error or complete
	Data  string    `json:"data,omitempty"`
	Error string    `json:"error,omitempty"`
	Time  time.Time `json:"time,omitzero"`
}

// NewCheckpoint is what is asked of Checkpoint.
type NewCheckpoint struct {
	Comment string `json:"comment,omitempty"`
	Memory  bool   `json:"memory,omitempty"` // keep its processes too
}

// Checkpoint keeps the sprite's disk as it is; the sprite goes on. Each step is
// told to tell, which may be nil. It returns the new checkpoint's id.
func (g *SpriteGuest) Checkpoint(ctx context.Context, n NewCheckpoint, tell func(SpriteEvent)) (string, error) {
	k := g.call(http.MethodPost, "checkpoint")
	k.in = n
	last, err := g.steps(ctx, k, tell)
	if err != nil {
		return "", err
	}
	// The id is told in words only.
	id := checkpointID.FindString(last)
	if id == "" {
		return "", errors.New("the server did not tell the checkpoint's id")
	}
	return id, nil
}

var checkpointID = regexp.MustCompile(`\bv[0-9]+\b`)

// Restore puts the sprite's disk back to a checkpoint, and starts the sprite
// anew from it. What there was is kept as an automatic checkpoint.
func (g *SpriteGuest) Restore(ctx context.Context, id string, tell func(SpriteEvent)) error {
	_, err := g.steps(ctx, g.call(http.MethodPost, "checkpoints", id, "restore"), tell)
	return err
}

// steps follows long work to its end and returns the last message.
func (g *SpriteGuest) steps(ctx context.Context, k call, tell func(SpriteEvent)) (string, error) {
	last, done := "", false
	k.accept = ndjson
	err := stream(ctx, g.c, k, func(e SpriteEvent) error {
		if tell != nil {
			tell(e)
		}
		switch e.Type {
		case "error":
			return errors.New(first(e.Error, e.Data, "the server failed without saying why"))
		case "complete":
			done = true
		}
		last = first(e.Data, last)
		return nil
	})
	if err == nil && !done {
		err = errors.New("the server ended the work without saying that it is complete")
	}
	return last, err
}

// Checkpoints lists the sprite's checkpoints, those that were taken
// automatically where auto is set.
func (g *SpriteGuest) Checkpoints(ctx context.Context, auto bool) ([]Checkpoint, error) {
	k := g.call(http.MethodGet, "checkpoints")
	if auto {
		k.query = url.Values{"includeAuto": {"true"}}
	}
	return fetch[[]Checkpoint](ctx, g.c, k)
}

// CheckpointInfo returns one checkpoint.
func (g *SpriteGuest) CheckpointInfo(ctx context.Context, id string) (Checkpoint, error) {
	return fetch[Checkpoint](ctx, g.c, g.call(http.MethodGet, "checkpoints", id))
}

// DeleteCheckpoint removes a checkpoint for ever.
func (g *SpriteGuest) DeleteCheckpoint(ctx context.Context, id string) error {
	_, err := g.c.do(ctx, g.call(http.MethodDelete, "checkpoints", id))
	return err
}
