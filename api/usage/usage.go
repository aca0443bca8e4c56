// Package usage is the door to the meter: what machines used and what that
// costs, for teams with their API keys and for the operator.
package usage

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/meter"
	"github.com/atoll-cloud/atoll/observe"
)

// Config is what New needs.
type Config struct {
	Meter    *meter.Meter
	Accounts *account.Accounts
	Logger   *slog.Logger
	Now      func() time.Time // nil is time.Now
}

// New returns the handler of the paths below /usage, which docs/usage.openapi.yaml
// describes:
//
//	GET /usage        what was used in a span of time
//	GET /usage/plans  the table of prices
//
// A team's API key comes as "X-API-Key: …" or "Authorization: Bearer …" and
// shows that team's usage. The admin token, as "X-Admin-Token: …" or "Authorization:
// Bearer …", shows everybody's, or that of the team which "X-Team-ID: …" or
// the parameter team names.
func New(c Config) http.Handler {
	if c.Now == nil {
		c.Now = time.Now
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /usage", c.handle("usage", c.usage))
	mux.HandleFunc("GET /usage/plans", c.handle("plans", c.plans))
	mux.HandleFunc("/usage/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "there are GET /usage and GET /usage/plans")
	})
	return mux
}

func refuse(w http.ResponseWriter, status int, message string) {
	door.WriteJSON(w, status, map[string]any{"code": status, "message": message})
}

// handle answers with what f returns for a caller that may ask.
func (c Config) handle(class string, f func(r *http.Request, who caller) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		observe.SetRoute(r.Context(), "usage", class)
		who, err := c.authorise(r)
		var out any
		if err == nil {
			out, err = f(r, who)
		}
		if refused, ok := errors.AsType[*door.Refusal](err); ok {
			refuse(w, refused.Status, refused.Message)
			return
		}
		if errors.Is(err, meter.ErrInvalid) {
			refuse(w, http.StatusBadRequest, door.Sentence(err, meter.ErrInvalid))
			return
		}
		if err == nil {
			err = door.WriteJSON(w, http.StatusOK, out)
		}
		if err != nil {
			c.Logger.Error("report usage", "error", err, "request", observe.RequestID(r.Context()))
			refuse(w, http.StatusInternalServerError, "the server failed to do this; its log tells why")
		}
	}
}

// caller is who asks: a team, or the operator, who may ask about one.
type caller struct {
	team  string // id; empty: all
	admin bool
}

func (c Config) authorise(r *http.Request) (caller, error) {
	bearer := door.Bearer(r)
	team := r.URL.Query().Get("team")
	if team == "" {
		team = r.Header.Get("X-Team-ID")
	}
	if c.Accounts.IsAdmin(r.Header.Get("X-Admin-Token")) || c.Accounts.IsAdmin(bearer) {
		return caller{team: team, admin: true}, nil
	}
	key := r.Header.Get("X-API-Key")
	if key == "" {
		key = bearer
	}
	id, ok := c.Accounts.Authenticate(key)
	switch {
	case !ok:
		return caller{}, door.Refuse(http.StatusUnauthorized,
			"send an API key in the header X-API-Key, or the operator's admin token in X-Admin-Token")
	case team != "" && team != id.Team.ID:
		return caller{}, door.Refuse(http.StatusForbidden, "this API key belongs to another team than the one asked about")
	}
	return caller{team: id.Team.ID}, nil
}

// row is one line of the answer.
type row struct {
	Day      string      `json:"day,omitempty"`
	Team     string      `json:"team,omitempty"`
	TeamName string      `json:"teamName,omitempty"`
	Machine  string      `json:"machine,omitempty"`
	Name     string      `json:"name,omitempty"`
	Usage    meter.Usage `json:"usage"`
	Cost     meter.Cost  `json:"cost"`
}

// answer is what GET /usage says.
type answer struct {
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	By       []string  `json:"by"`
	Plan     string    `json:"plan"`
	Basis    string    `json:"basis"`
	Currency string    `json:"currency"`
	Rows     []row     `json:"rows"`
	Total    row       `json:"total"`
}

func (c Config) usage(r *http.Request, who caller) (any, error) {
	q, err := c.query(r)
	if err != nil {
		return nil, err
	}
	q.Team = who.team
	report, err := c.Meter.Report(r.Context(), q)
	if err != nil {
		return nil, err
	}
	out := answer{
		From: report.From, To: report.To, By: q.By, Plan: report.Plan.Name, Basis: report.Plan.Basis,
		Currency: report.Currency, Rows: make([]row, 0, len(report.Rows)), Total: c.view(report.Total),
	}
	for _, r := range report.Rows {
		out.Rows = append(out.Rows, c.view(r))
	}
	return out, nil
}

func (c Config) view(r meter.Row) row {
	out := row{Day: r.Day, Team: r.Team, Machine: r.Machine, Name: r.Name, Usage: r.Usage, Cost: r.Cost}
	if team, err := c.Accounts.Team(r.Team); err == nil { // else it is gone
		out.TeamName = team.Name
	}
	return out
}

// query reads the parameters. Without any it is this month until now.
func (c Config) query(r *http.Request) (meter.Query, error) {
	in := r.URL.Query()
	now := c.Now().UTC()
	q := meter.Query{
		From: time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC), To: now,
		Machine: in.Get("machine"), Plan: in.Get("plan"), By: []string{},
	}
	for name, to := range map[string]*time.Time{"from": &q.From, "to": &q.To} {
		text := in.Get(name)
		if text == "" {
			continue
		}
		t, err := moment(text)
		if err != nil {
			return q, door.Refuse(http.StatusBadRequest, "%s: %v", name, err)
		}
		*to = t
	}
	for _, list := range in["by"] {
		for by := range strings.SplitSeq(list, ",") {
			if by != "" {
				q.By = append(q.By, by)
			}
		}
	}
	return q, nil
}

// moment reads a time, or a day of UTC, which stands for its beginning.
func moment(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%.40q is neither a day such as 2026-01-31 nor a time such as 2026-01-31T15:00:00Z", text)
}

func (c Config) plans(*http.Request, caller) (any, error) { return c.Meter.Prices(), nil }
