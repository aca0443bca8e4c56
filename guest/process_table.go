package guest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	processpb "github.com/atoll-cloud/atoll/wire/process"
)

// errNoProcess is reported for processes that are not running.
var errNoProcess = errors.New("no such process is running")

// processTable holds the processes that clients started and that have not
// ended.
type processTable struct {
	mu        sync.Mutex
	processes map[uint32]*process
}

func newProcessTable() *processTable {
	return &processTable{processes: map[uint32]*process{}}
}

func (t *processTable) add(p *process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.processes[p.pid] = p
}

func (t *processTable) remove(p *process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.processes[p.pid] == p {
		delete(t.processes, p.pid)
	}
}

// all returns the running processes in the order of their numbers.
func (t *processTable) all() []*process {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*process, 0, len(t.processes))
	for _, p := range t.processes {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *process) int { return cmp.Compare(a.pid, b.pid) })
	return list
}

// find returns the process that a client selects.
func (t *processTable) find(selector *processpb.ProcessSelector) (*process, error) {
	switch s := selector.GetSelector().(type) {
	case *processpb.ProcessSelector_Pid:
		t.mu.Lock()
		defer t.mu.Unlock()
		if p, ok := t.processes[s.Pid]; ok {
			return p, nil
		}
		return nil, fmt.Errorf("%w: process with pid %d not found", errNoProcess, s.Pid)
	case *processpb.ProcessSelector_Tag:
		for _, p := range t.all() {
			if p.tag != nil && *p.tag == s.Tag {
				return p, nil
			}
		}
		return nil, fmt.Errorf("%w: process with tag %q not found", errNoProcess, s.Tag)
	}
	return nil, fmt.Errorf("%w: name it by pid or tag", errNoProcess)
}

// terminate asks every process to end and kills those that have not when ctx
// is done.
func (t *processTable) terminate(ctx context.Context) {
	list := t.all()
	for _, p := range list {
		p.signal(syscall.SIGTERM) // gone already is as good
	}
	for _, p := range list {
		select {
		case <-p.ended:
		case <-ctx.Done():
			p.signal(syscall.SIGKILL)
		}
	}
}
