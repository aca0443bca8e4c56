package sprites

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/machine"
)

// Keys of machine.Machine.Door: what the door must give back and the engine
// does not know.
const (
	doorAuth    = "sprites.auth"     // authSprite or authPublic
	doorPrivate = "sprites.private"  // who of the team may visit; everybody in it may
	doorLabels  = "sprites.labels"   // a JSON list
	doorUpdated = "sprites.updated"  // when it was last changed, RFC 3339
	doorAccess  = "sprites.access"   // accessOn, where its programs may use the API as its team
	doorRules   = machine.DoorPolicy // the network policy, as it was given
)

const (
	authSprite = "sprite"
	authPublic = "public"
	accessOn   = "on"
)

// The states that clients know.
const (
	running   = "running"
	warm      = "warm"
	cold      = "cold"
	destroyed = "destroyed" // told to those who watch
)

// region is where sprites are, in the terms of the API.
const region = "local"

// statusOf translates a machine's state. A machine that is being made or
// started has no memory yet.
func statusOf(m machine.Machine) string {
	switch m.State {
	case machine.Running:
		return running
	case machine.Frozen:
		return warm
	}
	return cold
}

// exists reports whether a sprite is there for clients.
func exists(m machine.Machine) bool {
	return m.Kind == machine.KindSprite && (m.State == machine.Running || m.State.Asleep())
}

type urlSettings struct {
	Auth          string `json:"auth,omitempty"`
	PrivateAccess string `json:"private_access,omitempty"`
}

type spriteConfig struct {
	RAMMB     int    `json:"ram_mb,omitempty"`
	CPUs      int    `json:"cpus,omitempty"`
	Region    string `json:"region,omitempty"`
	StorageGB int    `json:"storage_gb,omitempty"`
}

// spriteView is a sprite as clients see it. The last three are ours.
type spriteView struct {
	ID                 string            `json:"id"`
	Name               string            `json:"name"`
	Organization       string            `json:"organization"`
	Status             string            `json:"status"`
	Config             spriteConfig      `json:"config"`
	Environment        map[string]string `json:"environment,omitempty"`
	CreatedAt          time.Time         `json:"created_at"`
	UpdatedAt          time.Time         `json:"updated_at"`
	PrimaryRegion      string            `json:"primary_region"`
	URL                string            `json:"url"`
	URLSettings        urlSettings       `json:"url_settings"`
	Version            string            `json:"version"`
	EnvironmentVersion string            `json:"environment_version"`
	Labels             []string          `json:"labels"`
	LastRunningAt      *time.Time        `json:"last_running_at"`
	LastWarmingAt      *time.Time        `json:"last_warming_at"`

	DiskUsedBytes int64  `json:"disk_used_bytes,omitempty"` // written, when it last fell asleep
	Fresh         string `json:"fresh,omitempty"`           // why it had to start without its memory
	OrgAccess     bool   `json:"org_access,omitempty"`      // see orgAccess
}

func (d *Door) view(m machine.Machine, team account.Team) spriteView {
	at := d.changes.times(m)
	return spriteView{
		ID: spriteID(m), Name: m.Name, Organization: slug(team), Status: statusOf(m),
		Config:      spriteConfig{RAMMB: m.MemoryMB, CPUs: m.CPUs, Region: region, StorageGB: m.DiskMB >> 10},
		Environment: m.Env, CreatedAt: m.CreatedAt.UTC(), UpdatedAt: updatedAt(m), PrimaryRegion: region,
		URL: d.config.URL(m.Host), URLSettings: urlSettings{Auth: m.Door[doorAuth], PrivateAccess: m.Door[doorPrivate]},
		Version: Version, EnvironmentVersion: m.BuildID, Labels: labelsOf(m),
		LastRunningAt: optional(at.running), LastWarmingAt: optional(at.warming),
		DiskUsedBytes: m.DiskBytes, Fresh: m.Fresh, OrgAccess: orgAccess(m),
	}
}

// spriteID is how clients name the machine itself, whose name may be another
// sprite's one day.
func spriteID(m machine.Machine) string { return "sprite-" + m.ID }

func updatedAt(m machine.Machine) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, m.Door[doorUpdated]); err == nil {
		return t
	}
	return m.CreatedAt.UTC()
}

func labelsOf(m machine.Machine) []string {
	labels := []string{}
	_ = json.Unmarshal([]byte(m.Door[doorLabels]), &labels) // written by this door; without any it is empty
	return labels
}

// optional is null for the zero time: clients cannot read an empty one.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// slug is a team's name in paths and answers.
func slug(t account.Team) string {
	var b strings.Builder
	for _, c := range strings.ToLower(t.Name) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			b.WriteRune(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	if s := strings.Trim(b.String(), "-"); s != "" {
		return s
	}
	return t.ID
}

// orgView is a team with how many sprites it has in which state.
type orgView struct {
	Name         string `json:"name"`
	Running      int    `json:"running"`
	Warm         int    `json:"warm"`
	Cold         int    `json:"cold"`
	RunningLimit int    `json:"running_limit"`
	WarmLimit    int    `json:"warm_limit"`
}

func viewOrg(team account.Team, all []machine.Machine) orgView {
	o := orgView{Name: slug(team), RunningLimit: team.MaxConcurrent, WarmLimit: team.MaxConcurrent}
	for _, m := range all {
		switch statusOf(m) {
		case running:
			o.Running++
		case warm:
			o.Warm++
		default:
			o.Cold++
		}
	}
	return o
}

// sprites returns those of a team, by name.
func (d *Door) sprites(team string) []machine.Machine {
	var all []machine.Machine
	for _, m := range d.engine.List(team) {
		if exists(m) {
			all = append(all, m)
		}
	}
	sortByName(all)
	return all
}
