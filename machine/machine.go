// Package machine is the engine of one node: it owns the lifecycle of every
// machine on it, from create to end, and is the only writer of their records.
package machine

import (
	"errors"
	"fmt"
	"time"

	"github.com/atoll-cloud/atoll/network"
)

// State is where a machine is in its life. The allowed moves are in state.go.
type State string

const (
	Creating State = "creating" // being put together; not yet reachable
	Running  State = "running"
	Frozen   State = "frozen" // stands still; its memory stays in the host's
	Stored   State = "stored" // stands still; its memory is on the disk
	Ending   State = "ending" // being taken apart; no longer reachable
	Ended    State = "ended"  // gone; the record stays a while for its logs
)

// Asleep reports whether a machine of this state stands still.
func (s State) Asleep() bool { return s == Frozen || s == Stored }

// KindSprite is the kind of machines that are sprites: named, lasting, with
// checkpoints. Sandboxes have none.
const KindSprite = "sprite"

// DoorPolicy is the entry of a sprite's Machine.Door that its guest is told as
// wire.SpriteInit.Policy.
const DoorPolicy = "policy"

// Machine is the record of one machine. Values handed out are copies.
type Machine struct {
	ID   string `json:"id"`
	Team string `json:"team"`
	// Kind says whose clients it is for: "" for sandboxes, or KindSprite.
	Kind string `json:"kind,omitempty"`
	// Name is unique in the team, and Host, the label of its URL, on the node,
	// among machines that have not begun to end. Sandboxes have neither.
	Name string `json:"name,omitempty"`
	Host string `json:"host,omitempty"`

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

	// Lifecycle is what becomes of the machine when nobody uses it.
	Lifecycle Lifecycle `json:"lifecycle"`
	// Timeout is the time to live that it was last given; 0 is none.
	Timeout time.Duration `json:"timeout"`
	// Paused machines were put to sleep by their owner or their time-out: they
	// wake when a resume asks for it, or by use if Lifecycle.AutoResume. One
	// that is asleep and not paused was put to sleep by the engine: any use
	// wakes it, and its deadline holds.
	Paused bool `json:"paused,omitempty"`
	// Remaining is what was left of the time to live when it was paused.
	Remaining time.Duration `json:"remaining,omitempty"`
	// AsleepSince is when it was frozen or stored; zero while it runs.
	AsleepSince time.Time `json:"asleepSince,omitzero"`
	// AwakeSince is when it last began to run.
	AwakeSince time.Time `json:"awakeSince,omitzero"`
	// Image describes the memory of a stored machine; nil when it was stored
	// without, and starts from its disk.
	Image *Image `json:"image,omitempty"`
	// DiskBytes is what it had written when it was last put to sleep.
	DiskBytes int64 `json:"diskBytes,omitempty"`
	// Bundle is the version of the helper binaries that its guest runs on.
	Bundle string `json:"bundle"`
	// Parent is the machine that this one was forked from, or from whose
	// checkpoint it was made.
	Parent string `json:"parent,omitempty"`

	// Fresh says why a lasting machine began from its disk, or will when it is
	// used, though it had memory; empty: nothing was lost, or its owner wanted it.
	Fresh string `json:"fresh,omitempty"`
	// Restored is what its disk was last set back to.
	Restored Restored `json:"restored,omitzero"`
	// DiskBase is what the disk had beyond its template when it was last set
	// back; what is measured of a disk is what it has written since.
	DiskBase int64 `json:"diskBase,omitempty"`
	// LastCheckpoint is the highest number of a checkpoint that was deleted.
	LastCheckpoint int `json:"lastCheckpoint,omitempty"`
	// ShowsCheckpoints is set where the guest sees the machine's checkpoints.
	ShowsCheckpoints bool `json:"showsCheckpoints,omitempty"`
}

// Restored is a restore of a machine's disk: of which checkpoint, and when.
type Restored struct {
	Checkpoint string    `json:"checkpoint"`
	At         time.Time `json:"at"`
}

// Lifecycle is what becomes of a machine when nobody uses it.
type Lifecycle struct {
	// AutoPause pauses the machine at its deadline instead of ending it;
	// DiskOnly then keeps no memory.
	AutoPause bool `json:"autoPause,omitempty"`
	DiskOnly  bool `json:"diskOnly,omitempty"`
	// AutoResume lets any use wake the machine after it was paused.
	AutoResume bool `json:"autoResume,omitempty"`
	// Lasting machines outlive their guest: when it exits, runs out of memory
	// or is lost with the host's memory, the machine is stored without image,
	// and any use boots it from its disk. They have no deadline, count against
	// the team's limit only while they are in memory, and end only when they
	// are killed.
	Lasting bool `json:"lasting,omitempty"`
	// Idle overrides the node's idle policy; nil takes the node's.
	Idle *IdlePolicy `json:"idle,omitempty"`
}

// IdlePolicy says how long a machine must be unused, no request open and hardly
// any processor time spent, before the engine puts it to sleep; 0 is never.
type IdlePolicy struct {
	Freeze time.Duration `json:"freeze,omitempty"` // from its last use
	Store  time.Duration `json:"store,omitempty"`  // from when it was frozen
	// IgnoreCPU puts it to sleep whatever its programs do.
	IgnoreCPU bool `json:"ignoreCPU,omitempty"`
}

// Image is a memory image on the disk.
type Image struct {
	// Key must equal the runtime's ImageKey for the image to be restored.
	Key    string `json:"key"`
	Bundle string `json:"bundle"` // version of the helper binaries it needs
	Bytes  int64  `json:"bytes"`  // what it takes of the disk for itself
	// Unsummed images were too large to be summed up when they were written.
	Unsummed bool `json:"unsummed,omitempty"`
}

// CreateSpec is what is asked of Create. Zero values take the template's.
type CreateSpec struct {
	Team string
	// Kind, Name and Host as in Machine. One that is taken is ErrConflict; a
	// Host also ErrHostTaken.
	Kind, Name, Host string
	Template         string // id or name, with or without a tag
	// From makes it of a checkpoint of another machine of the team instead of a
	// template.
	From *CheckpointRef
	// Timeout is the time to live; 0 means none, which only an operator who
	// set Config.MaxTimeout to 0 allows.
	Timeout      time.Duration
	Metadata     map[string]string
	Env          map[string]string
	AccessToken  string
	TrafficToken string
	Network      network.Policy
	Door         map[string]string
	Lifecycle    Lifecycle
	// MaxConcurrent is the team's limit of machines that are neither paused
	// nor ended.
	MaxConcurrent int
}

// Checkpoint is what a machine's disk was at one instant, with its memory if
// that was asked for. It goes when the machine ends.
type Checkpoint struct {
	// ID is "v1", "v2", … counted up per machine and never given again;
	// automatic ones are called "pre-restore-" after what was restored then.
	ID      string `json:"id"`
	Machine string `json:"machine"`
	Comment string `json:"comment,omitempty"`
	// Source is the checkpoint that the disk came from: the one taken before,
	// or restored since.
	Source    string    `json:"source,omitempty"`
	Auto      bool      `json:"auto,omitempty"` // taken before a restore
	CreatedAt time.Time `json:"createdAt"`
	Bytes     int64     `json:"bytes"` // of the machine's disk, beyond its template's
	// Image describes the memory that is kept with it; nil without.
	Image *Image `json:"image,omitempty"`
}

// CheckpointSpec is what is asked of CreateCheckpoint.
type CheckpointSpec struct {
	Comment string
	Memory  bool // keep the memory too
}

// CheckpointRef names a checkpoint of a machine.
type CheckpointRef struct{ Machine, ID string }

// ResumeSpec is what is asked of Resume.
type ResumeSpec struct {
	// Timeout is the time to live from now on, if that is more than what was
	// left; nil leaves what was left, or, where nothing was, gives Machine.Timeout.
	Timeout *time.Duration
	// Reboot starts the machine from its disk and forgets its memory.
	Reboot        bool
	MaxConcurrent int // as in CreateSpec

	// memory is what a restored checkpoint has of it, in the machine's tree.
	memory *Image
}

// ForkSpec is what is asked of Fork.
type ForkSpec struct {
	Count         int
	Timeout       time.Duration     // of each copy; 0 as in CreateSpec
	Door          map[string]string // of each copy, as in CreateSpec
	MaxConcurrent int               // as in CreateSpec
}

// Forked is the outcome of one copy: a machine or an error.
type Forked struct {
	Machine Machine
	Err     error
}

// SnapshotQuery selects snapshots; zero values select all.
type SnapshotQuery struct {
	Team   string
	Source string // the machine they were taken of
	Name   string // its id or one of its names
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

	// Team owns the template; empty: it is everybody's.
	Team string `json:"team,omitempty"`
	// Snapshot is set for a template that was taken of a machine.
	Snapshot *Snapshot `json:"snapshot,omitempty"`
	// ShowsCheckpoints as in Machine.
	ShowsCheckpoints bool `json:"showsCheckpoints,omitempty"`
}

// Snapshot is what is special of a template that was taken of a machine.
type Snapshot struct {
	Source string `json:"source"` // the machine's id
	Image  Image  `json:"image"`
	// ControlToken is the one that the guest daemon in it knows.
	ControlToken string `json:"controlToken"`
	// AccessToken likewise; empty: the daemon asks for none.
	AccessToken string `json:"accessToken,omitempty"`
	DiskBytes   int64  `json:"diskBytes"` // written beyond what it shares with its template
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
	Kind    string    `json:"kind,omitempty"` // as in Machine
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
	// ErrHostTaken means that another machine of the node has the URL's label.
	ErrHostTaken = fmt.Errorf("%w: the host name is taken", ErrConflict)
	// ErrPortClosed is returned by Dial when nothing listens in the guest.
	ErrPortClosed = errors.New("port closed")
	// ErrPaused means that the machine must be resumed first.
	ErrPaused = errors.New("paused")
	// ErrDamaged means that a memory image does not have the content it was
	// written with.
	ErrDamaged = errors.New("damaged")
	// ErrIncompatible means that a memory image needs another runtime or
	// processor than this node has.
	ErrIncompatible = errors.New("incompatible")
)
