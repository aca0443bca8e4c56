package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Snapshot is memory and disk of a sandbox at one instant. Its id and each of
// its names are templates for Create.
type Snapshot struct {
	SnapshotID string   `json:"snapshotID"`
	Names      []string `json:"names"`

	// What follows is Atoll's own.

	SandboxID         string    `json:"sandboxID,omitempty"` // it was taken of
	CreatedAt         time.Time `json:"createdAt,omitzero"`
	MemoryStoredBytes int64     `json:"memoryStoredBytes,omitempty"` // on the disk
	DiskUsedBytes     int64     `json:"diskUsedBytes,omitempty"`     // beyond the template it comes from
}

// Snapshot keeps memory and disk of a running sandbox, which goes on. The name
// may be empty; one that a snapshot of the team has already moves on to this one.
func (c *Client) Snapshot(ctx context.Context, id, name string) (Snapshot, error) {
	in := struct {
		Name string `json:"name,omitempty"`
	}{name}
	return fetch[Snapshot](ctx, c, call{method: http.MethodPost, path: []string{"sandboxes", id, "snapshots"}, in: in})
}

// SnapshotFilter narrows Snapshots; its zero value lists all.
type SnapshotFilter struct {
	SandboxID string // the sandbox that they were taken of
	Name      string // a name or an id
}

// Snapshots returns all snapshots that match, newest first, walking through the
// pages.
func (c *Client) Snapshots(ctx context.Context, f SnapshotFilter) ([]Snapshot, error) {
	q := url.Values{}
	if f.SandboxID != "" {
		q.Set("sandboxID", f.SandboxID)
	}
	if f.Name != "" {
		q.Set("name", f.Name)
	}
	return pages[Snapshot](ctx, c, []string{"snapshots"}, q)
}

// DeleteSnapshot removes a snapshot by id or name. Sandboxes made from it go on.
func (c *Client) DeleteSnapshot(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: []string{"templates", id}})
	return err
}
