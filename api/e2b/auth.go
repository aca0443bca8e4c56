package e2b

import (
	"net/http"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/api/door"
)

// access says who may use a route.
type access int

const (
	anyone access = iota
	aTeam         // an API key, or the admin token with the team's id
	admin         // the admin token
	teamOrAdmin
)

// caller is who sent a request. For the admin without a team, Team is zero.
type caller struct {
	team  account.Team
	admin bool
	raw   string // the API key as it came
}

// authorise finds out who sends a request. An API key comes in X-API-Key or as
// a bearer token; the admin token in X-Admin-Token, with X-Team-ID to act for
// a team.
func (d *Door) authorise(r *http.Request, who access) (caller, error) {
	if who == anyone {
		return caller{}, nil
	}
	teamID := r.Header.Get("X-Team-ID")
	if token := r.Header.Get("X-Admin-Token"); token != "" {
		return d.authoriseAdmin(token, teamID, who)
	}
	if who == admin {
		return caller{}, fail(http.StatusUnauthorized,
			"this needs the operator's admin token in the header X-Admin-Token; the server wrote it to its data directory")
	}
	raw := r.Header.Get("X-API-Key")
	if raw == "" {
		raw = door.Bearer(r)
	}
	if raw == "" {
		return caller{}, fail(http.StatusUnauthorized,
			`no API key in the request: set E2B_API_KEY (run "atoll env" to see it), or send the key in the header X-API-Key`)
	}
	id, ok := d.accounts.Authenticate(raw)
	if !ok {
		return caller{}, fail(http.StatusUnauthorized,
			`this API key is not known here: check E2B_API_KEY and that E2B_API_URL names the server that made the key ("atoll env" prints both)`)
	}
	if teamID != "" && teamID != id.Team.ID {
		return caller{}, fail(http.StatusForbidden, "this API key belongs to another team than X-Team-ID names")
	}
	return caller{team: id.Team, raw: raw}, nil
}

func (d *Door) authoriseAdmin(token, teamID string, who access) (caller, error) {
	if !d.accounts.IsAdmin(token) {
		return caller{}, fail(http.StatusUnauthorized,
			"the admin token is not the one of this server, which wrote its own to its data directory")
	}
	c := caller{admin: true}
	if teamID == "" {
		if who == aTeam {
			return c, fail(http.StatusBadRequest, "the admin token acts for a team: name it by its id in the header X-Team-ID")
		}
		return c, nil
	}
	team, err := d.accounts.Team(teamID)
	c.team = team
	return c, err
}
