package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// print writes the figures as a table for people.
func (b *bench) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tmedian\tp99\tgoal\tmet\t"+container+"\t"+coldStart+"\t")
	for _, r := range b.rows {
		met := ""
		if r.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*r.Met]
		}
		p99 := ""
		if r.P99 > 0 {
			p99 = number(r.P99)
		}
		fmt.Fprintf(w, "%-52s\t%s %s\t%s\t%s\t%s\t%s\t%s\t\n", r.Name, number(r.Median), r.Unit, p99, r.Goal, met, r.besides(container), r.besides(coldStart))
	}
	w.Flush()
	fmt.Fprintf(out, "\n%d runs; all times in milliseconds unless a unit is given. %s: a container of the same root\nfile system with a writable layer, no network, on the host's own kernel. %s: ours without pool and snapshot.\n", b.runs, container, coldStart)
}

func (r *row) besides(name string) string {
	for _, o := range r.Beside {
		if o.Name == name {
			return number(o.Median)
		}
	}
	return ""
}

func (g *goal) String() string {
	if g == nil {
		return ""
	}
	var parts []string
	if g.Median > 0 {
		parts = append(parts, "≤ "+number(g.Median))
	}
	if g.P99 > 0 {
		parts = append(parts, "p99 ≤ "+number(g.P99))
	}
	if g.Least > 0 {
		parts = append(parts, "≥ "+number(g.Least))
	}
	return strings.Join(parts, ", ")
}

func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
