package e2b

import (
	"net/http"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
)

const (
	defaultRefresh = 15 * time.Second
	maxRefresh     = time.Hour
)

// sandboxID is the id in the path, without the client id that old SDKs append.
func sandboxID(r *http.Request) string {
	return strings.TrimSuffix(r.PathValue("sandboxID"), "-"+clientID)
}

func (d *Door) info(w http.ResponseWriter, r *http.Request, c caller) error {
	m, err := d.find(r, c)
	if err != nil {
		return err
	}
	detail := d.detail(m)
	if !m.State.Asleep() {
		detail.DiskUsedBytes = d.diskUsed(m)
	}
	return door.WriteJSON(w, http.StatusOK, detail)
}

func (d *Door) kill(w http.ResponseWriter, r *http.Request, c caller) error {
	m, err := d.find(r, c)
	if err != nil {
		return err
	}
	if err := d.engine.Kill(r.Context(), m.ID, machine.ReasonKilled); err != nil {
		return err
	}
	return door.NoContent(w)
}

// setTimeout makes a sandbox end so many seconds from now, be it sooner or
// later than before. 0 ends it now, unless the operator lets sandboxes live
// without an end: then 0 asks for that.
func (d *Door) setTimeout(w http.ResponseWriter, r *http.Request, c caller) error {
	m, err := d.findRunning(r, c, http.StatusNotFound)
	if err != nil {
		return err
	}
	var body struct {
		Timeout *int32 `json:"timeout"`
	}
	if err := d.decode(w, r, &body, false); err != nil {
		return err
	}
	if body.Timeout == nil {
		return invalid("timeout is missing: give a number of seconds")
	}
	deadline := d.now()
	if *body.Timeout != 0 || d.engine.MaxTimeout() == 0 {
		t, err := d.timeout("timeout", body.Timeout, 0)
		if err != nil {
			return err
		}
		deadline = d.deadline(t)
	}
	if _, err := d.engine.SetDeadline(r.Context(), m.ID, deadline, false); err != nil {
		return err
	}
	return door.NoContent(w)
}

// refresh prolongs a sandbox's life; it never shortens it.
func (d *Door) refresh(w http.ResponseWriter, r *http.Request, c caller) error {
	m, err := d.findRunning(r, c, http.StatusNotFound)
	if err != nil {
		return err
	}
	var body struct {
		Duration *int32 `json:"duration"`
	}
	if err := d.decode(w, r, &body, true); err != nil {
		return err
	}
	t := defaultRefresh
	if body.Duration != nil {
		t = time.Duration(*body.Duration) * time.Second
	}
	if t < 0 || t > maxRefresh {
		return invalid("duration is %d: give 0 to %d seconds", *body.Duration, int(maxRefresh.Seconds()))
	}
	if _, err := d.engine.SetDeadline(r.Context(), m.ID, d.now().Add(t), true); err != nil {
		return err
	}
	return door.NoContent(w)
}

// deadline is when a time to live ends; 0 is never.
func (d *Door) deadline(t time.Duration) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return d.now().Add(t)
}
