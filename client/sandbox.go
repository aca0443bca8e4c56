package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Sandbox is what the server tells of one sandbox. A listing carries no tokens;
// Get and Create do.
type Sandbox struct {
	SandboxID  string `json:"sandboxID"`
	TemplateID string `json:"templateID"`
	Alias      string `json:"alias,omitempty"`
	ClientID   string `json:"clientID,omitempty"`
	State      string `json:"state,omitempty"` // StateRunning or StatePaused
	// Sleep is how deep it sleeps, SleepFrozen or SleepStored; empty: it is awake.
	// One that is running and sleeps was put to sleep for being idle: any use
	// wakes it.
	Sleep string `json:"sleep,omitempty"`
	// MemoryStoredBytes is what its memory takes on the disk.
	MemoryStoredBytes int64 `json:"memoryStoredBytes,omitempty"`
	// DiskUsedBytes is what it has written beyond its template.
	DiskUsedBytes      int64             `json:"diskUsedBytes,omitempty"`
	StartedAt          time.Time         `json:"startedAt,omitzero"`
	EndAt              time.Time         `json:"endAt,omitzero"`
	CPUCount           int               `json:"cpuCount,omitempty"`
	MemoryMB           int               `json:"memoryMB,omitempty"`
	DiskSizeMB         int               `json:"diskSizeMB,omitempty"`
	Metadata           map[string]string `json:"metadata,omitempty"`
	Lifecycle          *Lifecycle        `json:"lifecycle,omitempty"` // told by Get
	EnvdVersion        string            `json:"envdVersion,omitempty"`
	EnvdAccessToken    string            `json:"envdAccessToken,omitempty"`
	TrafficAccessToken string            `json:"trafficAccessToken,omitempty"`
	Domain             string            `json:"domain,omitempty"`
}

// The states that the API tells of, and the depths of sleep.
const (
	StateRunning = "running"
	StatePaused  = "paused"

	SleepFrozen = "frozen" // its memory is in the host's; wakes in a millisecond
	SleepStored = "stored" // its memory is on the disk alone
)

// Lifecycle is what becomes of a sandbox when nobody uses it.
type Lifecycle struct {
	AutoResume bool   `json:"autoResume"` // any use wakes it after it was paused
	OnTimeout  string `json:"onTimeout"`  // kill or pause
}

// NewSandbox is what is asked of Create.
type NewSandbox struct {
	TemplateID          string            `json:"templateID"`
	Timeout             *int              `json:"timeout,omitempty"`         // seconds to live; nil takes the server's default
	AutoPause           bool              `json:"autoPause,omitempty"`       // pause at the time-out, not end
	AutoPauseMemory     *bool             `json:"autoPauseMemory,omitempty"` // false: the disk alone; nil: memory too
	AutoResume          *AutoResume       `json:"autoResume,omitempty"`
	Secure              bool              `json:"secure,omitempty"`
	AllowInternetAccess *bool             `json:"allow_internet_access,omitempty"`
	Metadata            map[string]string `json:"metadata,omitempty"`
	EnvVars             map[string]string `json:"envVars,omitempty"`
}

// AutoResume says whether any use wakes a paused sandbox.
type AutoResume struct {
	Enabled bool `json:"enabled"`
}

// Create makes a sandbox and returns once it answers.
func (c *Client) Create(ctx context.Context, n NewSandbox) (Sandbox, error) {
	return fetch[Sandbox](ctx, c, call{method: http.MethodPost, path: []string{"sandboxes"}, in: n})
}

// ListFilter narrows List; its zero value lists all.
type ListFilter struct {
	States   []string          // StateRunning, StatePaused
	Metadata map[string]string // every pair must match
	Template string
}

// List returns all sandboxes that match, newest first, walking through the pages.
func (c *Client) List(ctx context.Context, f ListFilter) ([]Sandbox, error) {
	q := url.Values{}
	if len(f.States) > 0 {
		q.Set("state", strings.Join(f.States, ","))
	}
	if len(f.Metadata) > 0 {
		// The filter is itself a query string, inside one query parameter.
		m := url.Values{}
		for k, v := range f.Metadata {
			m.Set(k, v)
		}
		q.Set("metadata", m.Encode())
	}
	if f.Template != "" {
		q.Set("template", f.Template)
	}
	return pages[Sandbox](ctx, c, []string{"v2", "sandboxes"}, q)
}

// Get returns one sandbox with its tokens.
func (c *Client) Get(ctx context.Context, id string) (Sandbox, error) {
	return fetch[Sandbox](ctx, c, call{method: http.MethodGet, path: []string{"sandboxes", id}})
}

// Kill ends a sandbox.
func (c *Client) Kill(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: []string{"sandboxes", id}})
	return err
}

// SetTimeout lets a sandbox live for d from now, rounded up to whole seconds.
func (c *Client) SetTimeout(ctx context.Context, id string, d time.Duration) error {
	in := struct {
		Timeout int `json:"timeout"`
	}{Seconds(d)}
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"sandboxes", id, "timeout"}, in: in})
	return err
}

// Seconds is d in whole seconds, rounded up, as the API counts time-outs.
func Seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// Metric is one measurement of a sandbox; sizes are bytes.
type Metric struct {
	TimestampUnix int64   `json:"timestampUnix"` // seconds
	CPUCount      int     `json:"cpuCount"`
	CPUUsedPct    float64 `json:"cpuUsedPct"`
	MemUsed       int64   `json:"memUsed"`
	MemTotal      int64   `json:"memTotal"`
	MemCache      int64   `json:"memCache"`
	DiskUsed      int64   `json:"diskUsed"`
	DiskTotal     int64   `json:"diskTotal"`
}

// Metrics returns a sandbox's measurements between two times, oldest first. A
// zero time leaves that end open.
func (c *Client) Metrics(ctx context.Context, id string, from, to time.Time) ([]Metric, error) {
	q := url.Values{}
	if !from.IsZero() {
		q.Set("start", strconv.FormatInt(from.Unix(), 10))
	}
	if !to.IsZero() {
		q.Set("end", strconv.FormatInt(to.Unix(), 10))
	}
	return fetch[[]Metric](ctx, c, call{method: http.MethodGet, path: []string{"sandboxes", id, "metrics"}, query: q})
}
