//go:build !amd64

package guest

import (
	"errors"
	"syscall"
	"time"
)

var pollingCalls, waitingCalls []uint64

// tracee calls functions in other processes, which is not written for this
// processor: running programs of copies keep their generators.
type tracee struct {
	tid     int
	in      uint64
	waiting bool
}

func attach(int, time.Time, func(int, syscall.WaitStatus)) (*tracee, error) {
	return nil, errors.ErrUnsupported
}

func (t *tracee) blocked() (uint64, bool)                { return 0, false }
func (t *tracee) reach(func(uint64) bool) error          { return errors.ErrUnsupported }
func (t *tracee) stop() error                            { return errors.ErrUnsupported }
func (t *tracee) wake()                                  {}
func (t *tracee) call(uint64, ...uint64) (uint64, error) { return 0, errors.ErrUnsupported }
func (t *tracee) release() error                         { return nil }
