package sprites

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
)

const (
	// maxHost leaves room in a label of 63 characters for what host adds.
	maxHost = 58
	// The lines of a log: as many as are asked for, within bounds.
	defaultLogLines = 100
	maxLogLines     = 1000
)

// named returns a sprite of the caller's.
func (d *Door) named(c caller, name string) (machine.Machine, error) {
	m, err := d.engine.Named(c.team.ID, name)
	if errors.Is(err, machine.ErrNotFound) || err == nil && !exists(m) {
		return m, fail(http.StatusNotFound, "not_found", "there is no sprite with the name %q", door.Clip(name))
	}
	return m, err
}

func (d *Door) info(w http.ResponseWriter, _ *http.Request, c caller, m machine.Machine) error {
	return door.WriteJSON(w, http.StatusOK, d.view(m, c.team))
}

// update changes what the request names and leaves the rest.
func (d *Door) update(w http.ResponseWriter, r *http.Request, c caller, m machine.Machine) error {
	var body struct {
		URLSettings *urlSettings `json:"url_settings"`
		Labels      *[]string    `json:"labels"`
		ClearLabels bool         `json:"clear_labels"`
		OrgAccess   *bool        `json:"org_access"`
	}
	if err := decode(w, r, &body); err != nil {
		return err
	}
	edit := func(notes map[string]string) error {
		if err := body.URLSettings.apply(notes); err != nil {
			return err
		}
		if err := setOrgAccess(notes, body.OrgAccess, c); err != nil {
			return err
		}
		switch {
		case body.Labels != nil:
			return setLabels(notes, *body.Labels)
		case body.ClearLabels:
			delete(notes, doorLabels)
		}
		return nil
	}
	if err := edit(map[string]string{}); err != nil { // checked before anything is changed
		return err
	}
	m, err := d.engine.EditDoor(r.Context(), m.ID, func(notes map[string]string) {
		_ = edit(notes) // it has just worked
		notes[doorUpdated] = d.now().UTC().Format(time.RFC3339Nano)
	})
	if err != nil {
		return err
	}
	return door.WriteJSON(w, http.StatusOK, d.view(m, c.team))
}

// destroy ends a sprite with its disk and its checkpoints.
func (d *Door) destroy(w http.ResponseWriter, r *http.Request, c caller, m machine.Machine) error {
	if c.isSelf(m) {
		d.later(r, m, "destroy", func(ctx context.Context) error { return d.engine.Kill(ctx, m.ID, machine.ReasonKilled) })
		return door.NoContent(w)
	}
	if err := d.engine.Kill(r.Context(), m.ID, machine.ReasonKilled); err != nil {
		return err
	}
	return door.NoContent(w)
}

// upgrade brings a sprite's runtime to the server's version, which takes a
// restart; one that has it stays as it is.
func (d *Door) upgrade(w http.ResponseWriter, r *http.Request, c caller, m machine.Machine) error {
	switch {
	case m.Bundle == d.config.Bundle:
	case c.isSelf(m):
		d.restartLater(r, m)
	default:
		if _, err := d.engine.Restart(r.Context(), m.ID); err != nil {
			return err
		}
	}
	return door.NoContent(w)
}

func (d *Door) restart(w http.ResponseWriter, r *http.Request, c caller, m machine.Machine) error {
	status, message := http.StatusOK, "sprite restarted"
	if c.isSelf(m) {
		d.restartLater(r, m)
		status, message = http.StatusAccepted, "sprite restarts"
	} else if _, err := d.engine.Restart(r.Context(), m.ID); err != nil {
		return err
	}
	return door.WriteJSON(w, status, map[string]string{
		"sprite_name": m.Name, "machine_id": m.ID, "message": message,
	})
}

func (d *Door) restartLater(r *http.Request, m machine.Machine) {
	d.later(r, m, "restart", func(ctx context.Context) error {
		_, err := d.engine.Restart(ctx, m.ID)
		return err
	})
}

// check tells whether a sprite is well. It wakes nobody: who sleeps is well.
func (d *Door) check(w http.ResponseWriter, r *http.Request, _ caller, m machine.Machine) error {
	var answer struct {
		Name      string    `json:"sprite_name"`
		ID        string    `json:"sprite_id"`
		Status    string    `json:"status"`
		Reason    *string   `json:"reason"`
		CheckedAt time.Time `json:"checked_at"`
		Elapsed   *float64  `json:"elapsed"` // seconds that the sprite took to answer
	}
	answer.Name, answer.ID, answer.Status, answer.CheckedAt = m.Name, spriteID(m), "healthy", d.now().UTC()
	if m.State == machine.Running {
		start := time.Now()
		if err := d.health(r.Context(), m); err != nil {
			reason := err.Error()
			answer.Status, answer.Reason = "unhealthy", &reason
		}
		took := time.Since(start).Seconds()
		answer.Elapsed = &took
	}
	return door.WriteJSON(w, http.StatusOK, answer)
}

// logs answers the last lines of what the platform says of a sprite.
func (d *Door) logs(w http.ResponseWriter, r *http.Request, c caller, m machine.Machine) error {
	limit := defaultLogLines
	if s := r.URL.Query().Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return invalid("limit is %q: give a number from 1 to %d", door.Clip(s), maxLogLines)
		}
		limit = min(n, maxLogLines)
	}
	entries, err := d.engine.Logs(r.Context(), c.team.ID, m.ID, machine.LogQuery{Backward: true, Limit: limit})
	if err != nil {
		return err
	}
	type line struct {
		Time  time.Time         `json:"time"`
		Level string            `json:"level"`
		Text  string            `json:"msg"`
		Attrs map[string]string `json:"attrs"`
	}
	out := make([]line, 0, len(entries))
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		attrs := e.Fields
		if attrs == nil {
			attrs = map[string]string{}
		}
		out = append(out, line{Time: e.Time.UTC(), Level: e.Level, Text: e.Message, Attrs: attrs})
	}
	return door.WriteJSON(w, http.StatusOK, out)
}

// randomWord returns four characters for the end of a host name.
func randomWord() string {
	const letters = "abcdefghjkmnpqrstuvwxyz23456789" // none that is taken for another
	var b [4]byte
	rand.Read(b[:]) // ends the program rather than fail
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return string(b[:])
}
