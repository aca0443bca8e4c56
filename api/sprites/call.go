package sprites

import (
	"context"
	"net/http"
	"time"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/wire"
)

// callHandler answers the calls of one sprite: they are about itself alone,
// whatever they say.
func (d *Door) callHandler(id string) http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, h func(w http.ResponseWriter, r *http.Request, m machine.Machine) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if r.PathValue("org") == "" { // what is passed on has the bounds of the API
				r.Body = http.MaxBytesReader(w, r.Body, door.MaxBody)
			}
			m, err := d.engine.Get(id)
			if err == nil {
				err = byName(h(w, r, m), m)
			}
			if err != nil {
				d.writeError(w, r, err)
			}
		})
	}
	asSelf := func(h spriteHandler) func(http.ResponseWriter, *http.Request, machine.Machine) error {
		return func(w http.ResponseWriter, r *http.Request, m machine.Machine) error {
			team, err := d.accounts.Team(m.Team)
			if err != nil {
				return err
			}
			return h(w, r, caller{team: team}, m)
		}
	}
	route("GET "+wire.CallInfo, d.callInfo)
	route("PUT "+wire.CallActivity, d.callActivity)
	route(wire.CallOrgs+"/{org}/{rest...}", d.callOrg)
	route("GET "+wire.CallOrgs, d.callOrgs)
	route("GET "+wire.CallPolicy, asSelf(d.networkPolicy))
	route("POST "+wire.CallCheckpoint, asSelf(d.createCheckpoint))
	route("GET "+wire.CallCheckpoints, asSelf(d.listCheckpoints))
	route("GET "+wire.CallCheckpoints+"/{id}", asSelf(d.checkpointInfo))
	route("DELETE "+wire.CallCheckpoints+"/{id}", asSelf(d.deleteCheckpoint))
	route("POST "+wire.CallCheckpoints+"/{id}/restore", d.callRestore)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		d.writeError(w, r, fail(http.StatusNotFound, "not_found", "a sprite cannot ask its host for %s %s", r.Method, door.Clip(r.URL.Path)))
	})
	return mux
}

func (d *Door) callInfo(w http.ResponseWriter, _ *http.Request, m machine.Machine) error {
	team, err := d.accounts.Team(m.Team)
	if err != nil {
		return err
	}
	return door.WriteJSON(w, http.StatusOK, wire.SpriteInfo{
		Version: Version, Name: m.Name, URL: d.config.URL(m.Host), ID: spriteID(m), Org: slug(team),
	})
}

func (d *Door) callOrgs(w http.ResponseWriter, _ *http.Request, m machine.Machine) error {
	team, err := d.accounts.Team(m.Team)
	if err != nil {
		return err
	}
	return door.WriteJSON(w, http.StatusOK, map[string]any{"organizations": []organizationView{viewOrganization(team)}})
}

// callActivity keeps a sprite awake for as long as it says that it is busy;
// the engine bounds that.
func (d *Door) callActivity(w http.ResponseWriter, r *http.Request, m machine.Machine) error {
	var body wire.Activity
	if err := decode(w, r, &body); err != nil {
		return err
	}
	until, err := time.Parse(time.RFC3339Nano, body.Until)
	if err != nil {
		return invalid("until is %q: give a time such as 2026-01-31T12:00:00Z", door.Clip(body.Until))
	}
	if err := d.engine.Hold(m.ID, until); err != nil {
		return err
	}
	return door.NoContent(w)
}

// callRestore begins a restore and answers at once: the caller is in what is
// replaced.
func (d *Door) callRestore(w http.ResponseWriter, r *http.Request, m machine.Machine) error {
	c, err := d.checkpoint(r.Context(), m, r.PathValue("id"))
	if err != nil {
		return asText(err)
	}
	d.later(r, m, "restore of "+c.ID, func(ctx context.Context) error {
		_, err := d.engine.RestoreCheckpoint(ctx, m.ID, c.ID)
		return err
	})
	beginLines(w, http.StatusAccepted).write(d.say("info", "Restoring from checkpoint %s...", c.ID))
	return nil
}
