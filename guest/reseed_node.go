package guest

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// Engines of Node.js whose functions take and return what is assumed here.
const (
	oldestV8 = 10 // Node.js 18
	newestV8 = 13 // Node.js 24
)

// nodeSeeds uses up what Node.js has drawn ahead, 128 UUIDs and 1024 integers.
// A module has no way to crypto in some versions, but to a function that draws
// UUIDs. Before that it takes as many numbers of Math.random as it is told:
// where its state cannot be renewed, copies are at least not in step.
const nodeSeeds = `(() => { try {
for (let i = %d; i > 0; i--) Math.random();
if (!process.moduleLoadList.includes('NativeModule internal/crypto/random')) return;
const crypto = process.getBuiltinModule ? process.getBuiltinModule('crypto') :
  process.mainModule ? process.mainModule.require('crypto') :
  typeof require === 'function' ? require('crypto') : undefined;
if (crypto) {
  for (let i = 0; i < 128; i++) crypto.randomUUID();
  for (let i = 0; i < 1024; i++) crypto.randomInt(2);
} else {
  const blob = new Blob([]);
  for (let i = 0; i < 128; i++) URL.revokeObjectURL(URL.createObjectURL(blob));
}
} catch {} })()`

// mostSkipped bounds the numbers of Math.random that are taken, some 20 ns each.
const mostSkipped = 1 << 16

// nodeFunctions are the addresses of what is called in a process of Node.js.
type nodeFunctions struct {
	mmap, munmap uint64

	version, isolate, openScope, closeScope uint64
	context, newString, compile, run        uint64
	// Of Math.random; 0 where the engine does not export them.
	generator, setSeed, reset uint64
}

func findNode(list []*image) *nodeFunctions {
	f, ok := functions(list,
		"_ZN2v82V810GetVersionEv", "_ZN2v87Isolate13TryGetCurrentEv",
		"_ZN2v811HandleScopeC1EPNS_7IsolateE", "_ZN2v811HandleScopeD1Ev",
		"_ZN2v87Isolate17GetCurrentContextEv",
		"_ZN2v86String11NewFromUtf8EPNS_7IsolateEPKcNS_13NewStringTypeEi",
		"_ZN2v86Script7CompileENS_5LocalINS_7ContextEEENS1_INS_6StringEEEPNS_12ScriptOriginE",
		"_ZN2v86Script3RunENS_5LocalINS_7ContextEEE")
	memory, hasMemory := functions(list, "mmap", "munmap")
	if !ok || !hasMemory {
		return nil
	}
	n := &nodeFunctions{mmap: memory[0], munmap: memory[1], version: f[0], isolate: f[1], openScope: f[2], closeScope: f[3],
		context: f[4], newString: f[5], compile: f[6], run: f[7]}
	for _, reset := range []string{"NS0_7ContextE", "NS0_6TaggedINS0_7ContextEEE"} {
		m, ok := functions(list, "_ZN2v88internal7Isolate23random_number_generatorEv",
			"_ZN2v84base21RandomNumberGenerator7SetSeedEl", "_ZN2v88internal10MathRandom12ResetContextE"+reset)
		if ok {
			n.generator, n.setSeed, n.reset = m[0], m[1], m[2]
		}
	}
	return n
}

// node seeds OpenSSL, whose RAND_poll is given, and renews what each event loop
// of the process has drawn ahead. Threads that wait for something else belong to
// pools and have no JavaScript.
func (a *seeding) node(n *nodeFunctions, poll uint64) error {
	var failed error
	for _, tid := range a.threads() {
		err := a.traced(tid, func(t *tracee) error {
			if call, waiting := t.blocked(); waiting && !polls(call) {
				return nil
			}
			if err := t.reach(pollsOrLocks); err != nil {
				return err
			}
			if locks(t.in) {
				return n.expectPool(t)
			}
			if err := t.pollEntropy(poll); err != nil {
				return err
			}
			poll = 0 // once is enough for all threads
			return n.renew(t)
		})
		if err != nil && !errors.Is(err, errGone) {
			failed = errors.Join(failed, err)
		}
	}
	if failed == nil && poll != 0 {
		return errUnsafe // no event loop was waiting
	}
	return failed
}

// expectPool fails for a thread that waits for a lock and has JavaScript all
// the same.
func (n *nodeFunctions) expectPool(t *tracee) error {
	isolate, err := t.call(n.isolate) // only looks at a variable of the thread
	if err == nil && isolate != 0 {
		err = errUnsafe
	}
	return err
}

// renew makes a thread that waits for events run the script.
func (n *nodeFunctions) renew(t *tracee) error {
	if supported, err := n.supported(t); err != nil || !supported {
		return err
	}
	isolate, err := t.call(n.isolate)
	if err != nil || isolate == 0 {
		return err
	}
	memory, err := t.allocate(n.mmap)
	if err != nil {
		return err
	}
	const scopeSize = 64
	scope, text := memory, memory+scopeSize
	err = writeMemory(t.tid, text, n.script())
	if err == nil {
		_, err = t.call(n.openScope, scope, isolate)
	}
	if err != nil {
		return err
	}
	err = n.runScript(t, isolate, text)
	_, closed := t.call(n.closeScope, scope)
	_, freed := t.call(n.munmap, memory, page)
	return errors.Join(err, closed, freed)
}

// script returns what the engine is to run.
func (n *nodeFunctions) script() []byte {
	skipped := 0
	if n.reset == 0 {
		skipped = 1 + int(randomNumber()%mostSkipped)
	}
	return append(fmt.Appendf(nil, nodeSeeds, skipped), 0)
}

// randomNumber comes from the kernel.
func randomNumber() uint64 {
	var data [8]byte
	rand.Read(data[:])
	return binary.LittleEndian.Uint64(data[:])
}

// supported reports whether the engine is one that we know.
func (n *nodeFunctions) supported(t *tracee) (bool, error) {
	address, err := t.call(n.version)
	if err != nil {
		return false, err
	}
	var text [8]byte
	if err := readMemory(t.tid, address, text[:]); err != nil {
		return false, fmt.Errorf("read the version of V8: %w", err)
	}
	major, _, _ := bytes.Cut(text[:], []byte("."))
	number, err := strconv.Atoi(string(major))
	return err == nil && oldestV8 <= number && number <= newestV8, nil
}

func (n *nodeFunctions) runScript(t *tracee, isolate, text uint64) error {
	context, err := t.call(n.context, isolate)
	if err != nil || context == 0 {
		return err
	}
	if err := n.seedMath(t, isolate, context); err != nil {
		return err
	}
	const untilNUL = uint64(1<<32 - 1) // -1
	source, err := t.call(n.newString, isolate, text, 0, untilNUL)
	if err != nil || source == 0 {
		return err
	}
	script, err := t.call(n.compile, context, source, 0)
	if err != nil || script == 0 {
		return err
	}
	_, err = t.call(n.run, script, context)
	return err
}

// seedMath gives Math.random of a context a new state.
func (n *nodeFunctions) seedMath(t *tracee, isolate, context uint64) error {
	if n.reset == 0 {
		return nil
	}
	var object [8]byte
	if err := readMemory(t.tid, context, object[:]); err != nil {
		return fmt.Errorf("read a context: %w", err)
	}
	generator, err := t.call(n.generator, isolate)
	if err != nil || generator == 0 {
		return err
	}
	if _, err := t.call(n.setSeed, generator, randomNumber()); err != nil {
		return err
	}
	_, err = t.call(n.reset, binary.LittleEndian.Uint64(object[:]))
	return err
}
