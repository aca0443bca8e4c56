package e2b

import (
	"maps"
	"net/http"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
)

// maxForks bounds the copies that one request asks for.
const maxForks = 100

// forkResult is the outcome of one copy: exactly one of its fields is set.
type forkResult struct {
	Sandbox *sandbox   `json:"sandbox,omitempty"`
	Error   *errorBody `json:"error,omitempty"`
}

// fork makes copies of a running sandbox. Each succeeds or fails on its own;
// the request fails only if none was tried.
func (d *Door) fork(w http.ResponseWriter, r *http.Request, c caller) error {
	m, err := d.findRunning(r, c, http.StatusConflict)
	if err != nil {
		return err
	}
	var body struct {
		Timeout *int32 `json:"timeout"`
		Count   *int32 `json:"count"`
	}
	if err := d.decode(w, r, &body, true); err != nil {
		return err
	}
	spec := machine.ForkSpec{Count: 1, MaxConcurrent: c.team.MaxConcurrent, Door: maps.Clone(m.Door)}
	// No create request made the copies.
	delete(spec.Door, doorIdempotency)
	delete(spec.Door, doorBody)
	if body.Count != nil {
		spec.Count = int(*body.Count)
	}
	if spec.Count < 1 || spec.Count > maxForks {
		return invalid("count is %d: give 1 to %d", spec.Count, maxForks)
	}
	if spec.Timeout, err = d.timeout("timeout", body.Timeout, defaultTimeoutV1); err != nil {
		return err
	}
	if err := c.mayStart(); err != nil {
		return err
	}
	copies, err := d.engine.Fork(r.Context(), m.ID, spec)
	if err != nil {
		return err
	}
	out := make([]forkResult, 0, len(copies))
	for _, one := range copies {
		if one.Err != nil {
			failure := d.explain(r, one.Err).body()
			out = append(out, forkResult{Error: &failure})
			continue
		}
		s := d.sandbox(one.Machine)
		out = append(out, forkResult{Sandbox: &s})
	}
	return door.WriteJSON(w, http.StatusCreated, out)
}
