package guest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	processpb "github.com/atoll-cloud/atoll/wire/process"
)

// talker is a process that answers lines with lines.
type talker struct {
	m    *machine
	pid  uint32
	text string
	from *connect.ServerStreamForClient[processpb.StartResponse]
}

func (m *machine) talk(command string, args ...string) *talker {
	m.t.Helper()
	stdin := true
	stream, err := m.process.Start(deadline(m.t), connect.NewRequest(&processpb.StartRequest{
		Process: &processpb.ProcessConfig{Cmd: command, Args: args, Envs: map[string]string{"PATH": os.Getenv("PATH")}}, Stdin: &stdin,
	}))
	if err != nil || !stream.Receive() {
		m.t.Fatal("start", command, err, stream.Err())
	}
	m.t.Cleanup(func() { stream.Close() })
	return &talker{m: m, pid: stream.Msg().GetEvent().GetStart().GetPid(), from: stream}
}

// line returns the next line that the process writes.
func (p *talker) line() string {
	p.m.t.Helper()
	for {
		if line, rest, ok := strings.Cut(p.text, "\n"); ok {
			p.text = rest
			return line
		}
		if !p.from.Receive() {
			p.m.t.Fatal("the process ended:", p.from.Err())
		}
		event := p.from.Msg().GetEvent()
		p.text += string(event.GetData().GetStdout())
		if text := event.GetData().GetStderr(); len(text) > 0 {
			p.m.t.Errorf("standard error: %s", text)
		}
		if end := event.GetEnd(); end != nil {
			p.m.t.Fatal("the process ended:", end)
		}
	}
}

// ask sends a line and returns the answer.
func (p *talker) ask(line string) string {
	p.m.t.Helper()
	_, err := p.m.process.SendInput(deadline(p.m.t), connect.NewRequest(&processpb.SendInputRequest{
		Process: selector(p.pid), Input: &processpb.ProcessInput{Input: &processpb.ProcessInput_Stdin{Stdin: []byte(line + "\n")}},
	}))
	if err != nil {
		p.m.t.Fatal(err)
	}
	return p.line()
}

func selector(pid uint32) *processpb.ProcessSelector {
	return &processpb.ProcessSelector{Selector: &processpb.ProcessSelector_Pid{Pid: pid}}
}

// seed gives one process new seeds and tells how many took them.
func (m *machine) seed(pid uint32) {
	m.t.Helper()
	runtime.LockOSThread() // tracing belongs to one thread
	defer runtime.UnlockOSThread()
	busy := []int{int(pid)}
	eventually(m.t, "new seeds", func() bool {
		var seeded int
		seeded, busy = m.server.reseedAll(busy, time.Now().Add(reseedEnd))
		if seeded == 0 && len(busy) == 0 {
			log, _ := os.ReadFile(m.logged.Name())
			m.t.Fatalf("process %d got no new seeds: %s", pid, log)
		}
		return seeded == 1
	})
}

// foretold is what Python's random answers first after random.seed(1).
const foretold = "0.13436424411240122"

func TestPythonDrawsAnew(t *testing.T) {
	loop := "for line in sys.stdin: print(random.random(), flush=True)\n"
	for name, program := range map[string]string{
		"waiting for input": "import random, sys\nrandom.seed(1); print('ready', flush=True)\n" + loop,
		"waiting for a thread": "import random, sys, threading\nrandom.seed(1)\ndef f():\n  " + loop +
			"t = threading.Thread(target=f); t.start(); print('ready', flush=True); t.join()\n",
		"waiting with a time limit": "import random, sys, select\nrandom.seed(1); print('ready', flush=True)\n" +
			"while True:\n  if select.select([0], [], [], 1000)[0]: sys.stdin.readline(); print(random.random(), flush=True)\n",
		"computing": "import random, sys, os\nrandom.seed(1); print('ready', flush=True); os.set_blocking(0, False)\n" +
			"while True:\n  for i in range(1000000): pass\n  if sys.stdin.readline(): print(random.random(), flush=True)\n",
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			p := m.talk("python3", "-c", program)
			p.line()
			m.seed(p.pid)
			for range 3 {
				if got := p.ask(""); got == foretold || !strings.HasPrefix(got, "0.") {
					t.Error("drew", got)
				}
			}
		})
	}
}

// nodeServer evaluates lines.
const nodeServer = `const crypto = require('crypto');
require('readline').createInterface({input: process.stdin}).on('line', l => console.log(eval(l)));
console.log('ready')`

func TestNodeDrawsAnew(t *testing.T) {
	m := newMachine(t)
	p := m.talk("node", "--random-seed=1", "-e", nodeServer)
	p.line()
	uuid := p.ask("crypto.randomUUID()")
	number := p.ask("crypto.randomInt(2 ** 48 - 1)")
	twin := m.talk("node", "--random-seed=1", "-e", nodeServer)
	twin.line()
	first := twin.ask("Math.random()")
	second := twin.ask("Math.random()")
	if got := p.ask("Math.random()"); got != first {
		t.Fatal("processes with the same seed differ")
	}
	// What was drawn ahead lies in memory behind what was handed out.
	nextUUID := parseUUID(t, m.after(p.pid, parseUUID(t, uuid), 16))
	nextNumber := m.after(p.pid, sixBytes(t, number), 6)
	m.seed(p.pid)
	if got := parseUUID(t, []byte(p.ask("crypto.randomUUID()"))); bytes.Equal(got, nextUUID) {
		t.Errorf("drew the UUID %x that was drawn ahead", got)
	}
	if got := sixBytes(t, p.ask("crypto.randomInt(2 ** 48 - 1)")); bytes.Equal(got, nextNumber) {
		t.Errorf("drew the integer %x that was drawn ahead", got)
	}
	if got := p.ask("Math.random()"); got == second {
		t.Error("Math.random goes on with", got)
	} else if p.ask("process.versions.v8 < '13'") == "true" && got != first {
		t.Errorf("with a fixed seed Math.random begins again at %s when it is seeded, and went on with %s", first, got)
	}
}

// TestSeedsDisturbNothing: a program that computes, with timers, gets new seeds
// many times and computes the same.
func TestSeedsDisturbNothing(t *testing.T) {
	m := newMachine(t)
	p := m.talk("node", "-e", nodeServer+`
let ticks = 0; setInterval(() => ticks++, 1);
const compute = () => { let x = 1; for (let i = 1; i < 3000; i++) x = Math.sin(x * i) + Math.sqrt(i); return x; };`)
	p.line()
	want := p.ask("compute()")
	ticks, _ := strconv.Atoi(p.ask("ticks"))
	for range 20 {
		m.seed(p.pid)
		if got := p.ask("compute()"); got != want {
			t.Errorf("computed %s, and %s before", got, want)
		}
	}
	if after, _ := strconv.Atoi(p.ask("ticks")); after <= ticks {
		t.Error("timers stand still")
	}
}

func TestOpenSSLTakesEntropy(t *testing.T) {
	m := newMachine(t)
	p := m.talk("node", "-e", nodeServer)
	p.line()
	list := images(int(p.pid), "libcrypto.so", "libnode.so")
	for _, im := range list {
		if err := im.load(); err != nil {
			t.Error(im.path, err)
		}
	}
	poll, ok := functions(list, "RAND_poll")
	if !ok {
		t.Fatal("node does not export RAND_poll")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var err error
	testSpawner.alone(func() { err = (&seeding{pid: int(p.pid), exited: testSpawner.deliver}).openssl(poll[0]) })
	if err != nil {
		t.Error(err)
	}
}

// TestStopsInCalls: a thread that was stopped while it waited in the kernel goes
// on with a call that it begins anew, not with what the kernel keeps for itself.
func TestStopsInCalls(t *testing.T) {
	m := newMachine(t)
	stream, err := m.process.Start(deadline(t), connect.NewRequest(&processpb.StartRequest{
		Process: &processpb.ProcessConfig{Cmd: "/bin/sleep", Args: []string{"1000"}}}))
	if err != nil || !stream.Receive() {
		t.Fatal(err)
	}
	pid := int(stream.Msg().GetEvent().GetStart().GetPid())
	sleeps := func() bool {
		return strings.Contains(readBounded(fmt.Sprintf("/proc/%d/stat", pid), page), ") S ")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	testSpawner.alone(func() {
		err = (&seeding{pid: pid, exited: testSpawner.deliver}).traced(pid, func(th *tracee) error {
			if err := th.resume(unix.PTRACE_CONT, 0); err != nil {
				return err
			}
			eventually(t, "sleep", sleeps)
			if err := th.stop(); err != nil {
				return err
			}
			// The call may be the one by which waits go on.
			if _, yes := th.blocked(); yes || th.in == 0 {
				t.Errorf("stands in call %d, and would go on with %d", th.in, int64(th.regs.Rax))
			}
			return nil
		})
	})
	if err != nil {
		t.Error(err)
	}
	eventually(t, "sleep again", sleeps)
}

// TestSeedsOfTheEnding: a process that ends while it is looked at is reported
// as ended.
func TestSeedsOfTheEnding(t *testing.T) {
	m := newMachine(t)
	stream, err := m.process.Start(deadline(t), connect.NewRequest(&processpb.StartRequest{
		Process: &processpb.ProcessConfig{Cmd: "/bin/sleep", Args: []string{"1000"}}}))
	if err != nil || !stream.Receive() {
		t.Fatal(err)
	}
	pid := int(stream.Msg().GetEvent().GetStart().GetPid())
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	testSpawner.alone(func() {
		err = (&seeding{pid: pid, exited: testSpawner.deliver}).traced(pid, func(t *tracee) error {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				return err
			}
			return t.reach(func(uint64) bool { return false })
		})
	})
	if !errors.Is(err, errGone) {
		t.Error(err)
	}
	if o := collect(stream, func() *processpb.ProcessEvent { return stream.Msg().GetEvent() }); o.end.GetStatus() != "signal: killed" {
		t.Error(o)
	}
}

// FuzzSymbols reads images that programs may have made up.
func FuzzSymbols(f *testing.F) {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(program[:4096], uint64(64))
	f.Add([]byte("\x7fELF\x02\x01"), uint64(0))
	f.Fuzz(func(t *testing.T, memory []byte, base uint64) {
		im := &image{base: base, code: []span{{0, ^uint64(0)}}, read: func(address uint64, data []byte) error {
			if address -= base; address >= uint64(len(memory)) || uint64(len(data)) > uint64(len(memory))-address {
				return syscall.EFAULT
			}
			copy(data, memory[address:])
			return nil
		}}
		if im.load() == nil {
			im.function("RAND_poll")
		}
	})
}

// fixed are the bits of a UUID that are not random.
var fixed = []byte{0, 0, 0, 0, 0, 0, 0xf0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0}

// parseUUID returns the random bits of a UUID, as text or bytes.
func parseUUID[T string | []byte](t *testing.T, uuid T) []byte {
	t.Helper()
	data := []byte(uuid)
	if len(data) == 36 {
		var err error
		if data, err = hex.DecodeString(strings.ReplaceAll(string(uuid), "-", "")); err != nil {
			t.Fatal(err)
		}
	}
	for i := range data {
		data[i] &^= fixed[i]
	}
	return data
}

func sixBytes(t *testing.T, number string) []byte {
	t.Helper()
	n, err := strconv.ParseUint(number, 10, 48)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := hex.DecodeString(fmt.Sprintf("%012x", n))
	return data
}

// after searches a process's memory and returns what follows the bytes.
func (m *machine) after(pid uint32, wanted []byte, size int) []byte {
	m.t.Helper()
	var found []byte
	for line := range strings.Lines(readBounded(fmt.Sprintf("/proc/%d/maps", pid), maxMaps)) {
		var start, end uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &start, &end, &mode); err != nil || mode != "rw-p" || end-start > 1<<28 {
			continue
		}
		data := make([]byte, end-start)
		if readMemory(int(pid), start, data) != nil {
			continue
		}
		// The first four bytes of a UUID are all random.
		for at := 0; ; at++ {
			next := bytes.Index(data[at:], wanted[:4])
			if next < 0 {
				break
			}
			at += next
			if at+2*len(wanted) > len(data) {
				break
			}
			candidate := bytes.Clone(data[at : at+len(wanted)])
			if len(wanted) == 16 {
				candidate = parseUUID(m.t, candidate)
			}
			behind := data[at+len(wanted):][:size]
			if bytes.Equal(candidate, wanted) && !bytes.Equal(behind, make([]byte, size)) {
				found = bytes.Clone(behind)
			}
		}
	}
	if found == nil {
		m.t.Fatalf("%x is not in the memory of process %d", wanted, pid)
	}
	return found
}
