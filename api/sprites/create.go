package sprites

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/observe"
	"github.com/atoll-cloud/atoll/wire"
)

const (
	// waitForRoom is how long a create waits that is to wait for capacity;
	// clients give up after two minutes. Room is looked for that often.
	waitForRoom = 100 * time.Second
	roomPoll    = 250 * time.Millisecond
)

// newSprite is the body of a create request. The size of sprites is the
// template's: what Config asks for is checked to be a size at all.
type newSprite struct {
	Name            string            `json:"name"`
	Config          *spriteConfig     `json:"config"`
	Environment     map[string]string `json:"environment"`
	Labels          []string          `json:"labels"`
	URLSettings     *urlSettings      `json:"url_settings"`
	WaitForCapacity bool              `json:"wait_for_capacity"`
	Runtime         string            `json:"runtime"`
	OrgAccess       *bool             `json:"org_access"`
	// From makes the sprite of a checkpoint of another of the team's.
	From *struct {
		Sprite     string `json:"sprite"`
		Checkpoint string `json:"checkpoint"`
	} `json:"from_checkpoint"`
}

func (d *Door) create(w http.ResponseWriter, r *http.Request, c caller) error {
	var body newSprite
	if err := decode(w, r, &body); err != nil {
		return err
	}
	spec, err := d.createSpec(body, c)
	if err != nil {
		return err
	}
	if err := d.rates.take(c.team); err != nil {
		return err
	}
	m, err := d.make(r.Context(), spec, body.WaitForCapacity)
	switch {
	case errors.Is(err, machine.ErrLimit):
		return d.tooMany(c, err)
	case errors.Is(err, machine.ErrConflict): // another create was quicker
		return alreadyThere(body.Name)
	case err != nil && spec.From != nil:
		return byName(err, machine.Machine{ID: spec.From.Machine, Name: body.From.Sprite})
	case err != nil:
		return err
	}
	observe.SetMachine(r.Context(), m.ID)
	return door.WriteJSON(w, http.StatusCreated, d.view(m, c.team))
}

// make creates a machine under a host name that is free, and waits for room if
// it is to.
func (d *Door) make(ctx context.Context, spec machine.CreateSpec, wait bool) (machine.Machine, error) {
	ctx, cancel := context.WithTimeout(ctx, waitForRoom)
	defer cancel()
	for {
		spec.Host = d.host(spec.Name)
		m, err := d.engine.Create(ctx, spec)
		switch {
		case errors.Is(err, machine.ErrHostTaken):
			continue // by another team, a moment ago: it is known now
		case !wait || !errors.Is(err, machine.ErrLimit):
			return m, err
		}
		select {
		case <-time.After(roomPoll):
		case <-ctx.Done():
			return m, err
		}
	}
}

// createSpec checks a create request and translates it for the engine.
func (d *Door) createSpec(body newSprite, c caller) (machine.CreateSpec, error) {
	idle := d.config.Idle
	spec := machine.CreateSpec{
		Team: c.team.ID, MaxConcurrent: c.team.MaxConcurrent, Template: d.config.Template,
		Kind: machine.KindSprite, Name: body.Name, Env: body.Environment,
		Door:      map[string]string{doorAuth: authSprite},
		Lifecycle: machine.Lifecycle{Lasting: true, Idle: &idle},
	}
	if err := wire.CheckSpriteName(body.Name); err != nil {
		return spec, err
	}
	if c.team.MaxConcurrent == 0 {
		return spec, fail(http.StatusForbidden, "blocked", "this team may not have sprites: its limit is 0")
	}
	if err := body.check(); err != nil {
		return spec, err
	}
	if err := body.URLSettings.apply(spec.Door); err != nil {
		return spec, err
	}
	if err := setLabels(spec.Door, body.Labels); err != nil {
		return spec, err
	}
	if err := setOrgAccess(spec.Door, body.OrgAccess, c); err != nil {
		return spec, err
	}
	if _, err := d.engine.Named(c.team.ID, body.Name); err == nil {
		return spec, alreadyThere(body.Name)
	}
	if body.From != nil {
		source, err := d.named(c, body.From.Sprite)
		if err != nil {
			return spec, err
		}
		spec.From = &machine.CheckpointRef{Machine: source.ID, ID: body.From.Checkpoint}
	}
	return spec, nil
}

func (b *newSprite) check() error {
	if cfg := b.Config; cfg != nil && (cfg.RAMMB < 0 || cfg.CPUs < 0 || cfg.StorageGB < 0) {
		return invalid("config: sizes must not be negative")
	}
	switch b.Runtime {
	case "", "default", "dev":
	default:
		return invalid(`runtime is %q: give "default" or "dev"`, door.Clip(b.Runtime))
	}
	if b.From != nil && (b.From.Sprite == "" || b.From.Checkpoint == "") {
		return invalid(`from_checkpoint must name both: {"sprite": …, "checkpoint": "v1"}`)
	}
	return checkEnv(b.Environment)
}

// host chooses the label of a sprite's URL: its name, or, where another team
// has a sprite of that name, the name with something random behind it.
func (d *Door) host(name string) string {
	if _, err := d.engine.AtHost(name); err != nil {
		return name
	}
	return name[:min(len(name), maxHost)] + "-" + randomWord()
}

func alreadyThere(name string) error {
	return fail(http.StatusConflict, "sprite_already_exists", "a sprite with the name %q already exists", name)
}

// tooMany is the answer to a team that has as many machines as it may have.
func (d *Door) tooMany(c caller, err error) error {
	p := *problemOf(err)
	p.Limit, p.Current = c.team.MaxConcurrent, c.team.MaxConcurrent
	return &p
}

// apply checks URL settings and puts them into a machine's notes.
func (u *urlSettings) apply(notes map[string]string) error {
	if u == nil {
		return nil
	}
	switch u.Auth {
	case "":
	case authSprite, authPublic:
		notes[doorAuth] = u.Auth
	case "default": // older tools' word
		notes[doorAuth] = authSprite
	default:
		return invalid(`url_settings.auth is %q: give "sprite" or "public"`, door.Clip(u.Auth))
	}
	switch u.PrivateAccess {
	case "":
	case "admins", "org_users":
		notes[doorPrivate] = u.PrivateAccess
	default:
		return invalid(`url_settings.private_access is %q: give "admins" or "org_users"`, door.Clip(u.PrivateAccess))
	}
	return nil
}

func setLabels(notes map[string]string, labels []string) error {
	if err := checkLabels(labels); err != nil {
		return err
	}
	if len(labels) == 0 {
		delete(notes, doorLabels)
		return nil
	}
	text, err := json.Marshal(labels)
	if err != nil {
		return invalid("labels cannot be kept: %v", err)
	}
	notes[doorLabels] = string(text)
	return nil
}
