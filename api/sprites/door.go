// Package sprites is the door for clients of the Sprites API: the published
// SDKs and tools for sprites, answered by our engine and, for what happens
// inside of a sprite, by the daemon in it.
//
// The door decodes, authorises, calls the engine and encodes; requests that
// are for the inside of a sprite are carried there as they are.
package sprites

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/network"
	"github.com/atoll-cloud/atoll/observe"
)

// Version is the edition of the Sprites API that this door answers in, told in
// each answer: clients choose by it how they attach to sessions.
const Version = "0.0.1"

// versionHeader carries Version.
const versionHeader = "Sprite-Version"

// Engine is what the door needs of the machine engine; *machine.Engine has it.
type Engine interface {
	Create(ctx context.Context, spec machine.CreateSpec) (machine.Machine, error)
	Get(id string) (machine.Machine, error)
	Named(team, name string) (machine.Machine, error)
	AtHost(label string) (machine.Machine, error)
	List(team string) []machine.Machine
	Kill(ctx context.Context, id, reason string) error
	Restart(ctx context.Context, id string) (machine.Machine, error)
	EditDoor(ctx context.Context, id string, edit func(notes map[string]string)) (machine.Machine, error)
	SetIdle(ctx context.Context, id string, policy *machine.IdlePolicy) (machine.Machine, error)
	SetNetwork(ctx context.Context, id string, p network.Policy) error
	Hold(id string, until time.Time) error
	Logs(ctx context.Context, team, id string, q machine.LogQuery) ([]machine.LogEntry, error)
	Events(ctx context.Context, f func(machine.Event)) error

	CreateCheckpoint(ctx context.Context, id string, spec machine.CheckpointSpec) (machine.Checkpoint, error)
	Checkpoints(ctx context.Context, id string) ([]machine.Checkpoint, error)
	DeleteCheckpoint(ctx context.Context, id, checkpoint string) error
	RestoreCheckpoint(ctx context.Context, id, checkpoint string) (machine.Machine, error)

	// Dial and Severed are those of edge.Engine; they wake nobody.
	Dial(ctx context.Context, id string, port int) (net.Conn, error)
	Severed(id string) <-chan struct{}
}

// Daemon carries a request to the guest daemon of a machine; *edge.Edge has it.
type Daemon interface {
	Daemon(w http.ResponseWriter, r *http.Request, m machine.Machine, refuse func(status int, message string))
}

// Config is what New needs.
type Config struct {
	Engine   Engine
	Daemon   Daemon
	Accounts *account.Accounts
	// Template is what sprites are made from; empty takes "sprite".
	Template string
	// URL returns the address that a sprite with this first label of its host
	// name is published under.
	URL func(label string) string
	// Idle is how long sprites must be unused before they sleep.
	Idle machine.IdlePolicy
	// CreatesPerMinute is how many sprites each team may make in a minute, those
	// that it has destroyed again included; 0 is no limit.
	CreatesPerMinute int
	// Bundle is the version of the helper binaries that new guests run on.
	Bundle string
	// Release is what the server calls its own version.
	Release string
	Logger  *slog.Logger     // nil discards
	Now     func() time.Time // nil is time.Now
}

// Door answers the Sprites API. It is an http.Handler; Run must be called too,
// for what sprites ask of their host.
type Door struct {
	config   Config
	engine   Engine
	accounts *account.Accounts
	log      *slog.Logger
	now      func() time.Time
	mux      *http.ServeMux
	calls    calls
	changes  changes
	rates    rates
	policies sync.Mutex // held while a network policy is changed
}

// New returns a door.
func New(cfg Config) *Door {
	d := &Door{
		config: cfg, engine: cfg.Engine, accounts: cfg.Accounts,
		log: cfg.Logger, now: cfg.Now, mux: http.NewServeMux(),
	}
	if d.config.Template == "" {
		d.config.Template = "sprite"
	}
	d.config.Idle.IgnoreCPU = true // only use keeps a sprite awake
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.now == nil {
		d.now = time.Now
	}
	d.rates = rates{limit: cfg.CreatesPerMinute, now: d.now}
	d.calls.open, d.calls.untold = map[string]<-chan struct{}{}, map[string]bool{}
	d.routes()
	return d
}

// ServeHTTP answers one request.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(versionHeader, Version)
	d.mux.ServeHTTP(w, r)
}

// Run keeps the connections on which sprites call their host, and tells those
// who watch of changes, until ctx ends.
func (d *Door) Run(ctx context.Context) {
	d.settleIdle(ctx)
	d.connectAll(ctx)
	_ = d.engine.Events(ctx, func(e machine.Event) { // ends with ctx or the engine
		d.changes.publish(e)
		switch e.To {
		case machine.Running:
			d.connect(ctx, e.Machine)
			d.tellLate(ctx, e.Machine)
		case machine.Ended:
			d.calls.forget(e.Machine)
		}
	})
	d.calls.wait.Wait()
}

// settleIdle has sprites of earlier servers sleep as this one was told.
func (d *Door) settleIdle(ctx context.Context) {
	for _, m := range d.engine.List("") {
		if !exists(m) || m.Lifecycle.Idle != nil && *m.Lifecycle.Idle == d.config.Idle {
			continue
		}
		idle := d.config.Idle
		if _, err := d.engine.SetIdle(ctx, m.ID, &idle); err != nil {
			d.log.Warn("a sprite keeps the idle times of an earlier server", "machine", m.ID, "error", err)
		}
	}
}

// handler answers one request of a caller; its error becomes the answer.
type handler func(w http.ResponseWriter, r *http.Request, c caller) error

// route adds a handler. The class is its name in logs and metrics.
func (d *Door) route(pattern, class string, h handler) {
	d.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		observe.SetRoute(r.Context(), "sprites", class)
		c, err := d.authorise(r)
		if err == nil {
			err = h(w, r, c)
		}
		if err != nil {
			d.writeError(w, r, err)
		}
	})
}

// spriteHandler answers one request about a sprite of the caller's.
type spriteHandler func(w http.ResponseWriter, r *http.Request, c caller, m machine.Machine) error

// spriteRoute adds a handler for what is below /v1/sprites/{name}.
func (d *Door) spriteRoute(method, path, class string, h spriteHandler) {
	d.route(method+" /v1/sprites/{name}"+path, class, func(w http.ResponseWriter, r *http.Request, c caller) error {
		m, err := d.named(c, r.PathValue("name"))
		if err != nil {
			return err
		}
		observe.SetMachine(r.Context(), m.ID)
		return byName(h(w, r, c, m), m)
	})
}

func (d *Door) routes() {
	d.route("POST /v1/sprites", "create", d.create)
	d.route("GET /v1/sprites", "list", d.list)
	d.spriteRoute("GET", "", "info", d.info)
	d.spriteRoute("PUT", "", "update", d.update)
	d.spriteRoute("DELETE", "", "destroy", d.destroy)
	d.spriteRoute("POST", "/upgrade", "upgrade", d.upgrade)
	d.spriteRoute("POST", "/restart", "restart", d.restart)
	d.spriteRoute("GET", "/check", "check", d.check)
	d.spriteRoute("GET", "/logs", "logs", d.logs)

	d.spriteRoute("POST", "/checkpoint", "checkpoint", d.createCheckpoint)
	d.spriteRoute("GET", "/checkpoints", "checkpoints", d.listCheckpoints)
	d.spriteRoute("GET", "/checkpoints/{id}", "checkpoints", d.checkpointInfo)
	d.spriteRoute("DELETE", "/checkpoints/{id}", "checkpoints", d.deleteCheckpoint)
	d.spriteRoute("POST", "/checkpoints/{id}/restore", "restore", d.restoreCheckpoint)

	d.spriteRoute("GET", "/policy/network", "policy", d.networkPolicy)
	d.spriteRoute("POST", "/policy/network", "policy", d.setNetworkPolicy)
	d.spriteRoute("GET", "/policy/privileges", "policy", d.privileges)
	d.spriteRoute("POST", "/policy/privileges", "policy", d.setPrivileges)
	d.spriteRoute("DELETE", "/policy/privileges", "policy", d.deletePrivileges)
	d.spriteRoute("GET", "/policy/resources", "policy", d.resources)
	d.spriteRoute("POST", "/policy/resources", "policy", d.setResources)
	d.spriteRoute("DELETE", "/policy/resources", "policy", d.deleteResources)

	d.daemonRoutes()

	d.route("GET /v1/organizations", "organizations", d.organizations)
	d.mux.HandleFunc("POST /v1/organizations/{org}/tokens", d.createToken)

	d.mux.HandleFunc("/", d.unknown)
}

// unknown answers what is not in this API, with what else the path may be
// asked for.
func (d *Door) unknown(w http.ResponseWriter, r *http.Request) {
	observe.SetRoute(r.Context(), "sprites", "unknown")
	if allowed := d.allowed(r); len(allowed) > 0 {
		for _, method := range allowed {
			w.Header().Add("Allow", method)
		}
		d.writeError(w, r, fail(http.StatusMethodNotAllowed, "method_not_allowed", "%s is not possible here", r.Method))
		return
	}
	d.writeError(w, r, fail(http.StatusNotFound, "not_found", "there is no %s %s in this API", r.Method, door.Clip(r.URL.Path)))
}

// allowed returns the methods that a path has.
func (d *Door) allowed(r *http.Request) (methods []string) {
	probe := &http.Request{URL: r.URL, Host: r.Host, Proto: r.Proto, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor}
	for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
		probe.Method = method
		if _, pattern := d.mux.Handler(probe); pattern != "/" && pattern != "" {
			methods = append(methods, method)
		}
	}
	return methods
}
