// Package e2b is the door for E2B's clients: the control API that the
// published E2B SDKs and command line speak, answered by our engine.
//
// The door decodes, authorises, calls the engine and encodes; what a machine
// may do is decided below. What the API offers and Atoll does not have yet is
// refused with an error that names it, never accepted and forgotten.
package e2b

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/network"
	"github.com/atoll-cloud/atoll/observe"
)

// Engine is what the door needs of the machine engine; *machine.Engine has it.
type Engine interface {
	Create(ctx context.Context, spec machine.CreateSpec) (machine.Machine, error)
	Get(id string) (machine.Machine, error)
	List(team string) []machine.Machine
	Kill(ctx context.Context, id, reason string) error
	Pause(ctx context.Context, id string, diskOnly bool) (machine.Machine, error)
	Resume(ctx context.Context, id string, spec machine.ResumeSpec) (m machine.Machine, woken bool, err error)
	Fork(ctx context.Context, id string, spec machine.ForkSpec) ([]machine.Forked, error)
	SetDeadline(ctx context.Context, id string, t time.Time, onlyLater bool) (machine.Machine, error)
	SetNetwork(ctx context.Context, id string, p network.Policy) error
	Samples(id string, from, to time.Time) ([]machine.Sample, error)
	Logs(ctx context.Context, team, id string, q machine.LogQuery) ([]machine.LogEntry, error)
	Templates(team string) []machine.Template
	Template(team, ref string) (machine.Template, error)
	Snapshot(ctx context.Context, id, name string) (machine.Template, error)
	Snapshots(q machine.SnapshotQuery) []machine.Template
	DeleteTemplate(ctx context.Context, team, id string) error
	MaxTimeout() time.Duration
	Node() machine.Node
	Events(ctx context.Context, f func(machine.Event)) error
}

// Config is what New needs.
type Config struct {
	Engine   Engine
	Accounts *account.Accounts
	// Domain is the base domain under which sandboxes are reached; empty lets
	// the SDKs use the one they are configured with.
	Domain string
	Logger *slog.Logger     // nil discards
	Now    func() time.Time // nil is time.Now
}

// Door answers E2B's control API. It is an http.Handler.
type Door struct {
	engine   Engine
	accounts *account.Accounts
	domain   string
	logger   *slog.Logger
	now      func() time.Time
	mux      *http.ServeMux
	history  *history
	pending  pending
}

// New returns a door. Run should be called too, for the teams' metrics.
func New(cfg Config) *Door {
	d := &Door{
		engine: cfg.Engine, accounts: cfg.Accounts, domain: cfg.Domain,
		logger: cfg.Logger, now: cfg.Now, mux: http.NewServeMux(), history: newHistory(),
	}
	if d.logger == nil {
		d.logger = slog.New(slog.DiscardHandler)
	}
	if d.now == nil {
		d.now = time.Now
	}
	d.routes()
	return d
}

// ServeHTTP answers one request.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if allowBrowser(w, r) {
		observe.SetRoute(r.Context(), "e2b", "preflight")
		return
	}
	d.mux.ServeHTTP(w, r)
}

// handler answers one request of a caller; its error becomes the answer.
type handler func(w http.ResponseWriter, r *http.Request, c caller) error

// route adds a handler. The class is its name in logs and metrics.
func (d *Door) route(pattern, class string, who access, h handler) {
	d.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		observe.SetRoute(r.Context(), "e2b", class)
		c, err := d.authorise(r, who)
		if err == nil {
			err = h(w, r, c)
		}
		if err != nil {
			d.writeError(w, r, err)
		}
	})
}

func (d *Door) routes() {
	d.route("GET /health", "health", anyone, d.health)

	d.route("POST /sandboxes", "create", aTeam, d.createV1)
	d.route("POST /v2/sandboxes", "create", aTeam, d.createV2)
	d.route("GET /sandboxes", "list", aTeam, d.listV1)
	d.route("GET /v2/sandboxes", "list", aTeam, d.listV2)
	d.route("GET /sandboxes/metrics", "metrics", aTeam, d.metricsOfMany)
	d.route("GET /sandboxes/{sandboxID}", "info", aTeam, d.info)
	d.route("DELETE /sandboxes/{sandboxID}", "kill", aTeam, d.kill)
	d.route("POST /sandboxes/{sandboxID}/timeout", "timeout", aTeam, d.setTimeout)
	d.route("POST /sandboxes/{sandboxID}/refreshes", "refresh", aTeam, d.refresh)
	d.route("POST /sandboxes/{sandboxID}/connect", "connect", aTeam, d.connectV1)
	d.route("POST /v2/sandboxes/{sandboxID}/connect", "connect", aTeam, d.connectV2)
	d.route("POST /sandboxes/{sandboxID}/pause", "pause", aTeam, d.pause)
	d.route("POST /sandboxes/{sandboxID}/resume", "resume", aTeam, d.resume)
	d.route("POST /sandboxes/{sandboxID}/fork", "fork", aTeam, d.fork)
	d.route("POST /sandboxes/{sandboxID}/snapshots", "snapshots", aTeam, d.createSnapshot)
	d.route("GET /snapshots", "snapshots", aTeam, d.listSnapshots)
	d.route("PUT /sandboxes/{sandboxID}/network", "network", aTeam, d.setNetwork)
	d.route("GET /sandboxes/{sandboxID}/metrics", "metrics", aTeam, d.metricsOfOne)
	d.route("GET /sandboxes/{sandboxID}/logs", "logs", aTeam, d.logsV1)
	d.route("GET /v2/sandboxes/{sandboxID}/logs", "logs", aTeam, d.logsV2)

	d.route("GET /teams", "teams", teamOrAdmin, d.teams)
	d.route("GET /teams/{teamID}/metrics", "team-metrics", aTeam, d.teamMetrics)
	d.route("GET /teams/{teamID}/metrics/max", "team-metrics", aTeam, d.teamMetricsMax)
	d.route("GET /api-keys", "api-keys", aTeam, d.listKeys)
	d.route("POST /api-keys", "api-keys", aTeam, d.createKey)
	d.route("PATCH /api-keys/{apiKeyID}", "api-keys", aTeam, d.renameKey)
	d.route("DELETE /api-keys/{apiKeyID}", "api-keys", aTeam, d.deleteKey)
	d.route("POST /access-tokens", "access-tokens", anyone, d.createAccessToken)
	d.route("DELETE /access-tokens/{accessTokenID}", "access-tokens", anyone, d.deleteAccessToken)

	d.route("GET /templates", "templates", aTeam, d.listTemplatesV1)
	d.route("GET /v2/templates", "templates", aTeam, d.listTemplatesV2)
	d.route("GET /templates/{templateID}", "templates", aTeam, d.templateInfo)
	// One pattern, because /templates/aliases/{alias} and
	// /templates/{templateID}/tags both match /templates/aliases/tags.
	d.route("GET /templates/{first}/{second}", "templates", aTeam, d.templateAliasOrTags)
	d.route("DELETE /templates/{templateID}", "templates", aTeam, d.deleteTemplate)

	d.route("GET /nodes", "nodes", admin, d.listNodes)
	d.route("GET /nodes/{nodeID}", "nodes", admin, d.nodeInfo)
	d.route("POST /admin/teams/{teamID}/api-keys", "admin", admin, d.adminCreateKey)
	d.route("DELETE /admin/teams/{teamID}/api-keys/{apiKeyID}", "admin", admin, d.adminDeleteKey)
	d.route("POST /admin/teams/{teamID}/sandboxes/kill", "admin", admin, d.adminKill)
	d.route("GET /admin/sandboxes/running-counts", "admin", admin, d.adminCounts)

	d.laterRoutes()
	d.route("/", "unknown", anyone, func(_ http.ResponseWriter, r *http.Request, _ caller) error {
		return fail(http.StatusNotFound, "there is no %s %s in this API", r.Method, door.Clip(r.URL.Path))
	})
}

func (d *Door) health(w http.ResponseWriter, _ *http.Request, _ caller) error {
	return door.NoContent(w)
}
