package machine

import (
	"context"
	"fmt"
)

// Pause puts a machine to sleep until it is resumed. Its memory is kept with
// its disk, or, with diskOnly, forgotten. A paused one is ErrConflict.
func (e *Engine) Pause(ctx context.Context, id string, diskOnly bool) (Machine, error) {
	return Machine{}, fmt.Errorf("%w: pausing is not there yet", ErrUnavailable)
}

// Resume wakes a paused machine; woken is false if it was not asleep. An image
// that cannot be restored is ErrDamaged or ErrIncompatible; the machine then
// stays paused, and a Reboot still starts it from its disk.
func (e *Engine) Resume(ctx context.Context, id string, spec ResumeSpec) (m Machine, woken bool, err error) {
	return Machine{}, false, fmt.Errorf("%w: resuming is not there yet", ErrUnavailable)
}

// Enter makes sure that a machine is awake and keeps the engine from putting
// it to sleep until leave is called, which must happen exactly once. It fails
// with ErrNotFound, or with ErrPaused where only a resume may wake the machine.
// Of many who enter at once one wakes it and the others wait.
func (e *Engine) Enter(ctx context.Context, id string) (leave func(), err error) {
	if _, err := e.running(id); err != nil {
		return nil, err
	}
	return func() {}, nil
}

// Severed is closed when the connections to a machine are worth nothing any
// more: it was paused or has ended. Each time it wakes there is a new one. For
// unknown machines and those that are not awake it is closed already.
func (e *Engine) Severed(id string) <-chan struct{} { return e.Done(id) }
