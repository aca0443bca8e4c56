package observe

import (
	"net/http"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxRoutes bounds the number of distinct routes that become labels; a route
// beyond it is counted as "other". The doors have fewer than this by far: it
// guards against a mistake that makes a label of what a client sent.
const maxRoutes = 256

// Metrics holds every metric of one server in a registry of its own.
type Metrics struct {
	registry *prometheus.Registry
	inFlight *prometheus.GaugeVec
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec

	mu     sync.RWMutex
	routes map[Route]bool
}

// NewMetrics returns the metrics of HTTP requests, of the Go runtime and of
// the server's process.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "atoll_http_requests_in_flight",
			Help: "Requests being answered now, upgraded connections included, by protocol.",
		}, []string{"proto"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atoll_http_requests_total",
			Help: "Requests answered, by door, class of route and status; status aborted is a connection that was cut off.",
		}, []string{"door", "route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "atoll_http_request_seconds",
			Help:    "Time from the head of a request to the end of its answer, streams included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600},
		}, []string{"door", "route"}),
		routes: make(map[Route]bool),
	}
	m.registry.MustRegister(m.inFlight, m.requests, m.seconds,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler answers scrapes from callers that allowed accepts; the others get 401.
func (m *Metrics) Handler(allowed func(*http.Request) bool) http.Handler {
	scrape := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		SetRoute(r.Context(), "admin", "metrics")
		if !allowed(r) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(http.StatusUnauthorized)
			w.Write([]byte(`{"code":401,"message":"Metrics need the admin token: send it as \"Authorization: Bearer <token>\"."}` + "\n"))
			return
		}
		scrape.ServeHTTP(w, r)
	})
}

// done counts one request that took the given seconds; status 0 is one whose
// connection was cut off.
func (m *Metrics) done(route Route, status int, seconds float64) {
	route = m.bounded(route)
	word := "aborted"
	if status > 0 {
		word = statusWord(status)
	}
	m.requests.WithLabelValues(route.Door, route.Class, word).Inc()
	m.seconds.WithLabelValues(route.Door, route.Class).Observe(seconds)
}

// bounded returns route itself as long as there are few of them.
func (m *Metrics) bounded(route Route) Route {
	m.mu.RLock()
	known := m.routes[route]
	m.mu.RUnlock()
	if known {
		return route
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.routes) >= maxRoutes && !m.routes[route] {
		return Route{Door: "other", Class: "other"}
	}
	m.routes[route] = true
	return route
}

// statusWord is the status code where it is a registered one, and its class
// otherwise: a guest may answer with any of a thousand.
func statusWord(code int) string {
	if code == statusClientGone || http.StatusText(code) != "" {
		return strconv.Itoa(code)
	}
	return strconv.Itoa(code/100) + "xx"
}

// statusClientGone is the customary status for a request whose client left
// before there was an answer.
const statusClientGone = 499

// protoWord is the label of a request's protocol.
func protoWord(r *http.Request) string {
	if r.ProtoMajor == 2 {
		return "h2"
	}
	return "h1"
}
