// Package machine is the engine of one node: it owns the lifecycle of every
// machine on it, from create to end, and is the only writer of their records.
package machine

import (
	"errors"
	"time"

	"github.com/atoll-cloud/atoll/network"
)

// State is where a machine is in its life. The allowed moves are in state.go.
type State string

const (
	Creating State = "creating" // being put together; not yet reachable
	Running  State = "running"
	Ending   State = "ending" // being taken apart; no longer reachable
	Ended    State = "ended"  // gone; the record stays a while for its logs
)

// Machine is the record of one machine. Values handed out are copies.
type Machine struct {
	ID         string `json:"id"`
	Team       string `json:"team"`
	TemplateID string `json:"templateID"`
	BuildID    string `json:"buildID"` // which build of the template
	Alias      string `json:"alias"`   // the template's name
	State      State  `json:"state"`
	EndReason  string `json:"endReason,omitempty"`

	CPUs     int `json:"cpus"`
	MemoryMB int `json:"memoryMB"`
	DiskMB   int `json:"diskMB"`

	CreatedAt time.Time `json:"createdAt"`
	StartedAt time.Time `json:"startedAt"`
	// Deadline is when the machine ends by itself; zero means never.
	Deadline time.Time `json:"deadline"`
	EndedAt  time.Time `json:"endedAt"`

	Metadata map[string]string `json:"metadata,omitempty"`
	Env      map[string]string `json:"env,omitempty"`
	// AccessToken is what the guest daemon demands of clients; empty: nothing.
	AccessToken string `json:"accessToken,omitempty"`
	// TrafficToken is what the edge demands of requests to the guest's own
	// ports; empty: nothing.
	TrafficToken string `json:"trafficToken,omitempty"`
	// ControlToken is what the guest daemon demands of the host.
	ControlToken string `json:"controlToken"`

	Network network.Policy `json:"network"`
	// Door keeps what a door must give back unchanged and the engine does not read.
	Door map[string]string `json:"door,omitempty"`

	Slot int `json:"slot"` // network slot; 0 is none
}

// CreateSpec is what is asked of Create. Zero values take the template's.
type CreateSpec struct {
	Team     string
	Template string // id or name, with or without a tag
	// Timeout is the time to live; 0 means none, which only an operator who
	// set Config.MaxTimeout to 0 allows.
	Timeout      time.Duration
	Metadata     map[string]string
	Env          map[string]string
	AccessToken  string
	TrafficToken string
	Network      network.Policy
	Door         map[string]string
	// MaxConcurrent is the team's limit of machines that are not ended.
	MaxConcurrent int
}

// Template is a prebuilt root file system with a booted snapshot.
type Template struct {
	ID        string    `json:"id"`
	Names     []string  `json:"names"`
	BuildID   string    `json:"buildID"`
	CPUs      int       `json:"cpus"`
	MemoryMB  int       `json:"memoryMB"`
	DiskMB    int       `json:"diskMB"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
	// Spawned counts machines made from it since the node knows it.
	Spawned     int64     `json:"spawned"`
	LastSpawned time.Time `json:"lastSpawned"`
}

// Sample is one measurement of a machine, taken from outside the guest.
type Sample struct {
	Time       time.Time
	CPUs       int
	CPUPercent float64 // of one vCPU times CPUs: 100 is all of them busy
	MemUsed    int64   // bytes, without page cache
	MemCache   int64   // bytes
	MemTotal   int64   // bytes
	DiskUsed   int64   // bytes
	DiskTotal  int64   // bytes
}

// LogEntry is one line of a machine's log.
type LogEntry struct {
	Time    time.Time         `json:"timestamp"`
	Level   string            `json:"level"` // debug, info, warn, error
	Message string            `json:"message"`
	Fields  map[string]string `json:"fields"`
}

// LogQuery selects lines of a machine's log.
type LogQuery struct {
	After    time.Time // exclusive; zero: from the start
	Before   time.Time // exclusive; zero: to the end
	Backward bool      // newest first
	MinLevel string
	Search   string // substring of the message
	Limit    int
}

// Event is one change of a machine's lifecycle.
type Event struct {
	Time    time.Time `json:"time"`
	Machine string    `json:"machine"`
	Team    string    `json:"team"`
	From    State     `json:"from"`
	To      State     `json:"to"`
	Reason  string    `json:"reason,omitempty"`
	Request string    `json:"request,omitempty"` // id of the request that caused it
}

// Node is what a node tells of itself.
type Node struct {
	ID             string    `json:"id"`
	StartedAt      time.Time `json:"startedAt"`
	Version        string    `json:"version"`
	CPUs           int       `json:"cpus"`
	CPUPercent     float64   `json:"cpuPercent"`
	MemoryTotal    int64     `json:"memoryTotal"`
	MemoryUsed     int64     `json:"memoryUsed"`
	DiskTotal      int64     `json:"diskTotal"`
	DiskUsed       int64     `json:"diskUsed"`
	Machines       int       `json:"machines"`
	Starting       int       `json:"starting"`
	AllocatedCPUs  int       `json:"allocatedCPUs"`
	AllocatedMemMB int       `json:"allocatedMemoryMB"`
	Created        uint64    `json:"created"`
	CreateFailed   uint64    `json:"createFailed"`
}

// Errors that doors translate to their own shape. They are wrapped with a
// sentence for the user; test with errors.Is.
var (
	ErrNotFound    = errors.New("not found")
	ErrInvalid     = errors.New("invalid")
	ErrLimit       = errors.New("limit reached")
	ErrConflict    = errors.New("conflict")
	ErrUnavailable = errors.New("unavailable")
	// ErrPortClosed is returned by Dial when nothing listens in the guest.
	ErrPortClosed = errors.New("port closed")
)
