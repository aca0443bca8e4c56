package sprites

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/observe"
	"github.com/atoll-cloud/atoll/wire"
)

// orgAccess reports whether the programs in a sprite may use this API as its
// team. They are not trusted, so it is off until someone with a token of the
// team switches it on; no sprite can, for itself or for another.
func orgAccess(m machine.Machine) bool { return m.Door[doorAccess] == accessOn }

// setOrgAccess notes what a request says of it, if anything.
func setOrgAccess(notes map[string]string, on *bool, c caller) error {
	switch {
	case on == nil:
	case c.inside != "":
		return fail(http.StatusForbidden, "org_access_reserved",
			"org_access cannot be changed from inside a sprite: someone with a token of the team must do it")
	case *on:
		notes[doorAccess] = accessOn
	default:
		delete(notes, doorAccess)
	}
	return nil
}

// insideKey is the key of the caller in the context of a request that a sprite
// sends from its inside.
type insideKey struct{}

// callOrg answers what a sprite asks of this API as its own team: what is
// below /v1/sprites, and nothing else. The routes are those of every client, and
// so are their checks; only how the caller is known differs.
func (d *Door) callOrg(w http.ResponseWriter, r *http.Request, m machine.Machine) error {
	if !orgAccess(m) {
		return fail(http.StatusForbidden, "org_access_off",
			`this sprite may not use the API of its organization: someone with a token of the team can allow it with "atoll sprite config update -s %s --org-access on", or PUT /v1/sprites/%s {"org_access": true}`, m.Name, m.Name)
	}
	team, err := d.accounts.Team(m.Team)
	if err != nil {
		return err
	}
	if org := r.PathValue("org"); !isOrganization(team, org) {
		return fail(http.StatusNotFound, "not_found", "this sprite has no organization %q: GET /v1/orgs tells its own", door.Clip(org))
	}
	to, err := orgPath(r.URL)
	if err != nil {
		return err
	}
	if r.Header.Get(wire.CallUpgradeHeader) != "" {
		return fail(http.StatusNotImplemented, "not_implemented", "WebSockets do not pass from inside a sprite: POST …/exec runs commands")
	}
	level := slog.LevelInfo
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		level = slog.LevelDebug
	}
	d.log.Log(r.Context(), level, "a sprite uses the API as its team", "machine", m.ID, "method", r.Method, "path", door.Clip(to.Path))
	out := r.WithContext(context.WithValue(r.Context(), insideKey{}, caller{team: team, inside: m.ID}))
	out.URL = to
	d.ServeHTTP(w, out)
	return nil
}

// orgPath is where in this API a path below /orgs/{org}/ leads. "v1/" at its
// beginning makes no difference.
func orgPath(from *url.URL) (*url.URL, error) {
	escaped := strings.TrimPrefix(from.EscapedPath(), wire.CallOrgs+"/")
	_, escaped, _ = strings.Cut(escaped, "/")
	escaped = strings.TrimPrefix(escaped, "v1/")
	if escaped != "sprites" && !strings.HasPrefix(escaped, "sprites/") {
		return nil, fail(http.StatusNotFound, "not_found", "a sprite reaches /sprites of its organization, and not %q", door.Clip("/"+escaped))
	}
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, invalid("the path is not one: %v", err)
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." {
			return nil, invalid("the path has a part that is empty or made of dots")
		}
	}
	return &url.URL{Path: "/v1/" + path, RawPath: "/v1/" + escaped, RawQuery: from.RawQuery}, nil
}

// isOrganization reports whether a word in a path names a team.
func isOrganization(t account.Team, org string) bool {
	return org == slug(t) || org == t.ID || org == t.Name
}

// isSelf reports whether a request is about the sprite that it comes from: what
// ends the guest is then answered before it is done, while the caller can hear it.
func (c caller) isSelf(m machine.Machine) bool { return c.inside == m.ID }

// heardWithin is what an answer is given to reach a sprite before that is
// stopped, as it asked.
const heardWithin = 100 * time.Millisecond

// later does for a sprite what it asked of its host for itself and does not
// live to see. The engine brings it to an end, whatever becomes of ctx.
func (d *Door) later(r *http.Request, m machine.Machine, what string, do func(ctx context.Context) error) {
	request := observe.RequestID(r.Context())
	ctx := context.WithoutCancel(r.Context())
	go func() {
		time.Sleep(heardWithin)
		if err := do(ctx); err != nil {
			d.log.Error("what a sprite asked for itself failed", "machine", m.ID, "what", what, "request", request, "error", err)
		}
	}()
}
