package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

// usageRows is how many rows a terminal gets.
const usageRows = 20

// usageFlags is what "atoll usage" was asked for.
type usageFlags struct {
	from, to     string
	query        client.UsageQuery
	all          bool
	top          int // rows of the table; 0 is all
	asJSON, asCS bool
}

func newUsage(a *app) *cobra.Command {
	var f usageFlags
	cmd := &cobra.Command{
		Use:   "usage",
		Short: "What machines used, and what that costs",
		Long: `Show what machines used of processor, memory and disk, and what that costs by a
plan of the server's table of prices.

A machine that sleeps uses its disk alone. CPU is processor time really used and
MEMORY what was really held; a plan that charges for what machines were given
instead says so. Days are those of UTC, and the day that --to names is included.
Without --from it is this month. A terminal gets the rows that cost most, as many
as --top says; a file or another program gets all.

With the operator's admin token, which the server's data directory has and
ATOLL_ADMIN_TOKEN can name, --all and --by team show all teams.`,
		Example: `  atoll usage
  atoll usage --by day --from 2026-01-01 --to 2026-01-31
  atoll usage --by day,machine --csv > january.csv
  atoll usage --all --by team --plan e2b
  atoll usage --top 0
  atoll usage plans`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.read(); err != nil {
				return err
			}
			c, err := a.usageClient(f.all, slices.Contains(f.query.By, "team"))
			if err != nil {
				return err
			}
			report, err := c.Usage(cmd.Context(), f.query)
			if err != nil {
				return fmt.Errorf("ask for usage: %w", err)
			}
			switch {
			case f.asJSON:
				return a.printJSON(report)
			case f.asCS:
				return a.usageCSV(report)
			}
			if _, tty := isTerminal(a.out); !tty && !cmd.Flags().Changed("top") {
				f.top = 0
			}
			a.usageTable(report, f.top)
			return nil
		},
	}
	jsonFlag(cmd, &f.asJSON)
	fl := cmd.Flags()
	fl.BoolVar(&f.asCS, "csv", false, "print comma-separated values for spreadsheets")
	fl.StringSliceVar(&f.query.By, "by", []string{"machine"}, "split by team, machine or day, or several of them")
	fl.StringVar(&f.from, "from", "", "first day, such as 2026-01-31, or time, such as 2026-01-31T15:00:00Z (default: this month)")
	fl.StringVar(&f.to, "to", "", "last day, or time (default: now)")
	fl.StringVar(&f.query.Plan, "plan", "", "plan of the table of prices (default: the table's own)")
	fl.StringVar(&f.query.Machine, "machine", "", "only this machine: its whole id, or its name")
	fl.IntVar(&f.top, "top", usageRows, "rows of the table for a terminal, those that cost most; 0 is all")
	fl.BoolVar(&f.all, "all", false, "all teams; needs the operator's admin token")
	cmd.AddCommand(newUsagePlans(a))
	return cmd
}

// read checks the flags and reads the times among them.
func (f *usageFlags) read() error {
	if f.top < 0 {
		return usage("--top must not be negative")
	}
	if f.asJSON && f.asCS {
		return usage("--json and --csv exclude each other")
	}
	for _, by := range f.query.By {
		if by != "team" && by != "machine" && by != "day" {
			return usage("--by %q: use team, machine or day, or several of them with commas", by)
		}
	}
	var err error
	if f.query.From, err = usageTime("--from", f.from, 0); err != nil {
		return err
	}
	if f.query.To, err = usageTime("--to", f.to, 1); err != nil {
		return err
	}
	return nil
}

// usageTime reads a time, or a day and adds days to it.
func usageTime(flag, text string, days int) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t.AddDate(0, 0, days), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, usage("%s %q: use a day such as 2026-01-31 or a time such as 2026-01-31T15:00:00Z", flag, text)
	}
	return t, nil
}

// usageClient connects, for the operator where all teams are asked for. With
// byTeam alone it is the operator where the admin token is at hand.
func (a *app) usageClient(all, byTeam bool) (*client.Client, error) {
	if !all && !byTeam {
		return a.client()
	}
	t, err := a.target()
	if err != nil {
		return nil, err
	}
	token := a.env("ATOLL_ADMIN_TOKEN")
	if file, err := readCredentials(a.dataDir()); token == "" && err == nil && strings.TrimRight(file.APIURL, "/") == t.APIURL {
		token = file.AdminToken
	}
	switch {
	case token != "":
		return client.New(client.Config{APIURL: t.APIURL, AdminToken: token, UserAgent: "atoll/" + version()})
	case all:
		return nil, (&failure{err: fmt.Errorf("no admin token for %s", t.APIURL), code: codeFailed}).
			hinted("run this where the server's data directory is, or set ATOLL_ADMIN_TOKEN")
	}
	return a.client()
}

// dearest returns the rows that cost most, in the order that they had, and the
// sum of the others; top 0 is all.
func dearest(rows []client.UsageRow, top int) (shown []client.UsageRow, rest client.UsageRow) {
	if top == 0 || len(rows) <= top {
		return rows, rest
	}
	places := make([]int, len(rows))
	for i := range places {
		places[i] = i
	}
	slices.SortStableFunc(places, func(a, b int) int { return cmp.Compare(rows[b].Cost.Total, rows[a].Cost.Total) })
	slices.Sort(places[:top])
	for n, i := range places {
		if n < top {
			shown = append(shown, rows[i])
			continue
		}
		rest.Usage.AwakeSeconds += rows[i].Usage.AwakeSeconds
		rest.Usage.CPUSeconds += rows[i].Usage.CPUSeconds
		rest.Usage.MemoryGiBSeconds += rows[i].Usage.MemoryGiBSeconds
		rest.Usage.DiskGiBSeconds += rows[i].Usage.DiskGiBSeconds
		rest.Cost.Total += rows[i].Cost.Total
	}
	return shown, rest
}

func (a *app) usageTable(r client.UsageReport, top int) {
	var cols []column
	var keys []func(client.UsageRow) string
	for _, c := range []struct {
		by  string
		col column
		key func(client.UsageRow) string
	}{
		{"day", column{title: "DAY"}, func(r client.UsageRow) string { return r.Day }},
		{"team", column{title: "TEAM", min: 8}, func(r client.UsageRow) string { return first(r.TeamName, r.Team) }},
		{"machine", column{title: "MACHINE", min: 8}, func(r client.UsageRow) string { return first(r.Name, r.Machine) }},
	} {
		if slices.Contains(r.By, c.by) {
			cols, keys = append(cols, c.col), append(keys, c.key)
		}
	}
	if len(cols) == 0 {
		cols, keys = []column{{title: ""}}, append(keys, func(client.UsageRow) string { return "" })
	}
	cols = append(cols,
		column{title: "AWAKE", right: true}, column{title: "CPU", right: true}, column{title: "MEMORY", right: true},
		column{title: "DISK", right: true}, column{title: "COST", right: true})
	var rows [][]string
	shown, rest := dearest(r.Rows, top)
	for _, row := range shown {
		var cells []string
		for _, key := range keys {
			cells = append(cells, key(row))
		}
		rows = append(rows, append(cells, amounts(row, r.Currency)...))
	}
	hidden := len(r.Rows) - len(shown)
	if hidden > 0 {
		cells := make([]string, len(keys))
		cells[0] = fmt.Sprintf("… and %d more", hidden)
		rows = append(rows, append(cells, amounts(rest, r.Currency)...))
	}
	if len(r.Rows) != 1 {
		cells := make([]string, len(keys))
		cells[0] = "total"
		rows = append(rows, append(cells, amounts(r.Total, r.Currency)...))
	}
	a.table(cols, rows)
	if hidden > 0 {
		a.note("shown is what cost most; --top 0 shows all %d", len(r.Rows))
	}
	a.note("%s to %s UTC, by the plan %s, which charges for processor and memory as %s",
		r.From.Format("2006-01-02 15:04"), r.To.Format("2006-01-02 15:04"), r.Plan, r.Basis)
}

// amounts are a row's cells for what was used.
func amounts(r client.UsageRow, currency string) []string {
	return []string{
		usedTime(r.Usage.AwakeSeconds), usedTime(r.Usage.CPUSeconds),
		gibHours(r.Usage.MemoryGiBSeconds), gibHours(r.Usage.DiskGiBSeconds),
		money(r.Cost.Total, currency),
	}
}

func usedTime(seconds float64) string {
	if seconds < 60 {
		return fmt.Sprintf("%.1fs", seconds)
	}
	return span(time.Duration(seconds * float64(time.Second)))
}

// gibHours is an amount of storage for people.
func gibHours(gibSeconds float64) string {
	hours := gibSeconds / 3600
	if hours != 0 && hours < 0.1 {
		return fmt.Sprintf("%.1f MiB·h", hours*1024)
	}
	return fmt.Sprintf("%.1f GiB·h", hours)
}

func money(n float64, currency string) string {
	text := fmt.Sprintf("%.4f", n)
	if n > 0 && n < 0.00005 {
		text = "<0.0001"
	}
	if currency == "USD" {
		if rest, ok := strings.CutPrefix(text, "<"); ok {
			return "<$" + rest
		}
		return "$" + text
	}
	return text + " " + currency
}

// usageCSV prints all there is to a report, for spreadsheets.
func (a *app) usageCSV(r client.UsageReport) error {
	w := csv.NewWriter(a.out)
	w.Write([]string{"day", "team", "team_name", "machine", "name", "awake_seconds", "cpu_seconds", "cpu_allocated_seconds",
		"memory_gib_seconds", "memory_allocated_gib_seconds", "disk_gib_seconds", "disk_awake_gib_seconds",
		"plan", "currency", "cost_cpu", "cost_memory", "cost_disk", "cost_total"})
	for _, row := range r.Rows {
		cells := []string{row.Day, row.Team, row.TeamName, row.Machine, row.Name}
		u, c := row.Usage, row.Cost
		for _, n := range []float64{u.AwakeSeconds, u.CPUSeconds, u.CPUAllocatedSeconds, u.MemoryGiBSeconds,
			u.MemoryAllocatedGiBSeconds, u.DiskGiBSeconds, u.DiskAwakeGiBSeconds} {
			cells = append(cells, strconv.FormatFloat(n, 'f', 3, 64))
		}
		cells = append(cells, r.Plan, r.Currency)
		for _, n := range []float64{c.CPU, c.Memory, c.Disk, c.Total} {
			cells = append(cells, strconv.FormatFloat(n, 'f', 9, 64))
		}
		w.Write(cells)
	}
	w.Flush()
	return w.Error() // of any of these
}

func newUsagePlans(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "plans",
		Short: "Show the server's table of prices",
		Long: `Show the server's table of prices. With --json it is printed as a file of its own,
to be edited and given to "atoll up --prices FILE", or put as prices.json into
the data directory.`,
		Example: `  atoll usage plans
  atoll usage plans --json > prices.json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			return a.printPlans(cmd.Context(), c, asJSON)
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) printPlans(ctx context.Context, c *client.Client, asJSON bool) error {
	prices, err := c.Prices(ctx)
	if err != nil {
		return fmt.Errorf("ask for the prices: %w", err)
	}
	if asJSON {
		return a.printJSON(prices)
	}
	price := func(p client.Price) string {
		if p.Per == "" {
			return "-"
		}
		return strconv.FormatFloat(p.Price, 'f', -1, 64) + " / " + p.Per
	}
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(prices.Plans)) {
		p := prices.Plans[name]
		if name == prices.Default {
			name += " (default)"
		}
		rows = append(rows, []string{name, p.Basis, price(p.CPU), price(p.Memory), price(p.Disk), price(p.DiskAwake)})
	}
	a.table([]column{
		{title: "PLAN"}, {title: "CHARGES AS"}, {title: "CPU"}, {title: "MEMORY"}, {title: "DISK"}, {title: "DISK, AWAKE", drop: 1},
	}, rows)
	a.note("prices in %s", prices.Currency)
	return nil
}
