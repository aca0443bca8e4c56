package machine

import (
	"testing"
	"time"
)

// A host's clock may be set back while a timer runs.
func TestDeadlineIsKeptWhenItsTimerFiresEarly(t *testing.T) {
	e := &Engine{life: t.Context(), now: func() time.Time { return noon }}
	m := newInstance(Machine{ID: "i", State: Running, Deadline: noon.Add(time.Hour)}, &guest{id: "i"})
	e.expire(m)
	if m.record().State != Running {
		t.Fatal("the machine ended before its deadline")
	}
	if m.timer == nil || !m.timer.Stop() {
		t.Error("no timer will end the machine any more")
	}
}

func TestEndedMachineGetsNoTimer(t *testing.T) {
	e := &Engine{life: t.Context(), now: func() time.Time { return noon }}
	m := newInstance(Machine{ID: "i", State: Ended, Deadline: noon.Add(time.Hour)}, &guest{id: "i"})
	e.expire(m)
	if m.timer != nil {
		m.timer.Stop()
		t.Error("an ended machine waits for its deadline")
	}
}
