package guest

import (
	"errors"

	"golang.org/x/sys/unix"
)

// pythonSeeds runs in the interpreter, in a namespace of its own. It must not
// raise: what it raises would be raised in the program.
const pythonSeeds = `exec("""
try:
    import os, sys
    def seed(name, how):
        module = sys.modules.get(name)
        if module is not None:
            try:
                how(module)
            except Exception:
                pass
    seed('random', lambda m: m.seed())
    seed('numpy.random', lambda m: m.seed())
    seed('_ssl', lambda m: m.RAND_add(os.urandom(32), 32.0))
except BaseException:
    pass
""", {})` + "\x00"

// python makes the interpreter of a process seed its generators as soon as its
// main thread executes Python again: the modules random and numpy.random and
// OpenSSL. What the program made itself (random.Random(), numpy's Generator)
// stays as it is.
//
// The interpreter calls back from its main thread, between two instructions,
// what was given to Py_AddPendingCall. That function may be called from
// anywhere, so a thread that computes is interrupted as well.
func (a *seeding) python(mmap, addPendingCall, runString uint64) error {
	return a.traced(a.pid, func(t *tracee) error {
		err := t.reach(func(uint64) bool { return true })
		if errors.Is(err, errStuck) {
			t.in = 0
			if err = t.standStill(); err == nil {
				err = t.hold()
			}
		}
		if err != nil {
			return err
		}
		address, err := t.allocate(mmap) // stays: nobody knows when it was read
		if err != nil {
			return err
		}
		if err := writeMemory(a.pid, address, []byte(pythonSeeds)); err != nil {
			return err
		}
		if result, err := t.call(addPendingCall, runString, address); err != nil || int32(result) != 0 {
			return errors.Join(err, errUnsafe) // too many calls are pending
		}
		if t.in == unix.SYS_FUTEX {
			t.wake() // a thread that waits for a lock looks for calls when it is woken
		}
		return nil
	})
}
