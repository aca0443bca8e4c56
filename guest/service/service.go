package service

import (
	"fmt"
	"time"
)

// service is one definition and what has become of it. The supervisor's lock
// guards all fields.
type service struct {
	name string
	record
	// broken says why it cannot start as it is defined; set for definitions that
	// were found on the disk only.
	broken string
	logs   *logFiles

	// current is the process that runs, nil if none does.
	current *run
	// failure says why none does, empty if nobody wants one.
	failure string
	// restarts counts those since a client started it.
	restarts int
	// pause is the one before the last restart.
	pause time.Duration
	// again is the restart that is awaited, nil if none is.
	again   *time.Timer
	againAt time.Time
	// gone is set while it is being deleted.
	gone bool
}

func (v *supervisor) newService(name string, r record) *service {
	return &service{name: name, record: r, logs: newLogFiles(v.logFolder, name, func(err error) {
		v.log("warn", "a service's output is lost", "service", name, "error", err.Error())
	})}
}

// pauses are those before restarts.
type pauses struct {
	first, most time.Duration
	// calm is how long a process must have run for the next pause to be the
	// first again.
	calm time.Duration
}

var defaultPauses = pauses{first: time.Second, most: time.Minute, calm: 30 * time.Second}

// next returns the pause after one that was followed by a process that ran so
// long.
func (p pauses) next(last, ran time.Duration) time.Duration {
	if last == 0 || ran >= p.calm {
		return p.first
	}
	return min(2*last, p.most)
}

// restartLater plans the restart of a service that does not run though it
// should; v.mu is held.
func (v *supervisor) restartLater(s *service, why string, ran time.Duration) {
	s.failure = why
	if v.closed || s.gone || s.Stopped || s.broken != "" {
		return
	}
	s.pause = v.pauses.next(s.pause, ran)
	s.againAt = time.Now().Add(s.pause)
	var planned *time.Timer
	planned = time.AfterFunc(s.pause, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if s.again != planned {
			return // somebody was faster
		}
		s.restarts++
		v.startLocked(s, false) // what is wrong stands in its state
	})
	s.again = planned
}

// cancelRestart takes back a planned restart.
func (s *service) cancelRestart() {
	if s.again != nil {
		s.again.Stop()
		s.again = nil
	}
}

// startLocked starts a service that has no process; v.mu is held. What it needs
// is started with it when a client asks, and must run already when it is the
// supervisor who does. If it cannot be started it is tried again later.
func (v *supervisor) startLocked(s *service, asked bool) error {
	s.cancelRestart()
	if v.closed {
		return errClosed
	}
	if s.broken != "" {
		return fmt.Errorf("%wservice %q cannot start: %s; put it anew", errConflict, s.name, s.broken)
	}
	err := v.startNeeds(s, asked)
	if err == nil {
		err = v.launch(s)
	}
	if err != nil {
		v.restartLater(s, err.Error(), 0)
		return err
	}
	s.failure = ""
	return nil
}

func (v *supervisor) startNeeds(s *service, asked bool) error {
	for _, name := range s.Needs {
		need := v.services[name]
		switch {
		case need == nil || need.gone:
			return fmt.Errorf("it needs service %q, which does not exist", name)
		case need.current != nil && !need.current.leaving && !need.current.over:
		case !asked || need.current != nil:
			return fmt.Errorf("it needs service %q, which does not run", name)
		default:
			need.restarts, need.pause = 0, 0
			if err := v.startLocked(need, true); err != nil {
				return fmt.Errorf("it needs service %q: %w", name, err)
			}
		}
	}
	return nil
}

// State is how a service does.
type State struct {
	Name string `json:"name"`
	// Status is stopped, starting, running, stopping or failed.
	Status       string `json:"status"`
	PID          int    `json:"pid,omitempty"`
	StartedAt    string `json:"started_at,omitempty"` // RFC 3339
	Error        string `json:"error,omitempty"`
	RestartCount int    `json:"restart_count,omitempty"`
	// NextRestartAt is set while the restart of a failed one is awaited.
	NextRestartAt string `json:"next_restart_at,omitempty"` // RFC 3339
}

// view is a service as clients see it.
type view struct {
	Name string `json:"name"`
	Definition
	State State `json:"state"`
}

// view returns what clients see; the supervisor's lock is held.
func (s *service) view() view {
	state := State{Name: s.name, Status: "stopped", Error: s.failure, RestartCount: s.restarts}
	if s.current == nil && s.failure != "" {
		state.Status = "failed"
	}
	if s.again != nil {
		state.NextRestartAt = s.againAt.UTC().Format(time.RFC3339Nano)
	}
	if r := s.current; r != nil {
		state.Status, state.PID = "running", r.pid
		state.StartedAt = r.started.UTC().Format(time.RFC3339Nano)
		if r.leaving {
			state.Status = "stopping"
		}
	}
	return view{s.name, s.Definition, state}
}
