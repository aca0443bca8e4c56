package e2b

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
)

// pause puts a sandbox to sleep until it is resumed. SDKs take the status 409
// for "is paused already", so nothing else may be answered with it.
func (d *Door) pause(w http.ResponseWriter, r *http.Request, c caller) error {
	m, err := d.find(r, c)
	if err != nil {
		return err
	}
	var body struct {
		Memory         *bool `json:"memory"`
		RequireHealthy bool  `json:"requireHealthyGuest"`
	}
	if err := d.decode(w, r, &body, true); err != nil {
		return err
	}
	if body.RequireHealthy {
		return later("requireHealthyGuest", "checking the guest before a pause")
	}
	if m.Paused {
		return fail(http.StatusConflict, "sandbox %q is paused already", m.ID)
	}
	if _, err := d.engine.Pause(r.Context(), m.ID, body.Memory != nil && !*body.Memory); err != nil {
		return err
	}
	return door.NoContent(w)
}

// resume is what old SDKs send to wake a sandbox.
func (d *Door) resume(w http.ResponseWriter, r *http.Request, c caller) error {
	m, err := d.find(r, c)
	if err != nil {
		return err
	}
	var body struct {
		Timeout   *int32 `json:"timeout"`
		AutoPause *bool  `json:"autoPause"`
		Memory    *bool  `json:"memory"`
	}
	if err := d.decode(w, r, &body, true); err != nil {
		return err
	}
	if body.AutoPause != nil && *body.AutoPause != m.Lifecycle.AutoPause {
		return invalid("autoPause is decided when a sandbox is created and cannot be changed; leave the field out")
	}
	timeout, err := d.extension(body.Timeout, defaultTimeoutV1)
	if err != nil {
		return err
	}
	running := fail(http.StatusConflict, "sandbox %q is running already", m.ID)
	if !m.Paused {
		return running
	}
	m, woken, err := d.wake(r, c, m.ID, timeout, body.Memory)
	if err != nil {
		return err
	}
	if !woken {
		return running
	}
	return door.WriteJSON(w, http.StatusCreated, d.sandbox(m))
}

func (d *Door) connectV1(w http.ResponseWriter, r *http.Request, c caller) error {
	return d.connect(w, r, c, true)
}

func (d *Door) connectV2(w http.ResponseWriter, r *http.Request, c caller) error {
	return d.connect(w, r, c, false)
}

// connect returns what a client needs to reach a sandbox, resumes it if it is
// paused, and prolongs its life if the time-out asks for more than is left.
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
	timeout, err := d.extension(body.Timeout, defaultTimeoutV2)
	if err != nil {
		return err
	}
	m, woken, err := d.reach(r, c, m, timeout, body.Memory)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if woken {
		status = http.StatusCreated
	}
	return door.WriteJSON(w, status, d.sandbox(m))
}

// extension checks a time-out that can only prolong a life; nil prolongs
// nothing, and 0 means no end, where the operator allows that.
func (d *Door) extension(seconds *int32, absent time.Duration) (*time.Duration, error) {
	if seconds != nil && *seconds == 0 && d.engine.MaxTimeout() > 0 {
		return nil, nil
	}
	t, err := d.timeout("timeout", seconds, absent)
	return &t, err
}

// reach wakes a sandbox if it is paused. It may be paused or resumed by others
// at the same time, so each way out is tried when the other turns out wrong.
func (d *Door) reach(r *http.Request, c caller, m machine.Machine, timeout *time.Duration, memory *bool) (machine.Machine, bool, error) {
	if !m.Paused {
		prolonged, err := d.prolong(r, m, timeout)
		if !errors.Is(err, machine.ErrPaused) {
			return prolonged, false, err
		}
	}
	m, woken, err := d.wake(r, c, m.ID, timeout, memory)
	if err == nil && !woken {
		m, err = d.prolong(r, m, timeout)
	}
	return m, woken, err
}

func (d *Door) prolong(r *http.Request, m machine.Machine, timeout *time.Duration) (machine.Machine, error) {
	if timeout == nil {
		return m, nil
	}
	return d.engine.SetDeadline(r.Context(), m.ID, d.deadline(*timeout), true)
}

// wake resumes a paused sandbox; woken is false if it was not paused any more.
func (d *Door) wake(r *http.Request, c caller, id string, timeout *time.Duration, memory *bool) (m machine.Machine, woken bool, err error) {
	if err := c.mayStart(); err != nil {
		return m, false, err
	}
	m, woken, err = d.engine.Resume(r.Context(), id, machine.ResumeSpec{
		Timeout: timeout, Reboot: memory != nil && !*memory, MaxConcurrent: c.team.MaxConcurrent,
	})
	if errors.Is(err, machine.ErrDamaged) || errors.Is(err, machine.ErrIncompatible) {
		err = fmt.Errorf(`%w. It still starts from its disk, without what was in memory: connect with onResume "reboot" `+
			`(on_resume="reboot" in Python, "memory": false over HTTP)`, err)
	}
	return m, woken, err
}
