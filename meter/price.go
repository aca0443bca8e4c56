package meter

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Prices is a table of prices: plans by name.
type Prices struct {
	Currency string          `json:"currency"`
	Default  string          `json:"default"` // the plan of whoever names none
	Plans    map[string]Plan `json:"plans"`
}

// Plan is what usage costs. A price that is not given is zero.
type Plan struct {
	Name string `json:"-"`
	Note string `json:"note,omitempty"`
	// Basis says whether processor and memory are charged as used or as
	// allocated.
	Basis     string `json:"basis"`
	CPU       Price  `json:"cpu,omitzero"`
	Memory    Price  `json:"memory,omitzero"`
	Disk      Price  `json:"disk,omitzero"`      // of what is stored, awake or not
	DiskAwake Price  `json:"diskAwake,omitzero"` // on top, while awake
}

// What plans charge for.
const (
	BasisUsed      = "used"
	BasisAllocated = "allocated"
)

// Price is the price of one unit, such as 0.07 per vCPU-hour.
type Price struct {
	Price float64 `json:"price"`
	Per   string  `json:"per"`
}

// Cost is what usage costs by a plan, in the currency of the table.
type Cost struct {
	CPU    float64 `json:"cpu"`
	Memory float64 `json:"memory"`
	Disk   float64 `json:"disk"`
	Total  float64 `json:"total"`
}

// Units: what is charged, in the unit that it is metered in, and for how long.
var (
	cpuUnits  = map[string]float64{"vCPU": 1}
	byteUnits = map[string]float64{"GiB": 1, "GB": 1e9 / gib}
	spans     = map[string]float64{"second": 1, "hour": 3600, "month": 730 * 3600}
)

// unit returns how many vCPU-seconds or GiB-seconds a unit has.
func unit(of map[string]float64, name string) (float64, bool) {
	what, span, _ := strings.Cut(name, "-")
	return of[what] * spans[span], of[what] > 0 && spans[span] > 0
}

// unitNames lists the units of a kind, for people.
func unitNames(of map[string]float64) string {
	var names []string
	for _, what := range slices.Sorted(maps.Keys(of)) {
		for _, span := range []string{"second", "hour", "month"} {
			names = append(names, what+"-"+span)
		}
	}
	return strings.Join(names, ", ")
}

// of is what an amount, in the unit that it is metered in, costs.
func (p Price) of(amount float64, units map[string]float64) float64 {
	size, ok := unit(units, p.Per)
	if !ok { // no price
		return 0
	}
	return amount / size * p.Price
}

// Cost is what usage costs.
func (p Plan) Cost(u Usage) Cost {
	cpu, memory := u.CPUSeconds, u.MemoryGiBSeconds
	if p.Basis == BasisAllocated {
		cpu, memory = u.CPUAllocatedSeconds, u.MemoryAllocatedGiBSeconds
	}
	c := Cost{
		CPU:    p.CPU.of(cpu, cpuUnits),
		Memory: p.Memory.of(memory, byteUnits),
		Disk:   p.Disk.of(u.DiskGiBSeconds, byteUnits) + p.DiskAwake.of(u.DiskAwakeGiBSeconds, byteUnits),
	}
	c.Total = c.CPU + c.Memory + c.Disk
	return c
}

// Plan returns a plan of the table; empty is the default one.
func (p *Prices) Plan(name string) (Plan, error) {
	if name == "" {
		name = p.Default
	}
	plan, ok := p.Plans[name]
	if !ok {
		return Plan{}, fmt.Errorf("%w: there is no plan %q: there are %s", ErrInvalid, clip(name), strings.Join(p.Names(), ", "))
	}
	plan.Name = name
	return plan, nil
}

// Names lists the plans.
func (p *Prices) Names() []string { return slices.Sorted(maps.Keys(p.Plans)) }

//go:embed prices.json
var defaultPrices []byte

// DefaultPrices is the table that comes with Atoll: what the vendors whose
// clients it serves have published.
func DefaultPrices() *Prices {
	p, err := ParsePrices("prices.json", defaultPrices)
	if err != nil {
		panic(err) // a test reads it
	}
	return p
}

// clip keeps hostile input from filling logs and error messages.
func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
