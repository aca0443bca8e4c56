package e2b

import (
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
)

// maxPoints bounds the number of measurements in one answer.
const maxPoints = 1000

type sandboxMetric struct {
	Timestamp     stamp   `json:"timestamp"`
	TimestampUnix int64   `json:"timestampUnix"`
	CPUCount      int     `json:"cpuCount"`
	CPUUsedPct    float64 `json:"cpuUsedPct"`
	MemUsed       int64   `json:"memUsed"`
	MemTotal      int64   `json:"memTotal"`
	MemCache      int64   `json:"memCache"`
	DiskUsed      int64   `json:"diskUsed"`
	DiskTotal     int64   `json:"diskTotal"`
}

func metricOf(s machine.Sample) sandboxMetric {
	return sandboxMetric{
		Timestamp: stamp(s.Time), TimestampUnix: s.Time.Unix(), CPUCount: s.CPUs, CPUUsedPct: math.Round(s.CPUPercent*100) / 100,
		MemUsed: s.MemUsed, MemTotal: s.MemTotal, MemCache: s.MemCache, DiskUsed: s.DiskUsed, DiskTotal: s.DiskTotal,
	}
}

// metricsOfOne returns the measurements of one sandbox, oldest first, by
// default of all its life.
func (d *Door) metricsOfOne(w http.ResponseWriter, r *http.Request, c caller) error {
	m, err := d.find(r, c)
	if err != nil {
		return err
	}
	from, to, err := querySpan(r, m.CreatedAt, d.now().Add(time.Second))
	if err != nil {
		return err
	}
	samples, err := d.engine.Samples(m.ID, from, to)
	if err != nil {
		return err
	}
	samples = thin(samples, maxPoints)
	out := make([]sandboxMetric, 0, len(samples))
	for _, s := range samples {
		out = append(out, metricOf(s))
	}
	return door.WriteJSON(w, http.StatusOK, out)
}

// diskUsed is what a sandbox's files took when it was last measured, in bytes;
// 0 if it was not yet.
func (d *Door) diskUsed(m machine.Machine) int64 {
	now := d.now()
	samples, err := d.engine.Samples(m.ID, now.Add(-time.Minute), now.Add(time.Second))
	if err != nil || len(samples) == 0 {
		return 0 // it has ended meanwhile, or is very young
	}
	return samples[len(samples)-1].DiskUsed
}

// metricsOfMany returns the newest measurement of each sandbox that is asked
// for and exists.
func (d *Door) metricsOfMany(w http.ResponseWriter, r *http.Request, c caller) error {
	var ids []string
	for _, value := range r.URL.Query()["sandbox_ids"] {
		for id := range strings.SplitSeq(value, ",") {
			if id != "" {
				ids = append(ids, strings.TrimSuffix(id, "-"+clientID))
			}
		}
	}
	if len(ids) == 0 || len(ids) > maxPage {
		return invalid("sandbox_ids names %d sandboxes: give 1 to %d ids with commas between", len(ids), maxPage)
	}
	now := d.now()
	out := map[string]sandboxMetric{}
	for _, id := range ids {
		m, err := d.engine.Get(id)
		if err != nil || m.Team != c.team.ID || m.Kind != "" {
			continue
		}
		samples, err := d.engine.Samples(id, m.CreatedAt, now.Add(time.Second))
		if err != nil || len(samples) == 0 {
			continue // it ended meanwhile, or was not measured yet
		}
		out[id] = metricOf(samples[len(samples)-1])
	}
	return door.WriteJSON(w, http.StatusOK, map[string]any{"sandboxes": out})
}

// thin picks at most n of a list, evenly, with the last one.
func thin[T any](list []T, n int) []T {
	if len(list) <= n {
		return list
	}
	out := make([]T, 0, n)
	for i := range n {
		out = append(out, list[(i+1)*len(list)/n-1])
	}
	return out
}
