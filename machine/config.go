package machine

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/atoll-cloud/atoll/bundle"
	"github.com/atoll-cloud/atoll/network"
)

// Defaults and limits of the engine, all in one place.
const (
	// DefaultMaxTimeout is the longest time to live unless the operator says otherwise.
	DefaultMaxTimeout = 24 * time.Hour
	// DefaultPool is how many warm guests the engine keeps of each built-in template.
	DefaultPool = 4
	// DefaultPoolMax bounds the warm guests of one template however high the demand.
	DefaultPoolMax = 16
	// DefaultLinger is how long a paused machine stays in memory too.
	DefaultLinger = 30 * time.Second
	// reserveShare of the host's memory is what MemoryReserve 0 stands for.
	reserveShare = 20

	makeTimeout  = 30 * time.Second // making one live guest
	readyTimeout = 10 * time.Second // from the guest's start until its daemon answers
	endTimeout   = 30 * time.Second // taking one apart
	sleepTimeout = 2 * time.Minute  // putting one to sleep, or waking it
	pauseAgain   = 10 * time.Second // after a pause at a deadline failed
	pressureIdle = time.Second      // who was used within it keeps its memory
	disksAhead   = 8                // copies of each template's disk that wait for a machine
	sampleEvery  = 5 * time.Second
	sampleKeep   = 720 // samples a machine: an hour
	// sampleKeepAsleep is how many are kept while it sleeps.
	sampleKeepAsleep = 24
	endedKeep        = 24 * time.Hour // how long ended machines and their logs are remembered
	endedLogBytes    = 1 << 20        // of the log of an ended machine
	logReadBytes     = 8 << 20        // of the log of a running machine, newest
	logLineBytes     = 64 << 10

	maxMetadata      = 64 << 10 // bytes of metadata and of environment, each
	maxMetadataItems = 512
)

// Config says how a node runs its machines.
type Config struct {
	// DataDir holds everything that lasts; RunDir what does not outlive the
	// host's uptime (keep it short: it holds Unix sockets).
	DataDir, RunDir string
	// Instance is a short name, unique on the host, that all kernel objects
	// of this server carry.
	Instance string
	// LibDir holds the helper binaries, each version in a folder of its name, as
	// package bundle lays them out. Bundle is the version that new machines
	// run on; sleeping machines and snapshots wake on the one they were made on.
	LibDir, Bundle string
	// Network is how machines reach out; the engine sets its names and sizes.
	Network network.Config
	// Version is Atoll's own.
	Version string

	// MaxTimeout is the longest time to live; 0 means that machines without
	// an end are allowed.
	MaxTimeout time.Duration
	// Pool is the number of warm guests kept of each built-in template, and
	// PoolMax the most that demand can raise it to. PoolMax 0 means no pool.
	Pool, PoolMax int
	// Cold boots every machine instead of restoring a snapshot. It exists to
	// measure what snapshots are worth.
	Cold bool
	// Idle is the policy of machines that have none of their own.
	Idle IdlePolicy
	// Linger is how long a paused machine, which is on the disk, stays in
	// memory as well, so that it wakes at once.
	Linger time.Duration
	// MemoryReserve is how much of the host's memory, in bytes, shall stay
	// available: below it the longest-idle machines are written to the disk.
	// 0 takes a twentieth of it all; a negative value never does that.
	MemoryReserve int64
	// TeamLimit says how many machines a team may have awake, where a request
	// wakes a paused one; 0 is no limit, a negative number none. nil: no limit.
	TeamLimit func(team string) int
	// Templates names the built-in templates to keep; nil is all of them.
	Templates []string
	// DiskPoolBytes is the size of the disk pool when it must be made; 0
	// chooses by the free space.
	DiskPoolBytes int64

	// Meter hears what machines use; nil: nobody does.
	Meter Meter

	Logger *slog.Logger
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Progress hears of long work at start, such as building a template. May be nil.
	Progress func(Progress)
}

// Progress is how far a piece of long work has come.
type Progress struct {
	Work string        // such as "base template"
	Step string        // what it does now
	Done float64       // 0 to 1
	Left time.Duration // an honest estimate; 0 when unknown
}

// binDir is where the helper binaries of a version are.
func (c *Config) binDir(version string) string { return filepath.Join(c.LibDir, version) }

// guestDir is the folder that machines on that version see as guestFolder.
func (c *Config) guestDir(version string) string {
	return filepath.Join(c.LibDir, version, bundle.GuestDir)
}

// has reports whether a built-in template is to be kept.
func (c *Config) has(name string) bool {
	return c.Templates == nil || slices.Contains(c.Templates, name)
}

func (c *Config) check() error {
	switch {
	case c.DataDir == "" || c.RunDir == "" || c.LibDir == "" || c.Bundle == "":
		return fmt.Errorf("%w: the engine needs its data, run and binary folders", ErrInvalid)
	case c.Instance == "" || len(c.Instance) > 6:
		return fmt.Errorf("%w: the instance name %q must have 1 to 6 characters", ErrInvalid, c.Instance)
	case slices.ContainsFunc(c.Templates, func(name string) bool { return !isBuiltin(name) }):
		return fmt.Errorf("%w: of the templates %q not all come with Atoll", ErrInvalid, c.Templates)
	case c.Pool < 0 || c.PoolMax < 0 || c.MaxTimeout < 0 || c.Linger < 0 || c.Idle.Freeze < 0 || c.Idle.Store < 0:
		return fmt.Errorf("%w: pool sizes and times cannot be negative", ErrInvalid)
	}
	if c.TeamLimit == nil {
		c.TeamLimit = func(string) int { return 0 }
	}
	if c.MemoryReserve == 0 {
		total, err := HostMemory()
		if err != nil {
			return fmt.Errorf("read the host's memory: %w", err)
		}
		c.MemoryReserve = total / reserveShare
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	c.Pool = min(c.Pool, c.PoolMax)
	return nil
}

// makers is how many guests are made at once: more only adds to the tail.
func makers() int { return runtime.NumCPU() + 1 }
