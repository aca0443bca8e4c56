package guest

import (
	"errors"
	"time"
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
// anywhere, so a thread that computes is interrupted as well. Where the main
// thread will come to it soon, python waits for that.
func (a *seeding) python(f pythonFunctions) error {
	mark, soon := uint64(0), false
	err := a.traced(a.pid, func(t *tracee) error {
		err := t.reach(func(uint64) bool { return true })
		if errors.Is(err, errStuck) {
			err = t.stop()
		}
		if err != nil {
			return err
		}
		text, err := t.allocate(f.mmap) // stays: nobody knows when it was read
		if err != nil {
			return err
		}
		if err := writeMemory(a.pid, text, []byte(pythonSeeds)); err != nil {
			return err
		}
		if err := f.callLater(t, f.runString, text); err != nil {
			return err
		}
		// Then it writes the system's name behind the text, which can be seen.
		if err := f.callLater(t, f.uname, text+pythonMark); err != nil {
			return err
		}
		mark, soon = text+pythonMark, !t.waiting
		if locks(t.in) {
			t.wake() // a thread that waits for a lock looks for calls when it is woken
			soon = true
		}
		return nil
	})
	for end := time.Now().Add(reseedPatience); err == nil && soon && time.Now().Before(end); time.Sleep(pythonLook) {
		var written [1]byte
		if readMemory(a.pid, mark, written[:]) != nil || written[0] != 0 {
			break
		}
	}
	return err
}

const (
	// pythonMark is where in its page the interpreter shows that it is done.
	pythonMark = page / 2
	pythonLook = 100 * time.Microsecond
)

// pythonFunctions are the addresses of what is called in an interpreter's process.
type pythonFunctions struct{ mmap, uname, addPendingCall, runString uint64 }

func findPython(list []*image) (f pythonFunctions, ok bool) {
	system, ok := functions(list, "mmap", "uname")
	if !ok {
		return f, false
	}
	python, ok := functions(list, "Py_AddPendingCall", "PyRun_SimpleString")
	if !ok {
		return f, false
	}
	return pythonFunctions{system[0], system[1], python[0], python[1]}, true
}

// callLater has the interpreter call a function with one argument.
func (f pythonFunctions) callLater(t *tracee, function, argument uint64) error {
	result, err := t.call(f.addPendingCall, function, argument)
	if err == nil && int32(result) != 0 {
		err = errUnsafe // too many calls are pending
	}
	return err
}
