package client

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Sprite is what the server tells of one sprite: a machine with a name and a
// disk that stays.
type Sprite struct {
	ID            string            `json:"id"`
	Name          string            `json:"name"`
	Organization  string            `json:"organization,omitempty"`
	Status        string            `json:"status"` // SpriteRunning, SpriteWarm or SpriteCold
	Config        *SpriteConfig     `json:"config,omitempty"`
	Environment   map[string]string `json:"environment,omitempty"`
	CreatedAt     time.Time         `json:"created_at,omitzero"`
	UpdatedAt     time.Time         `json:"updated_at,omitzero"`
	URL           string            `json:"url,omitempty"`
	URLSettings   SpriteURL         `json:"url_settings,omitzero"`
	Version       string            `json:"version,omitempty"` // empty: it never started
	Labels        []string          `json:"labels,omitempty"`
	LastRunningAt *time.Time        `json:"last_running_at,omitempty"`
	LastWarmingAt *time.Time        `json:"last_warming_at,omitempty"` // when it fell asleep

	// What follows is Atoll's own.

	DiskUsedBytes int64 `json:"disk_used_bytes,omitempty"` // written beyond its template
	// Fresh says why it had to start anew though it had slept with its memory.
	Fresh string `json:"fresh,omitempty"`
	// OrgAccess says that the programs in it may use the API as its team.
	OrgAccess bool `json:"org_access,omitempty"`
}

// The states of a sprite. Any use wakes one that is warm or cold.
const (
	SpriteRunning = "running"
	SpriteWarm    = "warm" // frozen in the host's memory
	SpriteCold    = "cold" // on the disk alone
)

// SpriteConfig is the size of a sprite.
type SpriteConfig struct {
	RAMMB     int    `json:"ram_mb,omitempty"`
	CPUs      int    `json:"cpus,omitempty"`
	Region    string `json:"region,omitempty"`
	StorageGB int    `json:"storage_gb,omitempty"`
}

// SpriteURL is who may use a sprite's URL.
type SpriteURL struct {
	Auth          string `json:"auth,omitempty"`           // sprite or public
	PrivateAccess string `json:"private_access,omitempty"` // admins or org_users
}

// NewSprite is what is asked of CreateSprite.
type NewSprite struct {
	Name        string            `json:"name"`
	Config      *SpriteConfig     `json:"config,omitempty"`
	Environment map[string]string `json:"environment,omitempty"`
	Labels      []string          `json:"labels,omitempty"`
	URLSettings *SpriteURL        `json:"url_settings,omitempty"`
	// From, where set, is another sprite's checkpoint that this one begins as.
	From *CheckpointRef `json:"from_checkpoint,omitempty"`
	// OrgAccess lets the programs in it use the API as its team.
	OrgAccess bool `json:"org_access,omitempty"`
}

// CheckpointRef names a checkpoint of any sprite of the team.
type CheckpointRef struct {
	Sprite     string `json:"sprite"`
	Checkpoint string `json:"checkpoint"`
}

// SpriteUpdate changes a sprite; what is nil stays as it is.
type SpriteUpdate struct {
	URLSettings *SpriteURL `json:"url_settings,omitempty"`
	Labels      []string   `json:"labels,omitempty"`
	ClearLabels bool       `json:"clear_labels,omitempty"`
	OrgAccess   *bool      `json:"org_access,omitempty"`
}

// CreateSprite makes a sprite and returns once it is there.
func (c *Client) CreateSprite(ctx context.Context, n NewSprite) (Sprite, error) {
	return fetch[Sprite](ctx, c, call{sprites: true, method: http.MethodPost, path: spritePath(), in: n})
}

// SpriteOrg is the organisation that the key belongs to, and how many of its
// sprites are in which state.
type SpriteOrg struct {
	Name    string `json:"name"`
	Running int    `json:"running"`
	Warm    int    `json:"warm"`
	Cold    int    `json:"cold"`
}

// Sprites returns all sprites whose names begin with prefix, walking through
// the pages.
func (c *Client) Sprites(ctx context.Context, prefix string) ([]Sprite, SpriteOrg, error) {
	const most = 50 // what the contract grants for one page
	q := url.Values{"max_results": {strconv.Itoa(most)}}
	if prefix != "" {
		q.Set("prefix", prefix)
	}
	var all []Sprite
	for {
		var page struct {
			Sprites []Sprite  `json:"sprites"`
			More    bool      `json:"has_more"`
			Next    string    `json:"next_continuation_token"`
			Org     SpriteOrg `json:"org"`
		}
		if _, err := c.do(ctx, call{sprites: true, method: http.MethodGet, path: spritePath(), query: q, out: &page}); err != nil {
			return nil, SpriteOrg{}, err
		}
		all = append(all, page.Sprites...)
		if !page.More || page.Next == "" {
			return all, page.Org, nil
		}
		if page.Next == q.Get("continuation_token") {
			return nil, SpriteOrg{}, fmt.Errorf("list sprites: the server repeats page %q", page.Next)
		}
		q.Set("continuation_token", page.Next)
	}
}

// SpriteChange is one line of WatchSprites.
type SpriteChange struct {
	Type          string     `json:"type,omitempty"` // "heartbeat" tells of no sprite
	Name          string     `json:"name,omitempty"`
	Status        string     `json:"status,omitempty"`
	LastRunningAt *time.Time `json:"last_running_at,omitempty"`
	LastWarmingAt *time.Time `json:"last_warming_at,omitempty"`
	Timestamp     time.Time  `json:"timestamp,omitzero"`
	Org           SpriteOrg  `json:"org,omitzero"`
}

// WatchSprites calls f for each change of a sprite whose name begins with
// prefix, until ctx ends, f fails or the server closes the stream.
func (c *Client) WatchSprites(ctx context.Context, prefix string, f func(SpriteChange) error) error {
	q := url.Values{}
	if prefix != "" {
		q.Set("prefix", prefix)
	}
	return stream(ctx, c, call{sprites: true, method: http.MethodGet, path: spritePath(), query: q, accept: ndjson}, f)
}

// Sprite returns one sprite. To ask does not wake it.
func (c *Client) Sprite(ctx context.Context, name string) (Sprite, error) {
	return fetch[Sprite](ctx, c, call{sprites: true, method: http.MethodGet, path: spritePath(name)})
}

// UpdateSprite changes a sprite's settings.
func (c *Client) UpdateSprite(ctx context.Context, name string, u SpriteUpdate) (Sprite, error) {
	return fetch[Sprite](ctx, c, call{sprites: true, method: http.MethodPut, path: spritePath(name), in: u})
}

// DeleteSprite removes a sprite, its disk and its checkpoints for ever.
func (c *Client) DeleteSprite(ctx context.Context, name string) error {
	_, err := c.do(ctx, call{sprites: true, method: http.MethodDelete, path: spritePath(name)})
	return err
}

// UpgradeSprite moves a sprite to the newest runtime.
func (c *Client) UpgradeSprite(ctx context.Context, name string) error {
	_, err := c.do(ctx, call{sprites: true, method: http.MethodPost, path: spritePath(name, "upgrade")})
	return err
}

// RestartSprite ends all that runs in a sprite and boots it from its disk.
func (c *Client) RestartSprite(ctx context.Context, name string) error {
	_, err := c.do(ctx, call{sprites: true, method: http.MethodPost, path: spritePath(name, "restart")})
	return err
}

// SpriteGuest is the way into one sprite. Any use of it wakes the sprite; the
// caller just waits. It is safe for use by many goroutines at once.
type SpriteGuest struct {
	c    *Client
	name string
}

// SpriteGuest returns the way into a sprite.
func (c *Client) SpriteGuest(name string) *SpriteGuest { return &SpriteGuest{c: c, name: name} }

// Name is the sprite's.
func (g *SpriteGuest) Name() string { return g.name }

// call is a call below the sprite's own path.
func (g *SpriteGuest) call(method string, path ...string) call {
	return call{sprites: true, method: method, path: spritePath(append([]string{g.name}, path...)...)}
}

func spritePath(rest ...string) []string { return append([]string{"v1", "sprites"}, rest...) }

// ndjson is the media type of streams with one JSON document on each line.
const ndjson = "application/x-ndjson"

// maxEvent bounds one line of a stream. The contract says 64 KiB.
const maxEvent = 1 << 20

// stream sends a call and hands each line of its answer to f, until one of
// them ends.
func stream[T any](ctx context.Context, c *Client, k call, f func(T) error) error {
	res, err := c.open(ctx, k)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var v T
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			return fmt.Errorf("read stream of /%s: %w", k.path[len(k.path)-1], err)
		}
		if err := f(v); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return unreachable(c.api, err)
	}
	return nil
}
