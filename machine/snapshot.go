package machine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/disk"
	"github.com/atoll-cloud/atoll/observe"
)

// Snapshot keeps memory and disk of a running machine as a template. A name
// that the team has given to a snapshot before moves on to this one.
func (e *Engine) Snapshot(ctx context.Context, id, name string) (Template, error) {
	start := time.Now()
	m, err := e.instance(id)
	if err != nil {
		return Template{}, err
	}
	if err := e.begin(); err != nil {
		return Template{}, err
	}
	defer e.creating.Done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sleepTimeout)
	defer cancel()

	record := e.newSnapshot(m.record(), name)
	tree := record.tree()
	source, image, err := e.capture(ctx, m, tree)
	if err != nil {
		return Template{}, fmt.Errorf("take a snapshot of machine %s: %w", id, err)
	}
	record.Snapshot = &Snapshot{
		Source: id, Image: image, ControlToken: source.ControlToken, AccessToken: source.AccessToken,
	}
	if image.Unsummed {
		if err := e.runtime.SumUp(ctx, filepath.Join(e.disks.Path(tree), memoryFolder)); err != nil {
			return Template{}, errors.Join(err, e.disks.Remove(ctx, tree))
		}
	}
	// Before it is sealed, after which no file of it can be touched.
	e.sharePages(ctx, source, disk.File{Tree: tree, Path: memoryFolder + "/" + pagesFile})
	if err := e.keepSnapshot(ctx, record); err != nil {
		return Template{}, errors.Join(err, e.disks.Remove(ctx, tree))
	}
	e.log.Info("snapshot taken", "machine", id, "snapshot", record.ID, "took", time.Since(start), "request", observe.RequestID(ctx))
	return record, nil
}

// newSnapshot is the record of a snapshot to be: a new build of the team's
// snapshot of that name, if there is one, else a new template.
func (e *Engine) newSnapshot(source Machine, name string) Template {
	now := e.now()
	record := Template{ID: newID(), CreatedAt: now}
	if t := e.snapshotNamed(source.Team, name); t != nil {
		record = t.snapshot()
	}
	if name != "" {
		record.Names = []string{name}
	}
	record.Team, record.BuildID, record.UpdatedAt = source.Team, newID(), now
	record.CPUs, record.MemoryMB, record.DiskMB = source.CPUs, source.MemoryMB, source.DiskMB
	record.ShowsCheckpoints = source.ShowsCheckpoints
	return record
}

// snapshotNamed returns the team's snapshot of that name, or nil.
func (e *Engine) snapshotNamed(team, name string) *template {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, t := range e.templates {
		if r := t.snapshot(); name != "" && r.Snapshot != nil && r.Team == team && slices.Contains(r.Names, name) {
			return t
		}
	}
	return nil
}

// keepSnapshot makes a captured tree last and its template known. What there
// was under the same id is removed.
func (e *Engine) keepSnapshot(ctx context.Context, record Template) error {
	tree := record.tree()
	if err := e.disks.Sync(ctx, tree); err != nil {
		return fmt.Errorf("bring the snapshot to rest: %w", err)
	}
	bytes, _, err := e.disks.Usage(ctx, machineTrees+record.Snapshot.Source)
	if err != nil {
		return fmt.Errorf("measure the snapshot: %w", err)
	}
	record.Snapshot.DiskBytes = bytes
	if err := e.disks.Seal(ctx, tree); err != nil {
		return fmt.Errorf("seal the snapshot: %w", err)
	}
	if _, err := e.built.Put(ctx, record.ID, record); err != nil {
		return fmt.Errorf("record the snapshot: %w", err)
	}
	t := e.templateOf(record)
	e.mu.Lock()
	i := slices.IndexFunc(e.templates, func(t *template) bool { return t.snapshot().ID == record.ID })
	var old *template
	if i >= 0 {
		old = e.templates[i]
		e.templates[i] = t
	} else {
		e.templates = append(e.templates, t)
	}
	e.mu.Unlock()
	if old != nil {
		return e.dropTemplate(ctx, old)
	}
	return nil
}

func (e *Engine) templateOf(record Template) *template {
	tree := record.tree()
	return &template{record: record, tree: tree, memory: filepath.Join(e.disks.Path(tree), memoryFolder)}
}

// tree names the tree of a template's build.
func (t Template) tree() string { return templateTrees + t.ID + "-" + t.BuildID }

// dropTemplate frees what a template occupies that nobody can ask for any more.
// Machines made of it have disks and memory of their own.
func (e *Engine) dropTemplate(ctx context.Context, t *template) error {
	for _, g := range e.pool.close(t) {
		e.discard(g)
	}
	if err := e.disks.Remove(ctx, t.tree); err != nil {
		return fmt.Errorf("remove the tree of template %s: %w", t.snapshot().ID, err)
	}
	return nil
}

// Snapshots lists the snapshots that q selects, newest first.
func (e *Engine) Snapshots(q SnapshotQuery) []Template {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var list []Template
	for _, t := range e.templates {
		r := t.snapshot()
		if r.Snapshot == nil || q.Team != "" && r.Team != q.Team || q.Source != "" && r.Snapshot.Source != q.Source {
			continue
		}
		if q.Name != "" && !r.answersTo(q.Name) {
			continue
		}
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b Template) int {
		return cmp.Or(b.UpdatedAt.Compare(a.UpdatedAt), strings.Compare(b.ID, a.ID))
	})
	return list
}

// DeleteTemplate removes a snapshot of a team. Machines made from it go on.
// Those that come with Atoll are ErrInvalid.
func (e *Engine) DeleteTemplate(ctx context.Context, team, ref string) error {
	t, err := e.template(team, ref)
	if err != nil {
		return err
	}
	record := t.snapshot()
	if record.Snapshot == nil {
		return fmt.Errorf("%w: template %q comes with Atoll and cannot be deleted", ErrInvalid, record.ID)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	e.mu.Lock()
	i := slices.Index(e.templates, t)
	if i >= 0 {
		e.templates = slices.Delete(e.templates, i, i+1)
	}
	e.mu.Unlock()
	if i < 0 {
		return fmt.Errorf("%w: template %q was just deleted", ErrNotFound, ref)
	}
	if err := e.built.Delete(ctx, record.ID); err != nil {
		return fmt.Errorf("remove the record of template %s: %w", record.ID, err)
	}
	return e.dropTemplate(ctx, t)
}

// loadSnapshots finds the snapshots of earlier servers, and removes trees that
// no template has: of snapshots that were never finished or are deleted.
func (e *Engine) loadSnapshots(ctx context.Context) error {
	err := e.built.All(ctx, func(key string, data []byte) error {
		var record Template
		if err := json.Unmarshal(data, &record); err != nil {
			return fmt.Errorf("the record of template %s: %w", key, err)
		}
		if record.Snapshot == nil {
			return nil
		}
		if !e.hasTree(record.tree()) {
			e.log.Error("the files of a snapshot are gone", "snapshot", record.ID, "team", record.Team)
			return e.built.Delete(ctx, key)
		}
		e.mu.Lock()
		e.templates = append(e.templates, e.templateOf(record))
		e.mu.Unlock()
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the records of snapshots: %w", err)
	}
	trees, err := e.disks.List(ctx, templateTrees)
	if err != nil {
		return fmt.Errorf("list the trees of templates: %w", err)
	}
	for _, tree := range trees {
		e.mu.RLock()
		known := slices.ContainsFunc(e.templates, func(t *template) bool { return t.tree == tree.Name })
		e.mu.RUnlock()
		ours := slices.ContainsFunc(builtins, func(b builtin) bool { return strings.HasPrefix(tree.Name, templateTrees+b.name+"-") })
		if known || ours {
			continue
		}
		if err := e.disks.Remove(ctx, tree.Name); err != nil {
			return fmt.Errorf("remove the tree %s, which no template has: %w", tree.Name, err)
		}
	}
	return nil
}
