package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Sandbox is what the server tells of one sandbox. A listing carries no tokens;
// Get and Create do.
type Sandbox struct {
	SandboxID          string            `json:"sandboxID"`
	TemplateID         string            `json:"templateID"`
	Alias              string            `json:"alias,omitempty"`
	ClientID           string            `json:"clientID,omitempty"`
	State              string            `json:"state,omitempty"` // running or paused
	StartedAt          time.Time         `json:"startedAt,omitzero"`
	EndAt              time.Time         `json:"endAt,omitzero"`
	CPUCount           int               `json:"cpuCount,omitempty"`
	MemoryMB           int               `json:"memoryMB,omitempty"`
	DiskSizeMB         int               `json:"diskSizeMB,omitempty"`
	Metadata           map[string]string `json:"metadata,omitempty"`
	EnvdVersion        string            `json:"envdVersion,omitempty"`
	EnvdAccessToken    string            `json:"envdAccessToken,omitempty"`
	TrafficAccessToken string            `json:"trafficAccessToken,omitempty"`
	Domain             string            `json:"domain,omitempty"`
}

// NewSandbox is what is asked of Create.
type NewSandbox struct {
	TemplateID          string            `json:"templateID"`
	Timeout             *int              `json:"timeout,omitempty"` // seconds to live; nil takes the server's default
	Secure              bool              `json:"secure,omitempty"`
	AllowInternetAccess *bool             `json:"allow_internet_access,omitempty"`
	Metadata            map[string]string `json:"metadata,omitempty"`
	EnvVars             map[string]string `json:"envVars,omitempty"`
}

// Create makes a sandbox and returns once it answers.
func (c *Client) Create(ctx context.Context, n NewSandbox) (Sandbox, error) {
	var s Sandbox
	_, err := c.do(ctx, call{method: http.MethodPost, path: []string{"sandboxes"}, in: n, out: &s})
	return s, err
}

// ListFilter narrows List; its zero value lists all.
type ListFilter struct {
	States   []string
	Metadata map[string]string // every pair must match
	Template string
}

// List returns all sandboxes that match, newest first, walking through the pages.
func (c *Client) List(ctx context.Context, f ListFilter) ([]Sandbox, error) {
	q := url.Values{"limit": {"100"}}
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
	var all []Sandbox
	for {
		var page []Sandbox
		h, err := c.do(ctx, call{method: http.MethodGet, path: []string{"v2", "sandboxes"}, query: q, out: &page})
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		next := h.Get("X-Next-Token")
		if next == "" {
			return all, nil
		}
		if next == q.Get("nextToken") {
			return nil, fmt.Errorf("list sandboxes: the server repeats page %q", next)
		}
		q.Set("nextToken", next)
	}
}

// Get returns one sandbox with its tokens.
func (c *Client) Get(ctx context.Context, id string) (Sandbox, error) {
	var s Sandbox
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"sandboxes", id}, out: &s})
	return s, err
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
	var m []Metric
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"sandboxes", id, "metrics"}, query: q, out: &m})
	return m, err
}
