package e2b

import (
	"net/http"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/observe"
)

// lifecycle checks what a create request says of its sandbox's end and
// translates it for the engine.
func (b *newSandbox) lifecycle() (machine.Lifecycle, error) {
	l := machine.Lifecycle{
		AutoPause: b.AutoPause,
		DiskOnly:  b.AutoPause && b.AutoPauseMemory != nil && !*b.AutoPauseMemory,
	}
	if b.AutoResume != nil {
		if b.AutoResume.Enabled == nil {
			return l, invalid("autoResume.enabled is missing: give true or false")
		}
		l.AutoResume = *b.AutoResume.Enabled
	}
	switch {
	case l.AutoResume && !l.AutoPause:
		return l, invalid("autoResume: only a sandbox that pauses at its time-out can resume by itself; set autoPause too")
	case l.AutoResume && l.DiskOnly:
		return l, invalid("autoResume cannot be combined with autoPauseMemory false: a sandbox without memory starts anew, which only a resume or connect may do")
	}
	return l, nil
}

// alive reports whether a machine is a sandbox that exists for clients, asleep
// or not. Those of other kinds have doors of their own.
func alive(m *machine.Machine) bool {
	return m.Kind == "" && (m.State == machine.Running || m.State.Asleep())
}

// runs reports whether clients see a sandbox as running. That includes those
// that the engine put to sleep: any use wakes them.
func runs(m *machine.Machine) bool { return alive(m) && !m.Paused }

// find returns the sandbox that a path names, paused or not. One of another
// team does not exist for the caller.
func (d *Door) find(r *http.Request, c caller) (machine.Machine, error) {
	id := sandboxID(r)
	m, err := d.engine.Get(id)
	if err != nil || m.Team != c.team.ID || !alive(&m) {
		return machine.Machine{}, fail(http.StatusNotFound, "sandbox %q was not found: it has ended, or never was", door.Clip(id))
	}
	observe.SetMachine(r.Context(), m.ID)
	return m, nil
}

// findRunning is find for what cannot be done to a paused sandbox, which is
// answered with a status of its own: E2B says 404 where it looks among running
// sandboxes alone, and programs look for that.
func (d *Door) findRunning(r *http.Request, c caller, paused int) (machine.Machine, error) {
	m, err := d.find(r, c)
	if err == nil && m.Paused {
		err = fail(paused, "sandbox %q is paused: resume it first, by connecting to it", m.ID)
	}
	return m, err
}

// mayStart refuses teams that may have no sandbox at all. The engine knows
// only limits above zero.
func (c caller) mayStart() error {
	if c.team.MaxConcurrent > 0 {
		return nil
	}
	return fail(http.StatusTooManyRequests, "the limit of this team is 0 sandboxes at once; the operator can raise it")
}
