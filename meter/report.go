package meter

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atoll-cloud/atoll/store"
)

// ErrInvalid is a question that cannot be answered as it was asked.
var ErrInvalid = errors.New("invalid")

// maxRows bounds one report.
const maxRows = 100_000

// Names of what a report can be split by.
const (
	ByTeam    = "team"
	ByMachine = "machine"
	ByDay     = "day"
)

// Query selects usage.
type Query struct {
	// From and To are the span, in whole hours: the hour that From lies in is
	// the first, and the one in which To lies the last, unless it begins then.
	From, To time.Time
	Team     string // its id; empty: all
	Machine  string // its id or name; empty: all
	By       []string
	Plan     string // empty: the default one
}

// Group is whose usage a row sums up; what was not asked for is empty. A
// machine comes with its team.
type Group struct {
	Day     string // UTC, as 2006-01-02
	Team    string
	Machine string
}

// Row is what a group used.
type Row struct {
	Group
	Name  string // of the machine
	Usage Usage
	Cost  Cost
}

// Report is the answer to a Query.
type Report struct {
	From, To time.Time // whole hours
	Currency string
	Plan     Plan
	Rows     []Row // by day, then by cost, the highest first
	Total    Row
}

// Report sums up usage until now.
func (m *Meter) Report(ctx context.Context, q Query) (Report, error) {
	plan, err := m.prices.Plan(q.Plan)
	if err != nil {
		return Report{}, err
	}
	first, end := hourOf(q.From), hourOf(q.To.Add(time.Hour-time.Nanosecond))
	switch {
	case end <= first:
		return Report{}, fmt.Errorf("%w: the span ends before it begins", ErrInvalid)
	case end-first > int64((2 * Retention).Seconds()):
		return Report{}, fmt.Errorf("%w: the span is longer than usage is kept, %d days", ErrInvalid, int(Retention.Hours()/24))
	}
	for _, by := range q.By {
		if by != ByTeam && by != ByMachine && by != ByDay {
			return Report{}, fmt.Errorf("%w: usage cannot be split by %q: use team, machine or day", ErrInvalid, by)
		}
	}
	if err := m.upToDate(); err != nil {
		return Report{}, err
	}
	s := sum{query: q, rows: map[Group]*Usage{}, names: map[string]string{}}
	for day := first - first%86400; day < end; day += 86400 {
		if err := m.readDay(ctx, day, max(first, day), min(end, day+86400), &s); err != nil {
			return Report{}, err
		}
	}
	return s.report(plan, m.prices.Currency, first, end), nil
}

// upToDate writes down what there is to say up to now.
func (m *Meter) upToDate() error {
	m.mu.Lock()
	fresh := span(m.settled.at, m.now(), false) < settleAgain && m.settled.at.Boot != ""
	m.mu.Unlock()
	if !fresh {
		m.refresh()
	}
	return m.flush()
}

// readDay adds the records of a day from one hour until another.
func (m *Meter) readDay(ctx context.Context, day, from, to int64, s *sum) error {
	newest := map[string][]byte{} // by subject: later entries replace those before
	filter := time.Unix(day, 0).UTC().Format("20060102") + ".>"
	err := m.records.Read(ctx, store.LogQuery{Filter: filter}, func(e store.Entry) error {
		hour := len(subjectOf(0))
		if len(e.Subject) > hour && e.Subject[:hour] >= subjectOf(from) && e.Subject[:hour] <= subjectOf(to-1) {
			newest[e.Subject] = bytes.Clone(e.Data)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the usage of a day: %w", err)
	}
	for subject, data := range newest {
		var batch []record
		if err := json.Unmarshal(data, &batch); err != nil {
			m.log.Error("a batch of usage records is damaged and does not count", "entry", subject, "error", err)
			continue
		}
		for _, r := range batch {
			if err := s.add(r, day); err != nil {
				return err
			}
		}
	}
	return nil
}

// sum is a report while it is added up.
type sum struct {
	query Query
	rows  map[Group]*Usage
	names map[string]string // of machines
	total Usage
}

func (s *sum) add(r record, day int64) error {
	if s.query.Team != "" && r.Team != s.query.Team {
		return nil
	}
	if q := s.query.Machine; q != "" && r.ID != q && r.Name != q {
		return nil
	}
	var key Group
	for _, by := range s.query.By {
		switch by {
		case ByTeam:
			key.Team = r.Team
		case ByMachine:
			key.Team, key.Machine = r.Team, r.ID
			if r.Name != "" {
				s.names[r.ID] = r.Name
			}
		case ByDay:
			key.Day = time.Unix(day, 0).UTC().Format(time.DateOnly)
		}
	}
	row := s.rows[key]
	if row == nil {
		if len(s.rows) == maxRows {
			return fmt.Errorf("%w: more than %d rows: ask for a shorter span, or for one machine", ErrInvalid, maxRows)
		}
		row = &Usage{}
		s.rows[key] = row
	}
	row.Add(r.Used)
	s.total.Add(r.Used)
	return nil
}

func (s *sum) report(plan Plan, currency string, first, end int64) Report {
	out := Report{
		From: time.Unix(first, 0).UTC(), To: time.Unix(end, 0).UTC(), Currency: currency, Plan: plan,
		Total: Row{Usage: s.total, Cost: plan.Cost(s.total)},
	}
	for group, used := range s.rows {
		out.Rows = append(out.Rows, Row{Group: group, Name: s.names[group.Machine], Usage: *used, Cost: plan.Cost(*used)})
	}
	slices.SortFunc(out.Rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(b.Cost.Total, a.Cost.Total),
			cmp.Compare(a.Team, b.Team), cmp.Compare(a.Machine, b.Machine))
	})
	return out
}
