package guest

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// redZone is what a function may use below its stack pointer without saying so.
	redZone = 128
	// maxVectors bounds the vector registers of a thread, in bytes.
	maxVectors = 16 << 10
	vectorSet  = 0x202 // NT_X86_XSTATE
	// getSignalMask is PTRACE_GETSIGMASK.
	getSignalMask = 0x420a
	// syscallLength is the length of the instruction that enters the kernel.
	syscallLength = 2
	// farewellWait is how long a thread may take to stand still so that it can
	// be let go.
	farewellWait = time.Second
	eventStop    = 128 // PTRACE_EVENT_STOP
)

// pollingCalls are those in which event loops wait, waitingCalls those in which
// other programs do.
var (
	pollingCalls = []uint64{unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2}
	waitingCalls = []uint64{unix.SYS_POLL, unix.SYS_PPOLL, unix.SYS_SELECT, unix.SYS_PSELECT6, unix.SYS_PAUSE,
		unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_WAIT4, unix.SYS_WAITID, unix.SYS_ACCEPT, unix.SYS_ACCEPT4,
		unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_READ, unix.SYS_RT_SIGTIMEDWAIT, unix.SYS_RT_SIGSUSPEND}
)

// tracee is a thread of another process that calls functions for us, as
// debuggers make it. All is done from the OS thread that attached.
type tracee struct {
	tid   int
	limit time.Time
	// regs and vectors are what the thread goes on with.
	regs    unix.PtraceRegs
	vectors []byte
	// in is the kernel's call in or after which it stands, if any.
	in uint64
	// waiting is set when it was interrupted while it waited there.
	waiting bool
	// changed is set when the thread has other registers than those.
	changed bool
	// running is set while the thread may execute.
	running bool
	// exited takes the status of a thread that ended while it was traced.
	exited func(pid int, status syscall.WaitStatus)
}

// attach stops a thread. The caller has locked its OS thread, sees to it that
// nobody else waits for children, and calls release.
func attach(tid int, limit time.Time, exited func(int, syscall.WaitStatus)) (*tracee, error) {
	t := &tracee{tid: tid, limit: limit, running: true, exited: exited}
	if err := t.request(unix.PTRACE_SEIZE, 0, unix.PTRACE_O_TRACESYSGOOD); err != nil {
		return nil, fmt.Errorf("trace thread %d: %w", tid, err)
	}
	if err := t.interrupt(); err != nil {
		return nil, errors.Join(fmt.Errorf("stop thread %d: %w", tid, err), t.release())
	}
	return t, nil
}

func (t *tracee) request(request, address, data uintptr) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, request, uintptr(t.tid), address, data, 0, 0); errno != 0 {
		if errno == unix.ESRCH {
			return errGone
		}
		return errno
	}
	return nil
}

// interrupt makes a running thread stand still and reads its registers.
func (t *tracee) interrupt() error {
	for {
		// Any other stop takes the request back.
		if err := t.request(unix.PTRACE_INTERRUPT, 0, 0); err != nil {
			return err
		}
		status, err := t.wait()
		if err != nil {
			return err
		}
		if int(status)>>16 == eventStop {
			if status.StopSignal() != unix.SIGTRAP {
				return fmt.Errorf("%w: it is stopped", errUnsafe)
			}
			return t.read()
		}
		if err := t.resume(unix.PTRACE_CONT, passOn(status)); err != nil {
			return err
		}
	}
}

// passOn returns the signal that a thread was about to get.
func passOn(status unix.WaitStatus) uintptr {
	if sig := status.StopSignal(); sig != unix.SIGTRAP && sig != unix.SIGTRAP|0x80 {
		return uintptr(sig)
	}
	return 0
}

// wait returns the next stop of the thread, errStuck when there is none in time.
func (t *tracee) wait() (unix.WaitStatus, error) {
	for round := 0; ; round++ {
		var status unix.WaitStatus
		tid, err := unix.Wait4(t.tid, &status, unix.WNOHANG|unix.WALL, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, errGone
		case tid == t.tid && status.Stopped():
			t.running = false
			return status, nil
		case tid == t.tid:
			t.exited(tid, syscall.WaitStatus(status))
			return 0, errGone
		}
		if time.Now().After(t.limit) {
			return 0, errStuck
		}
		if round < quickLooks {
			runtime.Gosched()
			continue
		}
		time.Sleep(min(slowLook<<min(round-quickLooks, 10), time.Millisecond))
	}
}

// A thread stops within microseconds or has something to do.
const (
	quickLooks = 20
	slowLook   = 50 * time.Microsecond
)

func (t *tracee) resume(how, signal uintptr) error {
	err := t.request(how, 0, signal)
	t.running = err == nil
	return err
}

func (t *tracee) read() error {
	if err := unix.PtraceGetRegs(t.tid, &t.regs); err != nil {
		return errGone
	}
	return nil
}

// blocked reports whether the thread was waiting in the kernel when it was
// stopped, and in which call.
func (t *tracee) blocked() (call uint64, yes bool) {
	switch errno := -int64(t.regs.Rax); errno {
	case int64(unix.EINTR), restartSys, restartNoIntr, restartNoHand, restartBlock:
		return t.regs.Orig_rax, int64(t.regs.Orig_rax) >= 0
	}
	return 0, false
}

// What the kernel has a thread return that was interrupted in a call which is
// to begin again.
const (
	restartSys    = 512
	restartNoIntr = 513
	restartNoHand = 514
	restartBlock  = 516
)

// reach lets the thread run until it stands in one of the wanted calls to the
// kernel. Only there does it hold nothing that the functions called for us need.
func (t *tracee) reach(wanted func(call uint64) bool) error {
	was, waiting := t.blocked()
	if waiting && !wanted(was) {
		return fmt.Errorf("%w: it waits in call %d", errUnsafe, was)
	}
	signal := uintptr(0)
	for {
		// The kernel's own account of a thread's vector registers may be stale
		// until the thread enters it again while it is traced (gVisor), so even
		// one that stands in the right place has to enter once more.
		if err := t.resume(unix.PTRACE_SYSCALL, signal); err != nil {
			return err
		}
		status, err := t.wait()
		if err != nil {
			return err
		}
		signal = passOn(status)
		if status.StopSignal() != unix.SIGTRAP|0x80 {
			continue
		}
		if err := t.read(); err != nil {
			return err
		}
		if t.regs.Rax != ^uint64(unix.ENOSYS)+1 { // it leaves the call
			continue
		}
		call := t.regs.Orig_rax
		if call == unix.SYS_RESTART_SYSCALL && waiting {
			call = was
		}
		if !wanted(call) {
			continue
		}
		// It goes into the call, and is stopped in it or right after.
		if err := t.request(unix.PTRACE_INTERRUPT, 0, 0); err != nil {
			return err
		}
		if err := t.resume(unix.PTRACE_CONT, 0); err != nil {
			return err
		}
		if status, err = t.wait(); err != nil {
			return err
		}
		if int(status)>>16 == eventStop {
			t.in = call
			return t.hold(true)
		}
		signal = passOn(status) // its handler comes first
	}
}

// hold keeps the registers that the thread will go on with. inCall says that
// they are those of a call to the kernel, which may have to begin again.
func (t *tracee) hold(inCall bool) error {
	if err := t.read(); err != nil {
		return err
	}
	var blocked uint64
	if err := t.request(getSignalMask, unsafe.Sizeof(blocked), uintptr(unsafe.Pointer(&blocked))); err != nil {
		return fmt.Errorf("read the signals that thread %d blocks: %w", t.tid, err)
	}
	if blocked&(1<<(unix.SIGSEGV-1)) != 0 {
		return fmt.Errorf("%w: it blocks the signal that ends a call", errUnsafe)
	}
	t.vectors = make([]byte, maxVectors)
	n, err := t.vectorState(unix.PTRACE_GETREGSET, t.vectors)
	if err != nil {
		return fmt.Errorf("read the registers of thread %d: %w", t.tid, err)
	}
	t.vectors = t.vectors[:n]
	if !inCall {
		return nil
	}
	_, t.waiting = t.blocked()
	again := uint64(0)
	switch -int64(t.regs.Rax) {
	case restartSys, restartNoIntr, restartNoHand:
		again = t.regs.Orig_rax
	case restartBlock:
		again = unix.SYS_RESTART_SYSCALL
	default:
		t.regs.Orig_rax = ^uint64(0) // nothing to begin again
		return nil
	}
	t.regs.Rip -= syscallLength
	t.regs.Rax = again
	t.regs.Orig_rax = ^uint64(0)
	// Now the kernel must not do the same on top.
	t.changed = true
	return nil
}

func (t *tracee) vectorState(request uintptr, data []byte) (int, error) {
	vector := unix.Iovec{Base: &data[0], Len: uint64(len(data))}
	err := t.request(request, vectorSet, uintptr(unsafe.Pointer(&vector)))
	return int(vector.Len), err
}

// wake has a thread find that its wait was interrupted, where it would else
// begin again.
func (t *tracee) wake() {
	if t.changed && t.regs.Rax == t.in {
		t.regs.Rip += syscallLength
		t.regs.Rax = ^uint64(unix.EINTR) + 1
	}
}

// stop makes the thread stand still wherever it is, between two instructions.
func (t *tracee) stop() error {
	t.limit = time.Now().Add(farewellWait)
	if err := t.interrupt(); err != nil {
		return err
	}
	if _, waits := t.blocked(); waits {
		// It has come to a call meanwhile. Whether that begins again after calls of
		// ours is left to chance (gVisor hands the program an error that no
		// program knows), so it goes in once more, where reach sees to it.
		return t.reach(func(uint64) bool { return true })
	}
	return t.hold(false)
}

// call makes the thread call a function of at most six whole numbers. The thread
// has reached a place where it may.
func (t *tracee) call(function uint64, arguments ...uint64) (result uint64, err error) {
	t.limit = time.Now().Add(reseedCall)
	regs := t.regs
	regs.Rsp = (regs.Rsp-redZone)&^15 - 8
	// It returns to where nothing is, which stops it again.
	if err := writeMemory(t.tid, regs.Rsp, make([]byte, 8)); err != nil {
		return 0, fmt.Errorf("prepare a call in thread %d: %w", t.tid, err)
	}
	for i, register := range []*uint64{&regs.Rdi, &regs.Rsi, &regs.Rdx, &regs.Rcx, &regs.R8, &regs.R9} {
		if i < len(arguments) {
			*register = arguments[i]
		}
	}
	const directionFlag = 0x400
	regs.Rip, regs.Rax, regs.Orig_rax = function, 0, ^uint64(0)
	regs.Eflags &^= directionFlag
	t.changed = true
	if err := unix.PtraceSetRegs(t.tid, &regs); err != nil {
		return 0, fmt.Errorf("prepare a call in thread %d: %w", t.tid, err)
	}
	signal := uintptr(0)
	for {
		if err := t.resume(unix.PTRACE_CONT, signal); err != nil {
			return 0, err
		}
		status, err := t.wait()
		if err != nil {
			return 0, err
		}
		signal = passOn(status)
		if status.StopSignal() != unix.SIGSEGV {
			continue
		}
		var after unix.PtraceRegs
		if err := unix.PtraceGetRegs(t.tid, &after); err != nil {
			return 0, errGone
		}
		if after.Rip == 0 && after.Rsp == regs.Rsp+8 {
			return after.Rax, nil
		}
		// The function itself failed; its process must not die of it.
		return 0, fmt.Errorf("thread %d failed in the call", t.tid)
	}
}

// release lets the thread go on as if nothing had been.
func (t *tracee) release() error {
	signal := uintptr(0)
	if t.running {
		t.limit = time.Now().Add(farewellWait)
		if err := t.request(unix.PTRACE_INTERRUPT, 0, 0); err != nil {
			return err
		}
		status, err := t.wait()
		if err != nil {
			return fmt.Errorf("let thread %d go: %w", t.tid, err)
		}
		if signal = passOn(status); t.changed && status.StopSignal() == unix.SIGSEGV {
			signal = 0 // a call came back after all
		}
	}
	var failed error
	if t.changed {
		if len(t.vectors) > 0 {
			_, failed = t.vectorState(unix.PTRACE_SETREGSET, t.vectors)
		}
		failed = errors.Join(failed, unix.PtraceSetRegs(t.tid, &t.regs))
	}
	return errors.Join(failed, t.request(unix.PTRACE_DETACH, 0, signal))
}
