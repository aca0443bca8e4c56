package e2b

import (
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/wire"
)

type templateView struct {
	TemplateID    string   `json:"templateID"`
	BuildID       string   `json:"buildID"`
	CPUCount      int      `json:"cpuCount"`
	MemoryMB      int      `json:"memoryMB"`
	DiskSizeMB    int      `json:"diskSizeMB"`
	Public        bool     `json:"public"`
	Aliases       []string `json:"aliases"`
	Names         []string `json:"names"`
	CreatedAt     stamp    `json:"createdAt"`
	UpdatedAt     stamp    `json:"updatedAt"`
	CreatedBy     *string  `json:"createdBy"` // there are no users: null
	LastSpawnedAt *stamp   `json:"lastSpawnedAt"`
	SpawnCount    int64    `json:"spawnCount"`
	BuildCount    int      `json:"buildCount"`
	EnvdVersion   string   `json:"envdVersion"`
	BuildStatus   string   `json:"buildStatus"`
}

func viewTemplate(c caller, t machine.Template) templateView {
	aliases := t.Names
	if aliases == nil {
		aliases = []string{}
	}
	return templateView{
		TemplateID: t.ID, BuildID: buildUUID(t), CPUCount: t.CPUs, MemoryMB: t.MemoryMB, DiskSizeMB: t.DiskMB,
		Public: t.Team == "", Aliases: aliases, Names: c.names(t),
		CreatedAt: stamp(t.CreatedAt), UpdatedAt: stamp(t.UpdatedAt), LastSpawnedAt: optionalStamp(t.LastSpawned),
		SpawnCount: t.Spawned, BuildCount: 1, EnvdVersion: wire.EnvdVersion, BuildStatus: "ready",
	}
}

// buildUUID is a build's id in the form that clients parse. The engine names
// builds by their content, which is hashed if it is no UUID.
func buildUUID(t machine.Template) string {
	if id, err := uuid.Parse(t.BuildID); err == nil {
		return id.String()
	}
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(t.BuildID)).String()
}

// sortedTemplates returns what lists of templates show: no snapshots, which
// have a list of their own.
func (d *Door) sortedTemplates(c caller) []machine.Template {
	list := slices.Clone(d.engine.Templates(c.team.ID))
	list = slices.DeleteFunc(list, func(t machine.Template) bool { return t.Snapshot != nil })
	slices.SortFunc(list, func(a, b machine.Template) int { return templateCursor(a).compare(templateCursor(b)) })
	return list
}

func templateCursor(t machine.Template) cursor { return cursor{at: t.CreatedAt, id: t.ID} }

func (d *Door) listTemplatesV1(w http.ResponseWriter, r *http.Request, c caller) error {
	if err := checkTeam(r, c); err != nil {
		return err
	}
	out := []templateView{}
	for _, t := range d.sortedTemplates(c) {
		out = append(out, viewTemplate(c, t))
	}
	return door.WriteJSON(w, http.StatusOK, out)
}

func (d *Door) listTemplatesV2(w http.ResponseWriter, r *http.Request, c caller) error {
	if err := checkTeam(r, c); err != nil {
		return err
	}
	v := r.URL.Query()
	limit, err := pageLimit(v)
	if err != nil {
		return err
	}
	after := cursor{at: time.Unix(0, 0).AddDate(-1000, 0, 0)}
	if s := v.Get("nextToken"); s != "" {
		if after, err = parseCursor(s); err != nil {
			return err
		}
	}
	out := []templateView{}
	last := cursor{}
	for _, t := range d.sortedTemplates(c) {
		if templateCursor(t).compare(after) <= 0 {
			continue
		}
		if len(out) == limit {
			w.Header().Set(nextTokenKey, last.String())
			break
		}
		out, last = append(out, viewTemplate(c, t)), templateCursor(t)
	}
	return door.WriteJSON(w, http.StatusOK, out)
}

// checkTeam refuses a teamID that is not the caller's.
func checkTeam(r *http.Request, c caller) error {
	if id := r.URL.Query().Get("teamID"); id != "" && id != c.team.ID {
		return fail(http.StatusForbidden, "these credentials are for another team than teamID names")
	}
	return nil
}

type templateBuild struct {
	BuildID     string `json:"buildID"`
	Status      string `json:"status"`
	CreatedAt   stamp  `json:"createdAt"`
	UpdatedAt   stamp  `json:"updatedAt"`
	FinishedAt  stamp  `json:"finishedAt"`
	CPUCount    int    `json:"cpuCount"`
	MemoryMB    int    `json:"memoryMB"`
	DiskSizeMB  int    `json:"diskSizeMB"`
	EnvdVersion string `json:"envdVersion"`
}

// templateInfo returns a template with its builds. The built-in ones have one.
func (d *Door) templateInfo(w http.ResponseWriter, r *http.Request, c caller) error {
	t, err := d.engine.Template(c.team.ID, c.localRef(r.PathValue("templateID")))
	if err != nil {
		return err
	}
	v := viewTemplate(c, t)
	return door.WriteJSON(w, http.StatusOK, map[string]any{
		"templateID": v.TemplateID, "public": v.Public, "aliases": v.Aliases, "names": v.Names,
		"createdAt": v.CreatedAt, "updatedAt": v.UpdatedAt, "lastSpawnedAt": v.LastSpawnedAt, "spawnCount": v.SpawnCount,
		"builds": []templateBuild{{
			BuildID: v.BuildID, Status: v.BuildStatus, CreatedAt: v.UpdatedAt, UpdatedAt: v.UpdatedAt, FinishedAt: v.UpdatedAt,
			CPUCount: v.CPUCount, MemoryMB: v.MemoryMB, DiskSizeMB: v.DiskSizeMB, EnvdVersion: v.EnvdVersion,
		}},
	})
}

// templateAliasOrTags answers /templates/aliases/{alias} and
// /templates/{templateID}/tags.
func (d *Door) templateAliasOrTags(w http.ResponseWriter, r *http.Request, c caller) error {
	first, second := r.PathValue("first"), r.PathValue("second")
	switch {
	case first == "aliases":
		t, err := d.engine.Template(c.team.ID, c.localRef(second))
		if err != nil {
			return err
		}
		return door.WriteJSON(w, http.StatusOK, map[string]any{"templateID": t.ID, "public": t.Team == ""})
	case second == "tags":
		t, err := d.engine.Template(c.team.ID, c.localRef(first))
		if err != nil {
			return err
		}
		return door.WriteJSON(w, http.StatusOK, []map[string]any{
			{"tag": "default", "buildID": buildUUID(t), "createdAt": stamp(t.UpdatedAt)},
		})
	}
	return fail(http.StatusNotFound, "there is no %s %s in this API", r.Method, door.Clip(r.URL.Path))
}
