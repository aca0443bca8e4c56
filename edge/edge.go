// Package edge is the proxy in front of the guests: it tells by host name or
// headers which port of which machine a request is for, lets through what the
// machine allows, and carries it there; what is for no guest goes to the APIs.
package edge

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/observe"
	"github.com/atoll-cloud/atoll/wire"
)

// Engine is what the edge needs of the machine engine.
type Engine interface {
	// Get returns a machine that is not ended, or machine.ErrNotFound.
	Get(id string) (machine.Machine, error)
	// AtHost returns the machine whose URL has this label as its first, or
	// machine.ErrNotFound.
	AtHost(label string) (machine.Machine, error)
	// Dial connects to a TCP port in a machine. It fails with
	// machine.ErrNotFound, ErrPortClosed or ErrUnavailable.
	Dial(ctx context.Context, id string, port int) (net.Conn, error)
	// Enter wakes a machine if a use of it may, and keeps it awake until leave is
	// called, once. It fails with ctx's error or with machine.ErrNotFound,
	// ErrPaused, ErrDamaged, ErrIncompatible, ErrLimit or ErrUnavailable.
	Enter(ctx context.Context, id string) (leave func(), err error)
	// Severed is closed when the connections to a machine are worth nothing any
	// more, for it was paused or has ended; for unknown machines and those that
	// are not awake it is closed already. Each time it wakes there is a new
	// one, before Enter returns.
	Severed(id string) <-chan struct{}
}

// Config is what New needs.
type Config struct {
	Engine Engine
	// Domain is the name under which guests are published. Host names of the
	// form <port>-<id> under any other domain reach guests as well, so that any
	// wildcard name may point here; Domain itself never does.
	Domain string
	// Fallback answers requests that are for no guest: the APIs.
	Fallback http.Handler
	// Visitors decides who may visit the URLs of sprites. Nil lets in nobody.
	Visitors Visitors
	// VisitKey signs the cookies of people who have shown that they may visit;
	// nil draws one, and they must show it again after a restart.
	VisitKey []byte
	Logger   *slog.Logger
	// MaxRequests is how many requests and open tunnels one machine may hold
	// at a time; 0 takes 1024.
	MaxRequests int
}

// Edge is the proxy. It is an http.Handler; Close ends what it holds open.
type Edge struct {
	engine      Engine
	domain      string
	fallback    http.Handler
	visits      visits
	log         *slog.Logger
	maxRequests int64
	machines    *entries
	proxy       *httputil.ReverseProxy
}

// New returns a proxy that is ready to serve.
func New(c Config) *Edge {
	e := &Edge{
		engine:      c.Engine,
		domain:      c.Domain,
		fallback:    c.Fallback,
		visits:      newVisits(c.Visitors, c.VisitKey),
		log:         c.Logger,
		maxRequests: int64(c.MaxRequests),
		machines:    newEntries(c.Engine),
	}
	if e.maxRequests == 0 {
		e.maxRequests = 1024
	}
	e.proxy = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      roundTripper{},
		ModifyResponse: modifyResponse,
		ErrorHandler:   e.answerFailure,
		FlushInterval:  -1, // a guest's byte is a client's byte at once
		BufferPool:     buffers,
		ErrorLog:       slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
	}
	return e
}

// Close cuts every connection to guests, tunnels included.
func (e *Edge) Close() { e.machines.close() }

// ServeHTTP carries the request to its guest or to the APIs.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m, ok := e.spriteAt(r.Host); ok {
		e.serveSprite(w, r, m)
		return
	}
	t, forGuest, err := findTarget(r, e.domain)
	if !forGuest {
		if e.isStray(r) {
			answerProblem(w, r, problemNoSprite())
			return
		}
		if preflightNames(r, headerSandboxID) {
			// The preflight of a request that its headers will route here: a
			// browser sends it without them.
			answerPreflight(w, r)
			return
		}
		e.fallback.ServeHTTP(w, r)
		return
	}
	observe.SetRoute(r.Context(), "edge", routeClass(t, r.URL.Path))
	if t.port != wire.GuestPort {
		observe.HidePath(r.Context())
	}
	if err != nil {
		answerProblem(w, r, problemBadTarget(err))
		return
	}
	observe.SetMachine(r.Context(), t.id)
	asleep, p := e.refuse(r, t)
	if p != nil {
		if mayAnswerPreflight(r, t, p) {
			answerPreflight(w, r)
			return
		}
		answerProblem(w, r, p)
		return
	}
	if t.port == wire.GuestPort && isPreflight(r) {
		answerPreflight(w, r)
		return
	}
	e.forward(w, r, &route{target: t, answer: answerProblem}, asleep)
}

// refuse returns why the request may not go to its target, or nil and whether
// the machine has to wake for it. It asks nothing of the guest: whoever is
// refused wakes no machine.
func (e *Edge) refuse(r *http.Request, t target) (asleep bool, p *problem) {
	if r.Method == http.MethodConnect {
		return false, problemMethod(t)
	}
	if t.port == wire.GuestPort && !allowedGuestPath(r.URL) && !isPreflight(r) {
		return false, problemControlRoute(t)
	}
	m, err := e.engine.Get(t.id)
	switch {
	case errors.Is(err, machine.ErrNotFound):
		return false, problemNotFound(t)
	case err != nil:
		e.log.Error("finding the machine of a request failed", "machine", t.id, "error", err)
		return false, problemUnavailable(t)
	}
	if m.Kind == machine.KindSprite { // has a URL of its own, with its own rules
		return false, problemNotFound(t)
	}
	if p := refuseState(t, m.State); p != nil {
		return false, p
	}
	return m.State.Asleep(), checkTraffic(r, t, m.TrafficToken)
}

// refuseState refuses requests to machines that no use can wake.
func refuseState(t target, s machine.State) *problem {
	switch s {
	case machine.Running, machine.Frozen, machine.Stored:
		return nil
	case machine.Creating:
		return problemUnavailable(t)
	}
	return problemNotFound(t)
}

// forward carries an admitted request to its guest, which it wakes if need be
// and keeps awake until the request, stream or tunnel is over.
func (e *Edge) forward(w http.ResponseWriter, r *http.Request, to *route, asleep bool) {
	n, open := e.machines.admit(to.id)
	defer e.machines.release(n)
	if open > e.maxRequests {
		to.answer(w, r, problemTooMany(to.target, e.maxRequests))
		return
	}
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		// A guest may answer before it has read the whole body. Writers that
		// cannot do both at once are the tests' recorders.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	if asleep {
		if err := holdBody(r); err != nil {
			w.WriteHeader(statusClientGone)
			return
		}
	}
	up, leave, err := e.enter(r.Context(), n)
	if err != nil {
		e.answerNotEntered(w, r, to, err)
		return
	}
	defer leave()
	if asleep {
		up.afterSleep()
	}
	to.up = up
	ctx := context.WithValue(r.Context(), routeKey{}, to)
	r = r.WithContext(ctx)
	if to.port == spritePort {
		if to.port, err = up.spritePort(ctx, to.token); err != nil {
			e.answerFailure(w, r, err)
			return
		}
		to.token, to.sprite = "", to.token
	}
	w.Header().Del(observe.RequestIDHeader) // modifyResponse sets it, once
	to.client = &ending{ResponseWriter: w}
	e.proxy.ServeHTTP(to.client, r)
}
