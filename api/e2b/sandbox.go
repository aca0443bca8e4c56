package e2b

import (
	"net/http"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/observe"
)

const (
	defaultRefresh = 15 * time.Second
	maxRefresh     = time.Hour
)

// sandboxID is the id in the path, without the client id that old SDKs append.
func sandboxID(r *http.Request) string {
	return strings.TrimSuffix(r.PathValue("sandboxID"), "-"+clientID)
}

// find returns the sandbox that a path names. One of another team does not
// exist for the caller.
func (d *Door) find(r *http.Request, c caller) (machine.Machine, error) {
	id := sandboxID(r)
	m, err := d.engine.Get(id)
	if err != nil || m.Team != c.team.ID || m.State != machine.Running {
		return machine.Machine{}, fail(http.StatusNotFound, "sandbox %q was not found: it has ended, or never was", clip(id))
	}
	observe.SetMachine(r.Context(), m.ID)
	return m, nil
}

func (d *Door) info(w http.ResponseWriter, r *http.Request, c caller) error {
	m, err := d.find(r, c)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, d.detail(m))
}

func (d *Door) kill(w http.ResponseWriter, r *http.Request, c caller) error {
	m, err := d.find(r, c)
	if err != nil {
		return err
	}
	if err := d.engine.Kill(r.Context(), m.ID, machine.ReasonKilled); err != nil {
		return err
	}
	return noContent(w)
}

// setTimeout makes a sandbox end so many seconds from now, be it sooner or
// later than before. 0 ends it now, unless the operator lets sandboxes live
// without an end: then 0 asks for that.
func (d *Door) setTimeout(w http.ResponseWriter, r *http.Request, c caller) error {
	m, err := d.find(r, c)
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
	return noContent(w)
}

// refresh prolongs a sandbox's life; it never shortens it.
func (d *Door) refresh(w http.ResponseWriter, r *http.Request, c caller) error {
	m, err := d.find(r, c)
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
	return noContent(w)
}

func (d *Door) connectV1(w http.ResponseWriter, r *http.Request, c caller) error {
	return d.connect(w, r, c, true)
}

func (d *Door) connectV2(w http.ResponseWriter, r *http.Request, c caller) error {
	return d.connect(w, r, c, false)
}

// connect returns what a client needs to reach a sandbox and prolongs its life
// if the time-out asks for more than is left.
func (d *Door) connect(w http.ResponseWriter, r *http.Request, c caller, needTimeout bool) error {
	m, err := d.find(r, c)
	if err != nil {
		return err
	}
	var body struct {
		Timeout *int32 `json:"timeout"`
		Memory  *bool  `json:"memory"` // of no effect on a running sandbox
	}
	if err := d.decode(w, r, &body, !needTimeout); err != nil {
		return err
	}
	if body.Timeout == nil && needTimeout {
		return invalid("timeout is missing: give a number of seconds")
	}
	if body.Timeout == nil || *body.Timeout != 0 || d.engine.MaxTimeout() == 0 {
		t, err := d.timeout("timeout", body.Timeout, defaultTimeoutV2)
		if err != nil {
			return err
		}
		if m, err = d.engine.SetDeadline(r.Context(), m.ID, d.deadline(t), true); err != nil {
			return err
		}
	}
	return writeJSON(w, http.StatusOK, d.sandbox(m))
}

// deadline is when a time to live ends; 0 is never.
func (d *Door) deadline(t time.Duration) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return d.now().Add(t)
}
