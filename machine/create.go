package machine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atoll-cloud/atoll/observe"
	"github.com/atoll-cloud/atoll/wire"
)

// Create makes a machine and returns once its guest daemon has its identity
// and answers. On an error nothing of the machine is left.
func (e *Engine) Create(ctx context.Context, spec CreateSpec) (Machine, error) {
	start := time.Now()
	t, err := e.checkSpec(spec)
	if err != nil {
		return Machine{}, err
	}
	if err := e.reserve(spec); err != nil {
		return Machine{}, err
	}
	defer e.creating.Done()
	m, warm, err := e.create(ctx, t, spec)
	e.meters.created(warm, time.Since(start), err)
	if err != nil {
		e.release(spec.Team)
		if !errors.Is(err, context.Canceled) {
			e.log.Error("create failed", "template", spec.Template, "request", observe.RequestID(ctx), "error", err)
		}
		return Machine{}, err
	}
	record := m.record()
	e.log.Info("machine created", "machine", record.ID, "template", record.Alias, "warm", warm,
		"took", time.Since(start), "request", observe.RequestID(ctx))
	return record, nil
}

// create claims a warm guest or makes one, gives it its identity and records it.
func (e *Engine) create(ctx context.Context, t *template, spec CreateSpec) (*instance, bool, error) {
	g, warm, err := e.claim(ctx, t)
	if err != nil {
		return nil, false, err
	}
	now := e.now()
	record := Machine{
		ID: g.id, Team: spec.Team, State: Creating, CreatedAt: now, Slot: g.slot.Index,
		Metadata: spec.Metadata, Env: spec.Env, Network: spec.Network, Door: spec.Door,
		AccessToken: spec.AccessToken, TrafficToken: spec.TrafficToken, ControlToken: newToken(),
	}
	record.fromTemplate(t.snapshot())
	if spec.Timeout > 0 {
		record.Deadline = now.Add(spec.Timeout)
	}
	g.named = true
	m := newInstance(record, g)
	m.op.Lock()
	defer m.op.Unlock()
	if err := e.identify(ctx, m); err != nil {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		defer cancel()
		return nil, warm, errors.Join(err, e.takeApart(cleanup, g))
	}
	e.mu.Lock()
	e.instances[record.ID] = m
	e.mu.Unlock()
	t.spawned(now)
	e.schedule(m)
	e.watch(m)
	return m, warm, nil
}

func (r *Machine) fromTemplate(t Template) {
	r.TemplateID, r.BuildID = t.ID, t.BuildID
	if len(t.Names) > 0 {
		r.Alias = t.Names[0]
	}
	r.CPUs, r.MemoryMB, r.DiskMB = t.CPUs, t.MemoryMB, t.DiskMB
}

// identify gives a live guest all that must differ between copies of a
// snapshot, then records it as running.
func (e *Engine) identify(ctx context.Context, m *instance) error {
	record := m.record()
	slot := m.guest.slot
	if err := slot.SetPolicy(record.Network); err != nil {
		return fmt.Errorf("set the network policy: %w", err)
	}
	env := make(map[string]string, len(record.Env)+3)
	for k, v := range record.Env {
		env[k] = v
	}
	env["E2B_SANDBOX"] = "true"
	env["E2B_SANDBOX_ID"] = record.ID
	env["E2B_TEMPLATE_ID"] = record.TemplateID
	body := wire.Init{
		EnvVars:        env,
		AccessToken:    record.AccessToken,
		Timestamp:      e.now().UTC().Format(time.RFC3339Nano),
		DefaultUser:    "user",
		DefaultWorkdir: "/home/user",
		ControlToken:   record.ControlToken,
		Hostname:       record.ID,
		MachineID:      newToken()[:32],
		Nameservers:    []string{slot.DNS.String()},
	}
	if err := m.guest.control.init(ctx, body); err != nil {
		return err
	}
	return e.move(ctx, m, Running, "")
}

// claim takes a warm guest of the template, or makes one when there is none.
func (e *Engine) claim(ctx context.Context, t *template) (g *guest, warm bool, err error) {
	e.pool.demand(t, time.Now())
	for {
		g := e.pool.take(t)
		if g == nil {
			e.pool.want(1)
			defer e.pool.want(-1)
			g, err := e.makeGuest(ctx, t)
			return g, false, err
		}
		err := e.runtime.Resume(ctx, g.id)
		if err == nil {
			return g, true, nil
		}
		// A warm guest that does not wake is no reason to fail the client.
		e.log.Warn("a warm guest did not resume and is removed", "machine", g.id, "error", err)
		e.discard(g)
	}
}

// discard takes a guest apart that no machine owns.
func (e *Engine) discard(g *guest) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.life), endTimeout)
	defer cancel()
	if err := e.takeApart(ctx, g); err != nil {
		e.log.Error("a guest could not be taken apart; it is tried again at the next start", "machine", g.id, "error", err)
	}
}

// reserve counts one more machine of the team, within its limit. Whoever ends
// the machine, or fails to make it, gives the place back with release.
func (e *Engine) reserve(spec CreateSpec) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.life.Err() != nil {
		return fmt.Errorf("%w: this node is shutting down", ErrUnavailable)
	}
	if n := e.held[spec.Team]; spec.MaxConcurrent > 0 && n >= spec.MaxConcurrent {
		return fmt.Errorf("%w: the team has %d sandboxes at once and its limit is %d: kill one or raise the limit",
			ErrLimit, n, spec.MaxConcurrent)
	}
	e.held[spec.Team]++
	e.creating.Add(1)
	return nil
}

func (e *Engine) release(team string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.held[team]--; e.held[team] == 0 {
		delete(e.held, team)
	}
}

// checkSpec refuses what no machine can be made of, before anything is done.
func (e *Engine) checkSpec(spec CreateSpec) (*template, error) {
	t, err := e.template(spec.Team, spec.Template)
	if err != nil {
		return nil, err
	}
	limit := e.config.MaxTimeout
	switch {
	case spec.Timeout < 0:
		return nil, fmt.Errorf("%w: a time-out cannot be negative", ErrInvalid)
	case limit > 0 && spec.Timeout == 0:
		return nil, fmt.Errorf("%w: machines without a time-out are not allowed here; the longest is %s", ErrInvalid, limit)
	case limit > 0 && spec.Timeout > limit:
		return nil, fmt.Errorf("%w: the time-out %s is over the longest allowed, %s", ErrInvalid, spec.Timeout, limit)
	}
	for what, m := range map[string]map[string]string{"metadata": spec.Metadata, "environment": spec.Env} {
		size := 0
		for k, v := range m {
			size += len(k) + len(v)
		}
		if len(m) > maxMetadataItems || size > maxMetadata {
			return nil, fmt.Errorf("%w: the %s has %d entries and %d bytes; at most %d and %d are kept",
				ErrInvalid, what, len(m), size, maxMetadataItems, maxMetadata)
		}
	}
	return t, nil
}
