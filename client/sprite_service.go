package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Service is a program that a sprite keeps running.
type Service struct {
	Name     string            `json:"name"`
	Cmd      string            `json:"cmd"`
	Args     []string          `json:"args"`
	Env      map[string]string `json:"env,omitempty"`
	Dir      string            `json:"dir,omitempty"`
	Needs    []string          `json:"needs"`
	HTTPPort *int              `json:"http_port,omitempty"`
	State    *ServiceState     `json:"state,omitempty"`
}

// ServiceState is how a service does.
type ServiceState struct {
	Name          string    `json:"name,omitempty"`
	Status        string    `json:"status"` // stopped, starting, running, stopping or failed
	PID           int       `json:"pid,omitempty"`
	StartedAt     time.Time `json:"started_at,omitzero"`
	Error         string    `json:"error,omitempty"`
	RestartCount  int       `json:"restart_count,omitempty"`
	NextRestartAt time.Time `json:"next_restart_at,omitzero"`
}

// NewService defines a service.
type NewService struct {
	Cmd      string            `json:"cmd"`
	Args     []string          `json:"args,omitempty"`
	Env      map[string]string `json:"env,omitempty"`
	Dir      string            `json:"dir,omitempty"`
	Needs    []string          `json:"needs,omitempty"`
	HTTPPort *int              `json:"http_port,omitempty"`
}

// ServiceEvent is a step of a service, or a line that it wrote.
type ServiceEvent struct {
	// Type is one of started, stdout, stderr, exit, error, stopping, stopped and
	// complete.
	Type      string            `json:"type"`
	Data      string            `json:"data,omitempty"`
	ExitCode  *int              `json:"exit_code,omitempty"`
	Timestamp int64             `json:"timestamp,omitempty"` // milliseconds since 1970
	LogFiles  map[string]string `json:"log_files,omitempty"`
}

// Services lists the sprite's services.
func (g *SpriteGuest) Services(ctx context.Context) ([]Service, error) {
	return fetch[[]Service](ctx, g.c, g.call(http.MethodGet, "services"))
}

// Service returns one service.
func (g *SpriteGuest) Service(ctx context.Context, name string) (Service, error) {
	return fetch[Service](ctx, g.c, g.call(http.MethodGet, "services", name))
}

// PutService makes or replaces a service, starts it, and tells f what it does
// in the first moments.
func (g *SpriteGuest) PutService(ctx context.Context, name string, n NewService, watch time.Duration, f func(ServiceEvent) error) error {
	k := g.call(http.MethodPut, "services", name)
	k.in, k.query = n, span("duration", watch)
	return g.follow(ctx, k, f)
}

// StartService starts a service and tells f what it does in the first moments.
func (g *SpriteGuest) StartService(ctx context.Context, name string, watch time.Duration, f func(ServiceEvent) error) error {
	k := g.call(http.MethodPost, "services", name, "start")
	k.query = span("duration", watch)
	return g.follow(ctx, k, f)
}

// RestartService ends and starts a service.
func (g *SpriteGuest) RestartService(ctx context.Context, name string, watch time.Duration, f func(ServiceEvent) error) error {
	k := g.call(http.MethodPost, "services", name, "restart")
	k.query = span("duration", watch)
	return g.follow(ctx, k, f)
}

// StopService ends a service until it is started again; it is killed if that
// takes longer than within.
func (g *SpriteGuest) StopService(ctx context.Context, name string, within time.Duration, f func(ServiceEvent) error) error {
	k := g.call(http.MethodPost, "services", name, "stop")
	k.query = span("timeout", within)
	return g.follow(ctx, k, f)
}

// ServiceLogs tells f the last lines of a service's log, 0 for the server's
// choice, and goes on for as long as follow says.
func (g *SpriteGuest) ServiceLogs(ctx context.Context, name string, lines int, follow time.Duration, f func(ServiceEvent) error) error {
	k := g.call(http.MethodGet, "services", name, "logs")
	k.query = span("duration", follow)
	if lines > 0 {
		k.query.Set("lines", strconv.Itoa(lines))
	}
	return g.follow(ctx, k, f)
}

// DeleteService stops and removes a service. Its logs stay.
func (g *SpriteGuest) DeleteService(ctx context.Context, name string) error {
	_, err := g.c.do(ctx, g.call(http.MethodDelete, "services", name))
	return err
}

// SignalService sends a signal, such as HUP, to a service.
func (g *SpriteGuest) SignalService(ctx context.Context, name, signal string) error {
	k := g.call(http.MethodPost, "services", "signal")
	k.in = struct {
		Name   string `json:"name"`
		Signal string `json:"signal"`
	}{name, signal}
	_, err := g.c.do(ctx, k)
	return err
}

func (g *SpriteGuest) follow(ctx context.Context, k call, f func(ServiceEvent) error) error {
	k.accept = ndjson
	return stream(ctx, g.c, k, f)
}

// span is a query with one duration; 0 is left out.
func span(name string, d time.Duration) url.Values {
	if d <= 0 {
		return url.Values{}
	}
	return url.Values{name: {d.String()}}
}
