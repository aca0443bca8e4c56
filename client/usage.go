package client

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// UsageQuery selects usage; zero values are this month, all machines, and the
// default plan.
type UsageQuery struct {
	// From and To are the span, in whole hours.
	From, To time.Time
	By       []string // of team, machine and day
	Machine  string   // id or name
	Team     string   // id; only the operator may ask about others than their own
	Plan     string
}

// Usage is what machines used over some span of time.
type Usage struct {
	AwakeSeconds              float64 `json:"awakeSeconds"`
	CPUSeconds                float64 `json:"cpuSeconds"`
	CPUAllocatedSeconds       float64 `json:"cpuAllocatedSeconds"`
	MemoryGiBSeconds          float64 `json:"memoryGiBSeconds"`
	MemoryAllocatedGiBSeconds float64 `json:"memoryAllocatedGiBSeconds"`
	DiskGiBSeconds            float64 `json:"diskGiBSeconds"`
	DiskAwakeGiBSeconds       float64 `json:"diskAwakeGiBSeconds"`
}

// Cost is what usage costs, in the currency of the report.
type Cost struct {
	CPU    float64 `json:"cpu"`
	Memory float64 `json:"memory"`
	Disk   float64 `json:"disk"`
	Total  float64 `json:"total"`
}

// UsageRow is the usage of a team, a machine or a day, as it was asked for.
type UsageRow struct {
	Day      string `json:"day,omitempty"` // UTC, as 2006-01-02
	Team     string `json:"team,omitempty"`
	TeamName string `json:"teamName,omitempty"`
	Machine  string `json:"machine,omitempty"`
	Name     string `json:"name,omitempty"`
	Usage    Usage  `json:"usage"`
	Cost     Cost   `json:"cost"`
}

// UsageReport is the answer to a UsageQuery.
type UsageReport struct {
	From     time.Time  `json:"from"`
	To       time.Time  `json:"to"`
	By       []string   `json:"by"`
	Plan     string     `json:"plan"`
	Basis    string     `json:"basis"` // used or allocated: what the plan charges for
	Currency string     `json:"currency"`
	Rows     []UsageRow `json:"rows"` // by day, then the dearest first
	Total    UsageRow   `json:"total"`
}

// Prices is the table of prices of a server, as its file has it.
type Prices struct {
	Currency string          `json:"currency"`
	Default  string          `json:"default"`
	Plans    map[string]Plan `json:"plans"`
}

// Plan is what usage costs.
type Plan struct {
	Note      string `json:"note,omitempty"`
	Basis     string `json:"basis"`
	CPU       Price  `json:"cpu,omitzero"`
	Memory    Price  `json:"memory,omitzero"`
	Disk      Price  `json:"disk,omitzero"`
	DiskAwake Price  `json:"diskAwake,omitzero"` // on top, while awake
}

// Price is the price of one unit, such as a vCPU-hour.
type Price struct {
	Price float64 `json:"price"`
	Per   string  `json:"per"`
}

// Usage reports what was used and what that costs.
func (c *Client) Usage(ctx context.Context, uq UsageQuery) (UsageReport, error) {
	q := url.Values{}
	for name, text := range map[string]string{
		"by": strings.Join(uq.By, ","), "machine": uq.Machine, "team": uq.Team, "plan": uq.Plan,
	} {
		if text != "" {
			q.Set(name, text)
		}
	}
	for name, t := range map[string]time.Time{"from": uq.From, "to": uq.To} {
		if !t.IsZero() {
			q.Set(name, t.UTC().Format(time.RFC3339))
		}
	}
	return fetch[UsageReport](ctx, c, call{method: http.MethodGet, path: []string{"usage"}, query: q})
}

// Prices returns the server's table of prices.
func (c *Client) Prices(ctx context.Context) (Prices, error) {
	return fetch[Prices](ctx, c, call{method: http.MethodGet, path: []string{"usage", "plans"}})
}
