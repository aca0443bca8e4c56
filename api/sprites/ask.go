package sprites

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/wire"
)

// ask sends a request of our own to the daemon of a sprite that is awake. It
// wakes nobody, and is no use of the sprite.
func (d *Door) ask(ctx context.Context, m machine.Machine, method, path, body string) error {
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	client := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.engine.Dial(ctx, m.ID, wire.GuestPort)
		},
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://guest:"+strconv.Itoa(wire.GuestPort)+path, strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the sprite: %w", err)
	}
	r.Header.Set(wire.ControlHeader, m.ControlToken)
	res, err := client.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("ask the sprite: %w", err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 4<<10) // the status is all that counts
	if res.StatusCode >= 300 {
		return fmt.Errorf("the sprite answers with status %d", res.StatusCode)
	}
	return nil
}

// health tells what is wrong with a sprite that should be awake.
func (d *Door) health(ctx context.Context, m machine.Machine) error {
	if err := d.ask(ctx, m, http.MethodGet, "/health", ""); err != nil {
		d.log.Debug("a sprite that was checked is not well", "machine", m.ID, "error", err)
		return errors.New("the sprite does not answer as it should")
	}
	return nil
}

// tellPolicy brings the copy of a sprite's network policy that is inside of it
// up to date. One that is stored asks for it when it wakes; one that is frozen
// is told then.
func (d *Door) tellPolicy(ctx context.Context, m machine.Machine) {
	switch m.State {
	case machine.Running:
		if err := d.ask(ctx, m, http.MethodPut, wire.SpritePolicyPath, m.Door[doorRules]); err != nil {
			d.log.Warn("a sprite could not be told its network policy, which is in force", "machine", m.ID, "error", err)
		}
	case machine.Frozen:
		d.calls.mu.Lock()
		defer d.calls.mu.Unlock()
		d.calls.untold[m.ID] = true
	}
}

// tellLate tells a sprite that runs again what it missed while it was frozen.
func (d *Door) tellLate(ctx context.Context, id string) {
	d.calls.mu.Lock()
	missed := d.calls.untold[id]
	delete(d.calls.untold, id)
	d.calls.mu.Unlock()
	if !missed {
		return
	}
	if m, err := d.engine.Get(id); err == nil {
		d.calls.wait.Go(func() { d.tellPolicy(ctx, m) })
	}
}
