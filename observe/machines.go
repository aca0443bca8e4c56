package observe

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// MachineCounts is the state of the machine engine at one instant.
type MachineCounts struct {
	ByState map[string]int // machines that are not forgotten, by state
	// Pool and PoolTarget sum the machines that stand ready over all templates:
	// how many there are and how many there should be.
	Pool, PoolTarget int
}

// Machines holds what the machine engine counts as things happen.
type Machines struct {
	created       *prometheus.CounterVec
	createSeconds *prometheus.HistogramVec
	ended         *prometheus.CounterVec
}

// NewMachines registers the metrics of the machine engine. counts is called
// on every scrape and must be quick and safe for concurrent use.
func (m *Metrics) NewMachines(counts func() MachineCounts) *Machines {
	s := &Machines{
		created: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atoll_machine_creates_total",
			Help: "Machines asked for, by how they were started (warm, cold) and outcome (ok, failed).",
		}, []string{"start", "outcome"}),
		createSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "atoll_machine_create_seconds",
			Help:    "Time from the request for a machine until its guest daemon answers.",
			Buckets: []float64{.001, .002, .004, .006, .01, .015, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"start"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atoll_machine_ends_total",
			Help: "Machines ended, by reason.",
		}, []string{"reason"}),
	}
	m.registry.MustRegister(s.created, s.createSeconds, s.ended, machineCollector(counts))
	return s
}

// Created counts one create that took d; warm is one served from the pool.
func (s *Machines) Created(warm bool, d time.Duration, err error) {
	start := "cold"
	if warm {
		start = "warm"
	}
	if err != nil {
		s.created.WithLabelValues(start, "failed").Inc()
		return
	}
	s.created.WithLabelValues(start, "ok").Inc()
	s.createSeconds.WithLabelValues(start).Observe(d.Seconds())
}

// Ended counts one machine that ended. The reason is a short word from the
// engine's own list, never text from a guest or client.
func (s *Machines) Ended(reason string) { s.ended.WithLabelValues(reason).Inc() }

var (
	machinesDesc = prometheus.NewDesc("atoll_machines", "Machines by state.", []string{"state"}, nil)
	poolDesc     = prometheus.NewDesc("atoll_pool_machines", "Machines standing ready to be taken.", nil, nil)
	targetDesc   = prometheus.NewDesc("atoll_pool_target", "Machines that should stand ready.", nil, nil)
)

// machineCollector reads the engine's counts at the time of a scrape.
type machineCollector func() MachineCounts

func (machineCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- machinesDesc
	ch <- poolDesc
	ch <- targetDesc
}

func (f machineCollector) Collect(ch chan<- prometheus.Metric) {
	c := f()
	for state, n := range c.ByState {
		ch <- prometheus.MustNewConstMetric(machinesDesc, prometheus.GaugeValue, float64(n), state)
	}
	ch <- prometheus.MustNewConstMetric(poolDesc, prometheus.GaugeValue, float64(c.Pool))
	ch <- prometheus.MustNewConstMetric(targetDesc, prometheus.GaugeValue, float64(c.PoolTarget))
}
