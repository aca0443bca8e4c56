package edge

import (
	"net/http"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/wire"
)

// Daemon carries a request of a door, whose URL the door has written, to the
// guest daemon of a machine as one of the host's: it wakes the machine, keeps
// it awake until the answer or the tunnel is over, and lets WebSockets
// through. What the client authorised itself with does not go along. Where the
// daemon does not answer, refuse does, with the status and a sentence.
func (e *Edge) Daemon(w http.ResponseWriter, r *http.Request, m machine.Machine, refuse func(status int, message string)) {
	t := target{id: m.ID, port: wire.GuestPort}
	answer := func(_ http.ResponseWriter, _ *http.Request, p *problem) { refuse(p.Code, spriteWords(p.Message)) }
	if p := refuseState(t, m.State); p != nil {
		answer(w, r, p)
		return
	}
	e.forward(w, r, &route{target: t, token: m.ControlToken, answer: answer}, m.State.Asleep())
}
