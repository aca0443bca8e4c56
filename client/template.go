package client

import (
	"context"
	"net/http"
	"time"
)

// Template is what sandboxes can be made from.
type Template struct {
	TemplateID    string     `json:"templateID"`
	BuildID       string     `json:"buildID"`
	Names         []string   `json:"names"`
	Aliases       []string   `json:"aliases"`
	CPUCount      int        `json:"cpuCount"`
	MemoryMB      int        `json:"memoryMB"`
	DiskSizeMB    int        `json:"diskSizeMB"`
	Public        bool       `json:"public"`
	BuildStatus   string     `json:"buildStatus"`
	CreatedAt     time.Time  `json:"createdAt"`
	UpdatedAt     time.Time  `json:"updatedAt"`
	LastSpawnedAt *time.Time `json:"lastSpawnedAt"`
	SpawnCount    int64      `json:"spawnCount"`
}

// Templates lists the templates that the team may use.
func (c *Client) Templates(ctx context.Context) ([]Template, error) {
	return fetch[[]Template](ctx, c, call{method: http.MethodGet, path: []string{"templates"}})
}
