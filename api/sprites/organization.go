package sprites

import (
	"net/http"
	"strings"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/observe"
)

// organizationView is a team.
type organizationView struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Slug string `json:"slug"`
}

func viewOrganization(t account.Team) organizationView {
	return organizationView{ID: t.ID, Name: t.Name, Slug: slug(t)}
}

// organizations lists the team of the caller.
func (d *Door) organizations(w http.ResponseWriter, _ *http.Request, c caller) error {
	return door.WriteJSON(w, http.StatusOK, map[string]any{"organizations": []organizationView{viewOrganization(c.team)}})
}

// createToken makes an API key for the team that the path names. Clients show
// what they have in a scheme of its own: here that is an API key of the team.
func (d *Door) createToken(w http.ResponseWriter, r *http.Request) {
	observe.SetRoute(r.Context(), "sprites", "tokens")
	if err := d.answerToken(w, r); err != nil {
		d.writeError(w, r, err)
	}
}

func (d *Door) answerToken(w http.ResponseWriter, r *http.Request) error {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "FlyV1") && !strings.EqualFold(scheme, "Bearer") {
		return fail(http.StatusUnauthorized, "unauthorized", "no token in the request: send an API key of the team")
	}
	c, err := d.callerOf(strings.TrimSpace(token))
	if err != nil {
		return err
	}
	if org := r.PathValue("org"); !isOrganization(c.team, org) {
		return fail(http.StatusNotFound, "not_found", "there is no organization %q for this token", door.Clip(org))
	}
	var body struct {
		Description string `json:"description"`
	}
	if err := decode(w, r, &body); err != nil {
		return err
	}
	if body.Description == "" {
		body.Description = "Sprites token"
	}
	_, raw, err := d.accounts.CreateKey(r.Context(), c.team.ID, body.Description)
	if err != nil {
		return err
	}
	return door.WriteJSON(w, http.StatusCreated, map[string]string{"token": raw})
}
