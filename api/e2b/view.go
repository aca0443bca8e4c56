package e2b

import (
	"net/netip"
	"slices"
	"time"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/network"
	"github.com/atoll-cloud/atoll/wire"
)

const clientID = wire.ClientID

// never is the end of sandboxes that have none: the API demands a time.
var never = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// stamp is a time as the API writes it: UTC with milliseconds, which every
// client's parser takes.
type stamp time.Time

// MarshalText encodes a stamp.
func (s stamp) MarshalText() ([]byte, error) {
	return []byte(time.Time(s).UTC().Format("2006-01-02T15:04:05.000Z07:00")), nil
}

// optionalStamp is null for the zero time.
func optionalStamp(t time.Time) *stamp {
	if t.IsZero() {
		return nil
	}
	s := stamp(t)
	return &s
}

// sandbox is the answer to create and connect.
type sandbox struct {
	SandboxID          string  `json:"sandboxID"`
	TemplateID         string  `json:"templateID"`
	Alias              string  `json:"alias,omitempty"`
	ClientID           string  `json:"clientID"`
	EnvdVersion        string  `json:"envdVersion"`
	EnvdAccessToken    string  `json:"envdAccessToken,omitempty"`
	TrafficAccessToken *string `json:"trafficAccessToken"`
	Domain             *string `json:"domain"`
}

func (d *Door) sandbox(m machine.Machine) sandbox {
	return sandbox{
		SandboxID: m.ID, TemplateID: m.TemplateID, Alias: m.Alias, ClientID: clientID,
		EnvdVersion: wire.EnvdVersion, EnvdAccessToken: m.AccessToken,
		TrafficAccessToken: optional(m.TrafficToken), Domain: optional(d.domain),
	}
}

// listedSandbox is one entry of a list.
type listedSandbox struct {
	SandboxID    string            `json:"sandboxID"`
	TemplateID   string            `json:"templateID"`
	Alias        string            `json:"alias,omitempty"`
	ClientID     string            `json:"clientID"`
	StartedAt    stamp             `json:"startedAt"`
	EndAt        stamp             `json:"endAt"`
	CPUCount     int               `json:"cpuCount"`
	MemoryMB     int               `json:"memoryMB"`
	DiskSizeMB   int               `json:"diskSizeMB"`
	Metadata     map[string]string `json:"metadata"`
	State        string            `json:"state"`
	EnvdVersion  string            `json:"envdVersion"`
	VolumeMounts []struct{}        `json:"volumeMounts"`

	// What follows is ours: how deep the sandbox sleeps, "frozen" or "stored",
	// paused or not; what its memory takes on the disk while it does; and what
	// its files take, which info tells of those awake too.
	Sleep             string `json:"sleep,omitempty"`
	MemoryStoredBytes int64  `json:"memoryStoredBytes,omitempty"`
	DiskUsedBytes     int64  `json:"diskUsedBytes,omitempty"`
}

func listed(m *machine.Machine) listedSandbox {
	metadata := m.Metadata
	if metadata == nil {
		metadata = map[string]string{}
	}
	v := listedSandbox{
		SandboxID: m.ID, TemplateID: m.TemplateID, Alias: m.Alias, ClientID: clientID,
		StartedAt: stamp(startOf(m)), EndAt: stamp(endOf(m)),
		CPUCount: m.CPUs, MemoryMB: m.MemoryMB, DiskSizeMB: m.DiskMB,
		Metadata: metadata, State: "running", EnvdVersion: wire.EnvdVersion, VolumeMounts: []struct{}{},
	}
	if m.Paused {
		v.State = "paused"
	}
	if m.State.Asleep() {
		v.Sleep, v.DiskUsedBytes = string(m.State), m.DiskBytes
		if m.Image != nil {
			v.MemoryStoredBytes = m.Image.Bytes
		}
	}
	return v
}

// sandboxDetail is the answer to info.
type sandboxDetail struct {
	listedSandbox
	EnvdAccessToken     string        `json:"envdAccessToken,omitempty"`
	AllowInternetAccess *bool         `json:"allowInternetAccess"`
	Domain              *string       `json:"domain"`
	Network             networkDetail `json:"network"`
	Lifecycle           lifecycleInfo `json:"lifecycle"`
	PauseMode           string        `json:"pauseMode,omitempty"` // what the pause kept
}

type networkDetail struct {
	AllowOut           []string `json:"allowOut"`
	DenyOut            []string `json:"denyOut"`
	AllowPublicTraffic bool     `json:"allowPublicTraffic"`
}

type lifecycleInfo struct {
	AutoResume bool   `json:"autoResume"`
	OnTimeout  string `json:"onTimeout"`
}

func (d *Door) detail(m machine.Machine) sandboxDetail {
	return sandboxDetail{
		listedSandbox:       listed(&m),
		EnvdAccessToken:     m.AccessToken,
		AllowInternetAccess: internetAccess(m),
		Domain:              optional(d.domain),
		Network: networkDetail{
			AllowOut: append(texts(m.Network.Allow), domains(m.Network.Names)...), DenyOut: texts(m.Network.Deny),
			AllowPublicTraffic: m.TrafficToken == "",
		},
		Lifecycle: viewLifecycle(m.Lifecycle),
		PauseMode: pauseMode(m),
	}
}

func viewLifecycle(l machine.Lifecycle) lifecycleInfo {
	v := lifecycleInfo{AutoResume: l.AutoResume, OnTimeout: "kill"}
	if l.AutoPause {
		v.OnTimeout = "pause"
	}
	return v
}

func pauseMode(m machine.Machine) string {
	switch {
	case !m.Paused:
		return ""
	case m.State == machine.Stored && m.Image == nil:
		return "filesystem"
	}
	return "full"
}

// internetAccess tells what was asked of allow_internet_access, as long as the
// policy in force still says the same; nil means that nothing was asked.
func internetAccess(m machine.Machine) *bool {
	open := !slices.Contains(m.Network.Deny, everywhere)
	if m.Door[doorInternet] != boolWord(open) {
		return nil
	}
	return &open
}

func texts(list []netip.Prefix) []string {
	out := make([]string, 0, len(list))
	for _, p := range list {
		out = append(out, p.String())
	}
	return out
}

func startOf(m *machine.Machine) time.Time {
	if m.StartedAt.IsZero() {
		return m.CreatedAt
	}
	return m.StartedAt
}

// endOf is when a sandbox ends by itself. A paused one does not; in its stead
// stands, as in E2B's answers, when it fell asleep.
func endOf(m *machine.Machine) time.Time {
	if m.Paused {
		return m.AsleepSince
	}
	if m.Deadline.IsZero() {
		return never
	}
	return m.Deadline
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// domains are the names that rules allow; this door makes no other rules.
func domains(rules []network.NameRule) []string {
	out := make([]string, 0, len(rules))
	for _, rule := range rules {
		out = append(out, rule.Domain)
	}
	return out
}
