package machine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/atoll-cloud/atoll/observe"
)

// Reasons for which machines end; the whole list, since metrics count by them.
const (
	ReasonKilled  = "killed"           // somebody asked for it
	ReasonTimeout = "timeout"          // its deadline passed
	ReasonExited  = "the guest exited" // its first process ended or was killed
	ReasonMemory  = "out of memory"    // the host ended it at its memory limit
	ReasonLost    = "lost while the server was down"
	ReasonStopped = "the server was stopped"
	ReasonStuck   = "the guest did not go on after it was stopped"
)

// Reasons for which machines fall asleep and wake.
const (
	ReasonPaused   = "paused" // somebody asked for it
	ReasonIdle     = "idle"
	ReasonPressure = "the host is short of memory"
	ReasonUsed     = "used" // a request came
	ReasonResumed  = "resumed"
	ReasonFailed   = "it could not be woken" // and is as asleep as before

	ReasonRestarted = "restarted" // somebody asked for it
	ReasonRestored  = "a checkpoint was restored"
)

// moves lists, for each state, the states that may follow it:
//
//	creating ──> running ──> frozen ──> stored
//	    │         ^   │ ^──────┘ ^───────┘ │
//	    │         └───┼────────────────────┘
//	    └──────────> ending ──> ended
//
// A running machine may be stored at once; one that is asleep may end.
var moves = map[State][]State{
	Creating: {Running, Ending},
	Running:  {Frozen, Stored, Ending},
	Frozen:   {Running, Stored, Ending},
	Stored:   {Running, Ending},
	Ending:   {Ended},
	Ended:    {},
}

// move is the only way a machine changes state. It records the new state, and
// what edit changes with it, before anybody can see it, then publishes the
// event. The caller holds m.op.
func (e *Engine) move(ctx context.Context, m *instance, to State, reason string, edit func(*Machine)) error {
	record := m.record()
	from := record.State
	if !slices.Contains(moves[from], to) {
		return fmt.Errorf("%w: machine %s is %s and cannot become %s", ErrConflict, record.ID, from, to)
	}
	record.State = to
	now := e.now()
	switch to {
	case Running:
		if from == Creating {
			record.StartedAt = now
		}
		record.AsleepSince, record.AwakeSince = time.Time{}, now
	case Frozen, Stored:
		if !from.Asleep() {
			record.AsleepSince = now
		}
	case Ending:
		record.EndReason = reason
	case Ended:
		record.EndedAt, reason = now, record.EndReason
	}
	if edit != nil {
		edit(&record)
	}
	if err := e.save(ctx, record); err != nil {
		return err
	}
	e.show(m, record)
	e.meterMove(record)
	e.publish(Event{
		Time: now, Machine: record.ID, Team: record.Team, Kind: record.Kind,
		From: from, To: to, Reason: reason, Request: observe.RequestID(ctx),
	})
	return nil
}

// save writes a machine's record: to the running records while it lives, to
// the ended ones, which expire, when it is over.
func (e *Engine) save(ctx context.Context, record Machine) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if record.State != Ended {
		if _, err := e.machines.Put(ctx, record.ID, record); err != nil {
			return fmt.Errorf("record machine %s as %s: %w", record.ID, record.State, err)
		}
		return nil
	}
	if _, err := e.ended.Put(ctx, record.ID, record); err != nil {
		return fmt.Errorf("record machine %s as ended: %w", record.ID, err)
	}
	if err := e.machines.Delete(ctx, record.ID); err != nil {
		return fmt.Errorf("remove the record of machine %s: %w", record.ID, err)
	}
	return nil
}

// recordTimeout bounds a write of one record, which must happen even when the
// client that asked for the change has gone.
const recordTimeout = 10 * time.Second
