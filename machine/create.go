package machine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atoll-cloud/atoll/network"
	"github.com/atoll-cloud/atoll/observe"
	"github.com/atoll-cloud/atoll/wire"
)

// Create makes a machine and returns once its guest daemon has its identity
// and answers. On an error nothing of the machine is left.
func (e *Engine) Create(ctx context.Context, spec CreateSpec) (Machine, error) {
	start := time.Now()
	if spec.From == nil {
		e.builds.wait(ctx, spec.Template)
	}
	t, err := e.checkSpec(spec)
	if err != nil {
		return Machine{}, err
	}
	if err := e.begin(); err != nil {
		return Machine{}, err
	}
	defer e.creating.Done()
	if err := e.reserve(spec.Team, spec.MaxConcurrent); err != nil {
		return Machine{}, err
	}
	names := Machine{Team: spec.Team, Name: spec.Name, Host: spec.Host}
	if err := e.takeNames(names); err != nil {
		e.release(spec.Team)
		return Machine{}, err
	}
	parent := ""
	if spec.From != nil {
		parent = spec.From.Machine
	}
	m, warm, err := e.create(ctx, t, spec, parent)
	e.meters.created(warm, time.Since(start), err)
	if err != nil {
		e.giveNames(names)
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
// The parent is the machine it is forked from, if any.
func (e *Engine) create(ctx context.Context, t *template, spec CreateSpec, parent string) (*instance, bool, error) {
	g, warm, err := e.claim(ctx, t, spec.Network)
	if err != nil {
		return nil, false, err
	}
	now := e.now()
	record := Machine{
		ID: g.id, Team: spec.Team, Kind: spec.Kind, Name: spec.Name, Host: spec.Host, State: Creating, CreatedAt: now, Slot: g.slot.Index,
		Metadata: spec.Metadata, Env: spec.Env, Network: spec.Network, Door: spec.Door,
		AccessToken: spec.AccessToken, TrafficToken: spec.TrafficToken, ControlToken: newToken(),
		Lifecycle: spec.Lifecycle, Timeout: spec.Timeout, Bundle: e.config.Bundle, Parent: parent,
	}
	record.fromTemplate(t.snapshot())
	record.DiskBase = t.diskBase
	if spec.Timeout > 0 {
		record.Deadline = now.Add(spec.Timeout)
	}
	g.named = true
	m := newInstance(record, g)
	m.op.Lock()
	defer m.op.Unlock()
	if err := e.identify(ctx, m, t.snapshot().Snapshot != nil); err != nil {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		defer cancel()
		return nil, warm, errors.Join(err, e.takeApart(cleanup, g))
	}
	e.mu.Lock()
	e.instances[record.ID] = m
	e.names.named(record)
	e.mu.Unlock()
	t.spawned(now)
	m.connect()
	e.schedule(m)
	e.watch(m, g)
	return m, warm, nil
}

func (r *Machine) fromTemplate(t Template) {
	r.TemplateID, r.BuildID = t.ID, t.BuildID
	if len(t.Names) > 0 {
		r.Alias = t.Names[0]
	}
	r.CPUs, r.MemoryMB, r.DiskMB, r.ShowsCheckpoints = t.CPUs, t.MemoryMB, t.DiskMB, t.ShowsCheckpoints
	if t.Snapshot != nil {
		r.Bundle = t.Snapshot.Image.Bundle
	}
}

// identify gives a live guest all that must differ between copies of a
// snapshot, then records it as running.
func (e *Engine) identify(ctx context.Context, m *instance, isCopy bool) error {
	g := m.live()
	if err := g.control.init(ctx, e.identity(m.record(), g, isCopy)); err != nil {
		return err
	}
	return e.move(ctx, m, Running, "", nil)
}

// identity is what makes a guest the machine of that record. In a copy of a
// machine programs run already, which must not go on as if they were alone.
func (e *Engine) identity(record Machine, g *guest, isCopy bool) wire.Init {
	env := make(map[string]string, len(record.Env)+3)
	for k, v := range record.Env {
		env[k] = v
	}
	init := wire.Init{
		EnvVars:      env,
		AccessToken:  record.AccessToken,
		Timestamp:    e.now().UTC().Format(time.RFC3339Nano),
		ControlToken: record.ControlToken,
		MachineID:    newToken()[:32],
		Nameservers:  []string{g.slot.DNS.String()},
		Copy:         isCopy,
		Sprite:       record.spriteInit(),
	}
	if record.Kind == KindSprite {
		init.DefaultUser, init.DefaultWorkdir, init.Hostname = "sprite", "/home/sprite", record.Name
		env["SPRITE_NAME"] = record.Name
		return init
	}
	init.DefaultUser, init.DefaultWorkdir, init.Hostname = "user", "/home/user", record.ID
	env["E2B_SANDBOX"] = "true"
	env["E2B_SANDBOX_ID"] = record.ID
	env["E2B_TEMPLATE_ID"] = record.TemplateID
	return init
}

// spriteInit is what the guest of a sprite is told beyond what all are; nil for
// other machines.
func (r *Machine) spriteInit() *wire.SpriteInit {
	if r.Kind != KindSprite {
		return nil
	}
	return &wire.SpriteInit{Name: r.Name, Policy: r.Door[DoorPolicy], Fresh: r.Fresh}
}

// claim takes a warm guest of the template, or makes one when there is none. It
// runs, and the network policy holds for it.
func (e *Engine) claim(ctx context.Context, t *template, p network.Policy) (g *guest, warm bool, err error) {
	if !t.once {
		e.pool.demand(t, time.Now())
	}
	for {
		g := e.pool.take(t)
		if g == nil {
			break
		}
		err := e.letRun(ctx, g, p)
		if err == nil {
			return g, true, nil
		}
		// A warm guest that does not wake is no reason to fail the client.
		e.log.Warn("a warm guest did not resume and is removed", "machine", g.id, "error", err)
		e.discard(g)
	}
	e.pool.want(1)
	defer e.pool.want(-1)
	if g, err = e.makeGuest(ctx, t); err != nil {
		return nil, false, err
	}
	if err := e.letRun(ctx, g, p); err != nil {
		e.discard(g)
		return nil, false, err
	}
	return g, false, nil
}

// letRun lets a guest that is paused run, under the network policy.
func (e *Engine) letRun(ctx context.Context, g *guest, p network.Policy) error {
	if err := g.slot.Begin(p); err != nil {
		return fmt.Errorf("set the network policy: %w", err)
	}
	if !g.paused {
		return nil
	}
	if err := e.runtime.Resume(ctx, g.id); err != nil {
		return fmt.Errorf("let the guest run: %w", err)
	}
	g.paused = false
	return nil
}

// discard takes a guest apart that no machine owns.
func (e *Engine) discard(g *guest) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.life), endTimeout)
	defer cancel()
	if err := e.takeApart(ctx, g); err != nil {
		e.log.Error("a guest could not be taken apart; it is tried again at the next start", "machine", g.id, "error", err)
	}
}

// begin announces work that makes or wakes a guest, which a closing engine
// waits for and does not begin. e.creating.Done ends it.
func (e *Engine) begin() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.life.Err() != nil {
		return fmt.Errorf("%w: this node is shutting down", ErrUnavailable)
	}
	e.creating.Add(1)
	return nil
}

// operate begins work on a machine that is alone with it and is brought to its
// end, in sleepTimeout at most, whether who asked waits or not. done ends it.
func (e *Engine) operate(ctx context.Context, m *instance) (_ context.Context, done func(), err error) {
	if err := e.begin(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sleepTimeout)
	m.op.Lock()
	return ctx, func() {
		m.op.Unlock()
		cancel()
		e.creating.Done()
	}, nil
}

// reserve counts one more machine of the team, within its limit; 0 is no limit.
// Whoever ends or pauses the machine, or fails to make it, gives the place back
// with release.
func (e *Engine) reserve(team string, limit int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := e.held[team]; limit != 0 && n >= limit {
		return fmt.Errorf("%w: the team has %d sandboxes at once and its limit is %d: pause or kill one, or raise the limit",
			ErrLimit, n, limit)
	}
	e.held[team]++
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
	find := func() (*template, error) { return e.template(spec.Team, spec.Template) }
	if spec.From != nil {
		find = func() (*template, error) { return e.checkpointTemplate(spec.Team, *spec.From) }
	}
	t, err := find()
	if err != nil {
		return nil, err
	}
	if spec.Kind == KindSprite && spec.Name == "" {
		return nil, fmt.Errorf("%w: a sprite needs a name", ErrInvalid)
	}
	if spec.Lifecycle.Lasting && spec.Timeout != 0 {
		return nil, fmt.Errorf("%w: a lasting machine has no time-out", ErrInvalid)
	}
	if err := e.checkTimeout(spec.Timeout); err != nil && !spec.Lifecycle.Lasting {
		return nil, err
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

func (e *Engine) checkTimeout(t time.Duration) error {
	limit := e.config.MaxTimeout
	switch {
	case t < 0:
		return fmt.Errorf("%w: a time-out cannot be negative", ErrInvalid)
	case limit > 0 && t == 0:
		return fmt.Errorf("%w: machines without a time-out are not allowed here; the longest is %s", ErrInvalid, limit)
	case limit > 0 && t > limit:
		return fmt.Errorf("%w: the time-out %s is over the longest allowed, %s", ErrInvalid, t, limit)
	}
	return nil
}
