package sprites

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
)

// maxComment bounds the comment of a checkpoint, in bytes.
const maxComment = 4 << 10

// checkpointView is a checkpoint as clients see it. The last two are ours.
type checkpointView struct {
	ID         string    `json:"id"`
	CreateTime time.Time `json:"create_time"`
	SourceID   string    `json:"source_id,omitempty"`
	Comment    string    `json:"comment,omitempty"`
	History    []string  `json:"history,omitempty"`
	Health     string    `json:"health"` // empty is good
	IsAuto     bool      `json:"is_auto"`

	SizeBytes int64 `json:"size_bytes"`
	Memory    bool  `json:"memory,omitempty"`
}

// viewCheckpoint shows one of the checkpoints of a sprite.
func viewCheckpoint(c machine.Checkpoint, all []machine.Checkpoint) checkpointView {
	return checkpointView{
		ID: c.ID, CreateTime: c.CreatedAt.UTC(), SourceID: c.Source, Comment: c.Comment, IsAuto: c.Auto,
		SizeBytes: c.Bytes, Memory: c.Image != nil, History: history(c, all),
	}
}

// history is the chain of checkpoints that one came from, the nearest first.
func history(c machine.Checkpoint, all []machine.Checkpoint) (ids []string) {
	for source := c.Source; source != "" && len(ids) < len(all) && !slices.Contains(ids, source); {
		ids = append(ids, source)
		i := slices.IndexFunc(all, func(o machine.Checkpoint) bool { return o.ID == source })
		if i < 0 {
			break
		}
		source = all[i].Source
	}
	return ids
}

// checkpoints returns those of a sprite as clients see them, the newest first;
// a history keeps those that came from that checkpoint.
func (d *Door) checkpoints(ctx context.Context, m machine.Machine, auto bool, from string) ([]checkpointView, error) {
	all, err := d.engine.Checkpoints(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	out := []checkpointView{}
	for _, c := range slices.Backward(all) {
		v := viewCheckpoint(c, all)
		if (auto || !c.Auto) && (from == "" || c.ID == from || slices.Contains(v.History, from)) {
			out = append(out, v)
		}
	}
	return out, nil
}

func (d *Door) listCheckpoints(w http.ResponseWriter, r *http.Request, _ caller, m machine.Machine) error {
	q := r.URL.Query()
	out, err := d.checkpoints(r.Context(), m, q.Get("includeAuto") == "true", q.Get("history"))
	if err != nil {
		return asText(err)
	}
	return door.WriteJSON(w, http.StatusOK, out)
}

// checkpoint finds one checkpoint of a sprite.
func (d *Door) checkpoint(ctx context.Context, m machine.Machine, id string) (checkpointView, error) {
	all, err := d.engine.Checkpoints(ctx, m.ID)
	if err != nil {
		return checkpointView{}, err
	}
	for _, c := range all {
		if c.ID == id {
			return viewCheckpoint(c, all), nil
		}
	}
	return checkpointView{}, fail(http.StatusNotFound, "not_found", "checkpoint not found: %s", door.Clip(id))
}

func (d *Door) checkpointInfo(w http.ResponseWriter, r *http.Request, _ caller, m machine.Machine) error {
	c, err := d.checkpoint(r.Context(), m, r.PathValue("id"))
	if err != nil {
		return asText(err)
	}
	return door.WriteJSON(w, http.StatusOK, c)
}

func (d *Door) deleteCheckpoint(w http.ResponseWriter, r *http.Request, _ caller, m machine.Machine) error {
	if err := d.engine.DeleteCheckpoint(r.Context(), m.ID, r.PathValue("id")); err != nil {
		return asText(err)
	}
	return door.NoContent(w)
}

// progress is a line of the streams that checkpoints and restores answer.
type progress struct {
	Type  string    `json:"type"` // info, error or complete
	Data  string    `json:"data,omitempty"`
	Error string    `json:"error,omitempty"`
	Time  time.Time `json:"time"`
}

func (d *Door) say(kind, format string, args ...any) progress {
	return progress{Type: kind, Data: fmt.Sprintf(format, args...), Time: d.now().UTC()}
}

// failure is the last line of a stream about something that was not done.
func (d *Door) failure(ctx context.Context, what string, err error) progress {
	return progress{Type: "error", Error: d.explain(ctx, what, err).Message, Time: d.now().UTC()}
}

// createCheckpoint takes a checkpoint and tells of it as it goes. What is
// wrong with the request is told before by status. The work is done whether
// the client waits or not.
func (d *Door) createCheckpoint(w http.ResponseWriter, r *http.Request, _ caller, m machine.Machine) error {
	var body struct {
		Comment string `json:"comment"`
		Memory  bool   `json:"memory"`
	}
	if err := decode(w, r, &body); err != nil {
		return asText(err)
	}
	if len(body.Comment) > maxComment {
		return asText(invalid("comment has %d bytes; at most %d are allowed", len(body.Comment), maxComment))
	}
	out := newLines(w)
	out.write(d.say("info", "Creating checkpoint..."))
	spec := machine.CheckpointSpec{Comment: strings.ToValidUTF8(body.Comment, "\uFFFD"), Memory: body.Memory}
	c, err := d.engine.CreateCheckpoint(context.WithoutCancel(r.Context()), m.ID, spec)
	if err != nil {
		out.write(d.failure(r.Context(), "checkpoint", byName(err, m)))
		return nil
	}
	out.write(d.say("info", "  ID: %s", c.ID))
	out.write(d.say("complete", "Checkpoint %s created", c.ID))
	return nil
}

// restoreCheckpoint sets a sprite back, and tells of it as it goes.
func (d *Door) restoreCheckpoint(w http.ResponseWriter, r *http.Request, c caller, m machine.Machine) error {
	if c.isSelf(m) {
		return d.callRestore(w, r, m)
	}
	id := r.PathValue("id")
	if _, err := d.checkpoint(r.Context(), m, id); err != nil {
		return asText(err)
	}
	out := newLines(w)
	out.write(d.say("info", "Restoring from checkpoint %s...", id))
	if _, err := d.engine.RestoreCheckpoint(context.WithoutCancel(r.Context()), m.ID, id); err != nil {
		out.write(d.failure(r.Context(), "restore", byName(err, m)))
		return nil
	}
	out.write(d.say("info", "Sprite started from its restored disk"))
	out.write(d.say("complete", "Restore from %s complete", id))
	return nil
}
