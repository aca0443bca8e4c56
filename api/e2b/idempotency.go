package e2b

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"regexp"
	"sync"

	"github.com/atoll-cloud/atoll/machine"
)

// idempotencyRule is what the SDKs let through.
var idempotencyRule = regexp.MustCompile(`^[a-z0-9-]{1,255}$`)

// pending holds the creates with an idempotency key that are under way, by
// team and key.
type pending struct {
	mu sync.Mutex
	by map[string]chan struct{} // closed when the create is done
}

// createOnce makes a machine; two requests with the same Idempotency-Key make
// one. The key is kept with the machine's record, so that it holds across
// restarts and ends with the machine.
func (d *Door) createOnce(r *http.Request, c caller, body []byte, spec machine.CreateSpec) (machine.Machine, error) {
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		return d.engine.Create(r.Context(), spec)
	}
	if !idempotencyRule.MatchString(key) {
		return machine.Machine{}, invalid("Idempotency-Key must be 1 to 255 lowercase letters, digits or hyphens")
	}
	release, err := d.pending.take(r, c.team.ID+" "+key)
	if err != nil {
		return machine.Machine{}, err
	}
	defer release()
	hash := sha256.Sum256(body)
	spec.Door[doorIdempotency], spec.Door[doorBody] = key, hex.EncodeToString(hash[:])
	for _, m := range d.engine.List(c.team.ID) {
		if m.Door[doorIdempotency] != key {
			continue
		}
		if m.Door[doorBody] != spec.Door[doorBody] {
			return machine.Machine{}, fail(http.StatusConflict, "this Idempotency-Key was used for another create request; use a new one")
		}
		if alive(&m) {
			return m, nil
		}
	}
	return d.engine.Create(r.Context(), spec)
}

// take waits until no other create with the same key is under way and marks
// this one as the one that is.
func (p *pending) take(r *http.Request, key string) (release func(), err error) {
	for {
		p.mu.Lock()
		other, busy := p.by[key]
		if !busy {
			mine := make(chan struct{})
			if p.by == nil {
				p.by = map[string]chan struct{}{}
			}
			p.by[key] = mine
			p.mu.Unlock()
			return func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				delete(p.by, key)
				close(mine)
			}, nil
		}
		p.mu.Unlock()
		select {
		case <-other:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}
