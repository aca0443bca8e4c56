package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/network"
)

// How long a sprite must be unused to stand still, and then to give up its
// memory. Clients know the first from the Sprites service.
const (
	defaultSpriteFreeze = 30 * time.Second
	defaultSpriteStore  = 5 * time.Minute
)

// defaultSpriteCreates is how many sprites a team may make in a minute: more
// than this host can, but for a program that has run wild.
const defaultSpriteCreates = 1000

// upConfig is what "atoll up" was asked for.
type upConfig struct {
	Data   string // data directory
	Listen string // address of the one port
	Domain string // guests are reached at <port>-<id>.<Domain>; empty: .localhost
	Demo   bool   // show the main job once the server is ready

	MaxTimeout time.Duration
	Sandboxes  int // that the first team may have at once
	Pool       int
	PoolMax    int
	Cold       bool
	DiskPool   int64    // GiB; 0 chooses by the free space
	Templates  []string // built-in ones to keep; nil is all
	Idle       machine.IdlePolicy
	SpriteIdle machine.IdlePolicy
	Creates    int // sprites that a team may make in a minute; 0 is no limit
	Linger     time.Duration
	Reserve    int64 // MiB of the host's memory; 0 chooses by its size, -1 is off
	Network    network.Config
	Prices     string // file; empty: prices.json in Data, or the built-in table
	LogLevel   slog.Level
}

func newUp(a *app) *cobra.Command {
	var cfg upConfig
	var level string
	var open, upstream []string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the server",
		Long: `Start the server and stay until it is told to stop.

Ctrl-C (SIGINT) ends the sandboxes and leaves nothing running on the host; paused
sandboxes stay in the data directory. SIGTERM stops the server alone: sandboxes
run on, and the next "atoll up" with the same data directory takes them over. So
does a server that was killed.

With --idle-freeze and --idle-store sandboxes that nobody uses, no request open
and hardly any processor time spent, are put to sleep: first they stand still in
memory, then their memory is written to disk. Any request wakes them, in about a
millisecond or a tenth of a second. Timers inside stand still meanwhile; their
time-outs do not.`,
		Example: `  atoll up
  atoll up --data /srv/atoll --listen 0.0.0.0:3000 --domain sandboxes.example.com
  atoll up --idle-freeze 1m --idle-store 10m
  atoll up --demo        start, then show the main job`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if cfg.Data, err = filepath.Abs(a.dataDir()); err != nil {
				return err
			}
			if err := cfg.LogLevel.UnmarshalText([]byte(level)); err != nil {
				return usage("--log-level %q: use debug, info, warn or error", level)
			}
			if _, _, err := net.SplitHostPort(cfg.Listen); err != nil {
				return usage("--listen %q: use an address and a port such as 127.0.0.1:3000", cfg.Listen)
			}
			if cfg.Pool < 0 || cfg.PoolMax < 0 || cfg.DiskPool < 0 || cfg.MaxTimeout < 0 {
				return usage("--pool, --pool-max, --disk-pool and --max-timeout must not be negative")
			}
			if err := cfg.checkSleep(); err != nil {
				return err
			}
			if cfg.Network.Open, err = prefixes("--network-open", open); err != nil {
				return err
			}
			if cfg.Network.Upstream, err = addresses("--dns", upstream); err != nil {
				return err
			}
			return a.up(cmd.Context(), cfg)
		},
	}
	pool, ceiling := poolSizes()
	f := cmd.Flags()
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:3000", "address and port to listen on; the only one")
	f.StringVar(&cfg.Domain, "domain", "", "domain under which sandboxes are reached")
	f.BoolVar(&cfg.Demo, "demo", false, "show the main job once the server is ready")
	f.DurationVar(&cfg.MaxTimeout, "max-timeout", machine.DefaultMaxTimeout, "longest time to live of a sandbox; 0 allows those without end")
	f.IntVar(&cfg.Sandboxes, "max-sandboxes", account.DefaultMaxConcurrent, "sandboxes that the first team may have at once, paused ones not counted")
	f.IntVar(&cfg.Creates, "sprite-creates", defaultSpriteCreates, "sprites that each team may make in a minute; 0 is no limit")
	f.IntVar(&cfg.Pool, "pool", pool, "warm sandboxes kept ready for each built-in template")
	f.IntVar(&cfg.PoolMax, "pool-max", ceiling, "most warm sandboxes that demand can raise a template to; 0 is no pool")
	f.StringSliceVar(&cfg.Templates, "templates", nil, "built-in templates to keep (default: all: base, code-interpreter-v1, sprite)")
	f.Int64Var(&cfg.DiskPool, "disk-pool", 0, "size in GiB of the disk pool, made at the first start (default: 80% of the free space)")
	f.DurationVar(&cfg.Idle.Freeze, "idle-freeze", 0, "freeze sandboxes that were not used for this long; 0 is never")
	f.DurationVar(&cfg.Idle.Store, "idle-store", 0, "write them to disk when they were frozen for this long; 0 is never")
	f.DurationVar(&cfg.SpriteIdle.Freeze, "sprite-freeze", defaultSpriteFreeze, "freeze sprites that were not used for this long; 0 is never")
	f.DurationVar(&cfg.SpriteIdle.Store, "sprite-store", defaultSpriteStore, "write them to disk when they were frozen for this long; 0 is never")
	f.DurationVar(&cfg.Linger, "linger", machine.DefaultLinger, "how long a paused sandbox stays in memory too, so that it wakes at once")
	f.Int64Var(&cfg.Reserve, "memory-reserve", 0, "MiB of the host's memory to keep free by writing those idle longest to disk; -1 is none (default: 5% of it)")
	f.StringVar(&cfg.Prices, "prices", "", "table of prices for \"atoll usage\" (default: prices.json in the data directory, else what comes with Atoll)")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error; logs go to standard error as JSON")
	f.StringSliceVar(&upstream, "dns", nil, "DNS servers to ask for the sandboxes (default: the host's)")
	f.BoolVar(&cfg.Cold, "cold", false, "boot each sandbox instead of restoring a snapshot, to measure what that is worth")
	f.StringSliceVar(&open, "network-open", nil, "ranges to open to sandboxes that are closed otherwise, for tests")
	for _, hidden := range []string{"cold", "network-open"} {
		if err := f.MarkHidden(hidden); err != nil {
			panic(err) // the flag is defined above
		}
	}
	return cmd
}

// checkSleep checks what was asked for sandboxes that sleep.
func (c *upConfig) checkSleep() error {
	switch {
	case c.Idle.Freeze < 0 || c.Idle.Store < 0 || c.Linger < 0:
		return usage("--idle-freeze, --idle-store and --linger must not be negative")
	case c.SpriteIdle.Freeze < 0 || c.SpriteIdle.Store < 0:
		return usage("--sprite-freeze and --sprite-store must not be negative")
	case c.Creates < 0:
		return usage("--sprite-creates must not be negative")
	case c.Idle.Store > 0 && c.Idle.Freeze == 0:
		return usage("--idle-store counts from when a sandbox was frozen: give --idle-freeze too")
	case c.Reserve < -1:
		return usage("--memory-reserve must be a number of MiB, or -1 for none")
	}
	if c.SpriteIdle.Freeze == 0 {
		c.SpriteIdle.Store = 0 // it counts from when a sprite was frozen
	}
	return nil
}

// reserveBytes is what is to be kept free of the host's memory, as the engine
// takes it: 0 is its default, -1 is off.
func (c *upConfig) reserveBytes() int64 {
	if c.Reserve < 0 {
		return -1
	}
	return c.Reserve << 20
}

// poolSizes chooses the warm pool by the host's memory: a warm sandbox holds
// some 25 MiB, so the pool takes about 2 % of it, and at most about 6 %.
func poolSizes() (floor, ceiling int) {
	total, err := machine.HostMemory()
	if err != nil {
		return machine.DefaultPool, machine.DefaultPoolMax
	}
	gib := int(total >> 30)
	return min(max(gib*2/3, 2), 32), min(max(gib*2, 4), 128)
}

// up starts the server, shows the demo if asked, and stays until a signal.
func (a *app) up(ctx context.Context, cfg upConfig) error {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return (&failure{err: errors.New("the server needs root on Linux"), code: codeFailed}).
			hinted("start it with sudo; \"atoll doctor\" shows what else is missing")
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)

	start := time.Now()
	bar := newBar(a)
	defer bar.done()
	log := slog.New(slog.NewJSONHandler(bar, &slog.HandlerOptions{Level: cfg.LogLevel}))
	if cfg.Demo {
		log = slog.New(slog.NewTextHandler(bar, &slog.HandlerOptions{Level: max(cfg.LogLevel, slog.LevelWarn)}))
	}
	s, err := startServer(ctx, cfg, log, bar.show)
	bar.done()
	if errors.Is(err, syscall.EADDRINUSE) {
		return (&failure{err: fmt.Errorf("%s is taken by another program", cfg.Listen), code: codeFailed}).hinted(takenMend(cfg.Listen))
	}
	if err != nil {
		return err
	}
	serving, stop := context.WithCancelCause(ctx)
	served := make(chan error, 1)
	go func() { served <- s.run(serving) }()
	fmt.Fprintf(a.out, "atoll is ready at %s after %s\n", s.secrets.APIURL, time.Since(start).Round(10*time.Millisecond))
	if cfg.Demo {
		go a.showDemo(serving, s.secrets)
	}
	err = <-served
	stop(nil)
	end := interrupted(signals)
	if _, tty := isTerminal(a.err); end && tty {
		a.note("ending the sandboxes; SIGTERM would have left them running")
	}
	return errors.Join(err, s.close(end))
}

// interrupted reports whether the signal that ended the server was Ctrl-C.
func interrupted(signals <-chan os.Signal) bool {
	select {
	case sig := <-signals:
		return sig == syscall.SIGINT
	default:
		return false
	}
}

func (a *app) showDemo(ctx context.Context, secrets credentials) {
	c, err := client.New(client.Config{APIURL: secrets.APIURL, APIKey: secrets.APIKey, SandboxURL: secrets.SandboxURL})
	if err == nil {
		err = demo(ctx, a.out, c, secrets)
	}
	if err != nil {
		if ctx.Err() == nil {
			fmt.Fprintf(a.err, "atoll: the demo failed: %v\n", err)
		}
		return
	}
	fmt.Fprintln(a.out, "Atoll stays up. Ctrl-C ends it and its sandboxes.")
}

func prefixes(flag string, in []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range in {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, usage("%s %q: use a range such as 198.51.100.0/24", flag, text)
		}
		out = append(out, p)
	}
	return out, nil
}

func addresses(flag string, in []string) ([]netip.AddrPort, error) {
	var out []netip.AddrPort
	for _, text := range in {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, netip.AddrPortFrom(a, 53))
			continue
		}
		a, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil, usage("%s %q: use an address such as 9.9.9.9 or 192.0.2.1:5353", flag, text)
		}
		out = append(out, a)
	}
	return out, nil
}
