package e2b

import (
	"net/http"
	"slices"
	"strings"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
)

// snapshotInfo is how clients see a snapshot. The id is a reference that
// create takes, with a namespace if it has a name, and with a tag.
type snapshotInfo struct {
	SnapshotID string   `json:"snapshotID"`
	Names      []string `json:"names"`

	// What follows is ours: the sandbox that it was taken of and when, and what
	// its memory and files take on the disk.
	SandboxID         string `json:"sandboxID"`
	CreatedAt         stamp  `json:"createdAt"`
	MemoryStoredBytes int64  `json:"memoryStoredBytes"`
	DiskUsedBytes     int64  `json:"diskUsedBytes"`
}

func viewSnapshot(c caller, t machine.Template) snapshotInfo {
	v := snapshotInfo{
		SnapshotID: t.ID + ":" + defaultTag, Names: c.names(t), SandboxID: t.Snapshot.Source,
		CreatedAt: stamp(t.UpdatedAt), MemoryStoredBytes: t.Snapshot.Image.Bytes, DiskUsedBytes: t.Snapshot.DiskBytes,
	}
	for i, name := range v.Names {
		v.Names[i] = name + ":" + defaultTag
	}
	if len(v.Names) > 0 {
		v.SnapshotID = v.Names[0]
	}
	return v
}

// createSnapshot keeps a running sandbox as a template.
func (d *Door) createSnapshot(w http.ResponseWriter, r *http.Request, c caller) error {
	m, err := d.findRunning(r, c, http.StatusNotFound)
	if err != nil {
		return err
	}
	var body struct {
		Name   string `json:"name"`
		Memory *bool  `json:"memory"`
	}
	if err := d.decode(w, r, &body, true); err != nil {
		return err
	}
	if body.Memory != nil && !*body.Memory {
		return &problem{status: http.StatusBadRequest, code: "snapshot_filesystem_only_disabled",
			message: "memory: snapshots without memory are not available in this version of Atoll; leave the field out"}
	}
	name, err := d.snapshotName(c, body.Name)
	if err != nil {
		return err
	}
	t, err := d.engine.Snapshot(r.Context(), m.ID, name)
	if err != nil {
		return err
	}
	return door.WriteJSON(w, http.StatusCreated, viewSnapshot(c, t))
}

// snapshotName checks the name that a snapshot is to have; empty is none.
func (d *Door) snapshotName(c caller, asked string) (string, error) {
	if asked == "" {
		return "", nil
	}
	name, tag, _ := strings.Cut(c.localRef(asked), ":")
	switch {
	case !snapshotNameRule.MatchString(name):
		return "", invalid(`name %q is not possible: use up to 128 lower-case letters, digits, "-" and "_", starting with a letter or digit`, door.Clip(asked))
	case !isDefaultTag(tag):
		return "", invalid(`name %q: there are no tags other than %q yet`, door.Clip(asked), defaultTag)
	}
	if t, err := d.engine.Template(c.team.ID, name); err == nil && (t.Snapshot == nil || t.ID == name) {
		return "", invalid("name %q is taken by another template; choose another", name)
	}
	return name, nil
}

// listSnapshots lists a team's snapshots in pages, newest first.
func (d *Door) listSnapshots(w http.ResponseWriter, r *http.Request, c caller) error {
	v := r.URL.Query()
	limit, err := pageLimit(v)
	if err != nil {
		return err
	}
	var after *cursor
	if s := v.Get("nextToken"); s != "" {
		parsed, err := parseCursor(s)
		if err != nil {
			return err
		}
		after = &parsed
	}
	q := machine.SnapshotQuery{Team: c.team.ID, Source: strings.TrimSuffix(v.Get("sandboxID"), "-"+clientID)}
	name, tag, _ := strings.Cut(c.localRef(v.Get("name")), ":")
	if q.Name = name; !isDefaultTag(tag) {
		return door.WriteJSON(w, http.StatusOK, []snapshotInfo{})
	}
	found := slices.Clone(d.engine.Snapshots(q))
	slices.SortFunc(found, func(a, b machine.Template) int { return snapshotCursor(b).compare(snapshotCursor(a)) })
	out := []snapshotInfo{}
	for i, t := range found {
		if after != nil && snapshotCursor(t).compare(*after) >= 0 {
			continue
		}
		if len(out) == limit {
			w.Header().Set(nextTokenKey, snapshotCursor(found[i-1]).String())
			break
		}
		out = append(out, viewSnapshot(c, t))
	}
	return door.WriteJSON(w, http.StatusOK, out)
}

// snapshotCursor orders by the time of the last build: a name that is given
// again makes its snapshot a new one.
func snapshotCursor(t machine.Template) cursor { return cursor{at: t.UpdatedAt, id: t.ID} }

// deleteTemplate deletes a snapshot of the team; SDKs give back the id that
// they were given, with its namespace and tag.
func (d *Door) deleteTemplate(w http.ResponseWriter, r *http.Request, c caller) error {
	t, err := d.engine.Template(c.team.ID, c.localRef(r.PathValue("templateID")))
	if err != nil {
		return err
	}
	if t.Snapshot == nil {
		return fail(http.StatusForbidden, "template %q is built in and cannot be deleted", t.ID)
	}
	if err := d.engine.DeleteTemplate(r.Context(), c.team.ID, t.ID); err != nil {
		return err
	}
	return door.NoContent(w)
}
