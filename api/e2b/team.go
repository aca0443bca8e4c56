package e2b

import (
	"net/http"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
)

type teamView struct {
	TeamID    string `json:"teamID"`
	Name      string `json:"name"`
	APIKey    string `json:"apiKey"`
	IsDefault bool   `json:"isDefault"`
}

// teams lists the team of an API key, or all teams for the admin. Only the key
// that the caller sent can be shown: others are not kept.
func (d *Door) teams(w http.ResponseWriter, _ *http.Request, c caller) error {
	list := []account.Team{c.team}
	if c.admin {
		list = d.accounts.Teams()
	}
	out := make([]teamView, 0, len(list))
	for _, t := range list {
		out = append(out, teamView{TeamID: t.ID, Name: t.Name, APIKey: c.raw, IsDefault: t.Default})
	}
	return door.WriteJSON(w, http.StatusOK, out)
}

type maskView struct {
	Prefix            string `json:"prefix"`
	ValueLength       int    `json:"valueLength"`
	MaskedValuePrefix string `json:"maskedValuePrefix"`
	MaskedValueSuffix string `json:"maskedValueSuffix"`
}

type keyView struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Key       string   `json:"key,omitempty"` // only in the answer to its creation
	Mask      maskView `json:"mask"`
	CreatedAt stamp    `json:"createdAt"`
	CreatedBy *string  `json:"createdBy"` // there are no users: null
	LastUsed  *stamp   `json:"lastUsed"`
}

func viewKey(k account.Key, raw string) keyView {
	return keyView{
		ID: k.ID, Name: k.Name, Key: raw,
		Mask:      maskView{Prefix: k.Mask.Prefix, ValueLength: k.Mask.Length, MaskedValuePrefix: k.Mask.First, MaskedValueSuffix: k.Mask.Last},
		CreatedAt: stamp(k.CreatedAt), LastUsed: optionalStamp(k.LastUsed),
	}
}

func (d *Door) listKeys(w http.ResponseWriter, _ *http.Request, c caller) error {
	out := []keyView{}
	for _, k := range d.accounts.Keys(c.team.ID) {
		out = append(out, viewKey(k, ""))
	}
	return door.WriteJSON(w, http.StatusOK, out)
}

type nameBody struct {
	Name string `json:"name"`
}

func (d *Door) createKey(w http.ResponseWriter, r *http.Request, c caller) error {
	return d.createKeyFor(w, r, c.team.ID)
}

func (d *Door) createKeyFor(w http.ResponseWriter, r *http.Request, team string) error {
	var body nameBody
	if err := d.decode(w, r, &body, false); err != nil {
		return err
	}
	k, raw, err := d.accounts.CreateKey(r.Context(), team, body.Name)
	if err != nil {
		return err
	}
	return door.WriteJSON(w, http.StatusCreated, viewKey(k, raw))
}

func (d *Door) renameKey(w http.ResponseWriter, r *http.Request, c caller) error {
	var body nameBody
	if err := d.decode(w, r, &body, false); err != nil {
		return err
	}
	k, err := d.accounts.RenameKey(r.Context(), c.team.ID, r.PathValue("apiKeyID"), body.Name)
	if err != nil {
		return err
	}
	return door.WriteJSON(w, http.StatusOK, viewKey(k, ""))
}

func (d *Door) deleteKey(w http.ResponseWriter, r *http.Request, c caller) error {
	if err := d.accounts.DeleteKey(r.Context(), c.team.ID, r.PathValue("apiKeyID")); err != nil {
		return err
	}
	return door.NoContent(w)
}

// createAccessToken answers what E2B answers since it gave access tokens up.
func (d *Door) createAccessToken(http.ResponseWriter, *http.Request, caller) error {
	return fail(http.StatusGone, "access tokens are no longer made; use an API key (E2B_API_KEY)")
}

func (d *Door) deleteAccessToken(http.ResponseWriter, *http.Request, caller) error {
	return fail(http.StatusNotFound, "there are no access tokens here; use an API key (E2B_API_KEY)")
}

func (d *Door) adminCreateKey(w http.ResponseWriter, r *http.Request, _ caller) error {
	return d.createKeyFor(w, r, r.PathValue("teamID"))
}

func (d *Door) adminDeleteKey(w http.ResponseWriter, r *http.Request, _ caller) error {
	if err := d.accounts.DeleteKey(r.Context(), r.PathValue("teamID"), r.PathValue("apiKeyID")); err != nil {
		return err
	}
	return door.NoContent(w)
}

// adminKill ends all sandboxes of a team, paused ones too.
func (d *Door) adminKill(w http.ResponseWriter, r *http.Request, _ caller) error {
	team, err := d.accounts.Team(r.PathValue("teamID"))
	if err != nil {
		return err
	}
	killed, failed := 0, 0
	for _, m := range d.engine.List(team.ID) {
		if m.Kind != "" {
			continue
		}
		if err := d.engine.Kill(r.Context(), m.ID, machine.ReasonKilled); err != nil {
			d.logger.Warn("admin: cannot kill sandbox", "machine", m.ID, "error", err)
			failed++
			continue
		}
		killed++
	}
	return door.WriteJSON(w, http.StatusOK, map[string]int{"killedCount": killed, "failedCount": failed})
}

// adminCounts tells how many sandboxes run, by team.
func (d *Door) adminCounts(w http.ResponseWriter, _ *http.Request, _ caller) error {
	return door.WriteJSON(w, http.StatusOK, d.running())
}
