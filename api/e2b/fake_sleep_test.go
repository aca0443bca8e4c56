package e2b

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/machine"
)

// Sizes of every sleeping machine of the fake.
const (
	fakeImage = 5 << 20
	fakeDisk  = 7 << 20
)

// room is the rule that paused machines do not count against a team's limit;
// mu is held.
func (f *fakeEngine) room(team string, limit int) error {
	n := 0
	for _, m := range f.machines {
		if m.Team == team && !m.Paused {
			n++
		}
	}
	if limit > 0 && n >= limit {
		return fmt.Errorf("%w: the team has %d sandboxes at once and its limit is %d", machine.ErrLimit, n, limit)
	}
	return nil
}

func (f *fakeEngine) Pause(ctx context.Context, id string, diskOnly bool) (machine.Machine, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.index(id)
	if i < 0 {
		return machine.Machine{}, fmt.Errorf("%w: no machine %q", machine.ErrNotFound, id)
	}
	if f.failWith != nil {
		return machine.Machine{}, f.failWith
	}
	m := &f.machines[i]
	if m.Paused {
		return machine.Machine{}, fmt.Errorf("%w: machine %q is paused already", machine.ErrConflict, id)
	}
	m.Paused, m.State, m.AsleepSince, m.Image = true, machine.Stored, f.now(), &machine.Image{Bytes: fakeImage}
	m.DiskBytes = fakeDisk
	if diskOnly {
		m.Image = nil
	}
	if !m.Deadline.IsZero() {
		m.Remaining, m.Deadline = m.Deadline.Sub(f.now()), time.Time{}
	}
	return *m, nil
}

// doze puts a machine to sleep as the engine does by itself.
func (f *fakeEngine) doze(id string, to machine.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := &f.machines[f.index(id)]
	if m.State, m.AsleepSince = to, f.now(); to == machine.Stored {
		m.Image = &machine.Image{Bytes: fakeImage}
	}
}

func (f *fakeEngine) Resume(ctx context.Context, id string, spec machine.ResumeSpec) (machine.Machine, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.index(id)
	if i < 0 {
		return machine.Machine{}, false, fmt.Errorf("%w: no machine %q", machine.ErrNotFound, id)
	}
	m := &f.machines[i]
	f.resumes = append(f.resumes, spec)
	if f.resumeHit != nil {
		f.resumeHit(m)
	}
	if !m.Paused {
		return *m, false, nil
	}
	if f.damaged != nil && f.damaged(m) && !spec.Reboot {
		return machine.Machine{}, false, fmt.Errorf("%w: the memory of machine %s is not what was written", machine.ErrDamaged, id)
	}
	if f.wakeWith != nil && !spec.Reboot {
		return machine.Machine{}, false, f.wakeWith
	}
	if err := f.room(m.Team, spec.MaxConcurrent); err != nil {
		return machine.Machine{}, false, err
	}
	left := m.Remaining
	if spec.Timeout != nil {
		left = max(left, *spec.Timeout)
	}
	m.Paused, m.State, m.Remaining, m.Image, m.AsleepSince = false, machine.Running, 0, nil, time.Time{}
	m.Deadline = f.now().Add(left)
	return *m, true, nil
}

func (f *fakeEngine) Fork(ctx context.Context, id string, spec machine.ForkSpec) ([]machine.Forked, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failWith != nil {
		return nil, f.failWith
	}
	parent := f.machines[f.index(id)]
	var out []machine.Forked
	for range spec.Count {
		if err := f.room(parent.Team, spec.MaxConcurrent); err != nil {
			out = append(out, machine.Forked{Err: err})
			continue
		}
		if f.forkWith != nil {
			out = append(out, machine.Forked{Err: f.forkWith})
			continue
		}
		f.forks++
		child := parent
		child.ID, child.Parent, child.AccessToken, child.Door = fmt.Sprintf("f%04d", f.forks), parent.ID, newToken(), spec.Door
		child.StartedAt, child.Deadline = f.now().Add(time.Duration(f.forks)*time.Millisecond), f.now().Add(spec.Timeout)
		f.machines = append(f.machines, child)
		out = append(out, machine.Forked{Machine: child})
	}
	return out, nil
}

func (f *fakeEngine) Snapshot(ctx context.Context, id, name string) (machine.Template, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failWith != nil {
		return machine.Template{}, f.failWith
	}
	m := f.machines[f.index(id)]
	f.snapshots++
	at := f.now().Add(time.Duration(f.snapshots) * time.Millisecond)
	t := machine.Template{
		ID: fmt.Sprintf("snap%d", f.snapshots), Team: m.Team, CPUs: m.CPUs, MemoryMB: m.MemoryMB,
		CreatedAt: at, UpdatedAt: at, Snapshot: &machine.Snapshot{Source: id, Image: machine.Image{Bytes: fakeImage}, DiskBytes: fakeDisk},
	}
	if name != "" {
		t.Names = []string{name}
		before := func(t machine.Template) bool { return t.Team == m.Team && slices.Contains(t.Names, name) }
		if i := slices.IndexFunc(f.templates, before); i >= 0 {
			t.ID, t.CreatedAt = f.templates[i].ID, f.templates[i].CreatedAt
			f.templates = slices.Delete(f.templates, i, i+1)
		}
	}
	f.templates = append(f.templates, t)
	return t, nil
}

func (f *fakeEngine) Snapshots(q machine.SnapshotQuery) []machine.Template {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []machine.Template
	for _, t := range slices.Backward(f.templates) {
		if t.Snapshot == nil || t.Team != q.Team || q.Source != "" && t.Snapshot.Source != q.Source {
			continue
		}
		if q.Name == "" || t.ID == q.Name || slices.Contains(t.Names, q.Name) {
			out = append(out, t)
		}
	}
	return out
}

func (f *fakeEngine) DeleteTemplate(ctx context.Context, team, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.templates, func(t machine.Template) bool { return t.ID == id && t.Team == team })
	if i < 0 {
		return fmt.Errorf("%w: no template %q here", machine.ErrNotFound, id)
	}
	f.templates = slices.Delete(f.templates, i, i+1)
	return nil
}

func (f *fakeEngine) Templates(team string) []machine.Template {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []machine.Template
	for _, t := range f.templates {
		if t.Team == "" || t.Team == team {
			out = append(out, t)
		}
	}
	return out
}

func (f *fakeEngine) Template(team, ref string) (machine.Template, error) {
	name, tag, _ := strings.Cut(ref, ":")
	for _, t := range f.Templates(team) {
		if (t.ID == name || slices.Contains(t.Names, name)) && (tag == "" || tag == "default" || tag == "latest") {
			return t, nil
		}
	}
	return machine.Template{}, fmt.Errorf("%w: no template %q here", machine.ErrNotFound, ref)
}
