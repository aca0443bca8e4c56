package machine

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func testTemplate() *template { return &template{record: Template{ID: "t", Names: []string{"t"}}} }

func TestPoolTargetFollowsDemand(t *testing.T) {
	for _, c := range []struct {
		name           string
		floor, ceiling int
		demands        []time.Duration // before noon
		want           int
	}{
		{"nobody asks", 2, 8, nil, 2},
		{"few ask", 2, 8, []time.Duration{time.Second}, 2},
		{"more ask than the floor", 2, 8, []time.Duration{5, 4, 3, 2, 1}, 5},
		{"more ask than the ceiling", 2, 3, []time.Duration{5, 4, 3, 2, 1}, 3},
		{"they asked long ago", 2, 8, []time.Duration{2 * demandSpan, 2 * demandSpan, 2 * demandSpan, 2 * demandSpan}, 2},
		{"no pool", 0, 0, []time.Duration{3, 2, 1}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, template := newPool(c.floor, c.ceiling), testTemplate()
			p.open(template)
			for _, ago := range c.demands {
				p.demand(template, noon.Add(-ago))
			}
			if got := p.target(p.shelf(template), noon); got != c.want {
				t.Errorf("target %d, want %d", got, c.want)
			}
		})
	}
}

func TestPoolFillsToItsTargetAndShrinksBack(t *testing.T) {
	p, template := newPool(1, 4), testTemplate()
	p.open(template)
	for range 3 {
		p.demand(template, noon)
	}
	if more, _, wait := p.next(noon); more != nil || wait <= 0 {
		t.Fatalf("refilling began right after a claim, and takes the processor from it")
	}
	now := noon.Add(poolQuiet * (1 + poolPatience))
	for i := range 3 {
		more, _, _ := p.next(now)
		if more != template {
			t.Fatalf("the pool stopped at %d guests, its target is 3", i)
		}
		p.put(&guest{template: more})
		p.filled(more)
	}
	if more, less, _ := p.next(now); more != nil || less != nil {
		t.Fatal("a pool at its target wants to change")
	}
	now = now.Add(2 * demandSpan)
	for i := range 2 {
		_, less, _ := p.next(now)
		if less == nil || !p.drop(less) {
			t.Fatalf("the pool kept %d guests when demand was over, its floor is 1", 3-i)
		}
	}
	if more, less, _ := p.next(now); more != nil || less != nil {
		t.Fatal("a pool at its floor wants to change")
	}
}

func TestPoolMakesWayForCreates(t *testing.T) {
	p, template := newPool(1, 4), testTemplate()
	p.open(template)
	p.want(1)
	if more, _, _ := p.next(noon); more != nil {
		t.Error("the pool fills while a create makes its own guest")
	}
	p.want(-1)
	if more, _, _ := p.next(noon); more != template {
		t.Error("the pool does not fill after the create is done")
	}
}

func TestPoolGivesEachGuestOnce(t *testing.T) {
	p, template := newPool(2, 4), testTemplate()
	a := &guest{template: template}
	p.put(a)
	if p.take(template) != a || p.take(template) != nil || p.drop(a) {
		t.Error("a guest was given twice")
	}
}
