package systrap

import (
	"math"
	"math/rand/v2"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/hostsyscall"
	"gvisor.dev/gvisor/pkg/log"
)

// placement keeps all threads of the sandbox on one processor while the guest has
// little to do, and lets them have every processor when it works without a pause.
//
// A guest's thread and the sentry's that serves it take turns. On two processors
// each turn wakes one that sleeps, which costs more than most system calls do, and
// many times more where the host is a virtual machine. The host's scheduler
// prefers that, because it does not know that the one who wakes is about to wait.
//
// It belongs to the monitor of the fast path, which calls it from one goroutine.
type placement struct {
	// allowed are the processors to choose from; with less than two of them
	// there is nothing to do.
	allowed  []int
	everyone unix.CPUSet
	together bool
	rests    int // how many there were
	next     int // the rest at which the threads are gathered again
}

const (
	// moveEvery is after how many rests a sandbox that is together looks for
	// another place: the first one may have got crowded. One that has too many
	// threads tries again after as many.
	moveEvery = 64
	// maxGathered is how many threads are moved. A guest with more has much to do.
	maxGathered = 256
	// maxGap is how many thread ids in a row may be unused before they are over.
	// Stubs are kept for the next process, so hardly any ids are given back.
	maxGap = 128
)

var threads placement

// init reads which processors there are. It must be called before the sentry
// limits its own system calls.
func (p *placement) init() {
	// In a PID namespace of its own every id is a thread of this sandbox.
	if unix.Getpid() != 1 {
		return
	}
	if err := unix.SchedGetaffinity(0, &p.everyone); err != nil {
		log.Warningf("The sandbox's threads are placed by the host alone: %v", err)
		return
	}
	for cpu := range len(p.everyone) * int(unsafe.Sizeof(p.everyone[0])) * 8 {
		if p.everyone.IsSet(cpu) {
			p.allowed = append(p.allowed, cpu)
		}
	}
}

// gather moves all threads to one processor. It is called at each rest.
func (p *placement) gather() {
	if len(p.allowed) < 2 {
		return
	}
	if p.rests++; p.rests < p.next {
		return
	}
	var one unix.CPUSet
	one.Set(p.allowed[rand.IntN(len(p.allowed))])
	p.together = true
	moved, errno := p.move(&one, maxGathered)
	if errno != 0 || moved > maxGathered {
		p.spread()
	}
	if errno == 0 {
		p.next = p.rests + moveEvery
	}
}

// spread lets all threads run anywhere.
func (p *placement) spread() {
	if p.together {
		p.together, p.next = false, 0
		p.move(&p.everyone, math.MaxInt)
	}
}

// move sets where all threads may run, and those that they start from then on,
// and returns how many there were. It ends at more than limit of them, or with
// the error of a host that refuses.
func (p *placement) move(to *unix.CPUSet, limit int) (moved int, _ unix.Errno) {
	gap := 0
	for tid := 1; gap < maxGap && moved <= limit; tid++ {
		switch errno := hostsyscall.RawSyscallErrno(unix.SYS_SCHED_SETAFFINITY, uintptr(tid), unsafe.Sizeof(*to), uintptr(unsafe.Pointer(to))); errno {
		case 0:
			moved++
			gap = 0
		case unix.ESRCH:
			gap++
		default:
			// EPERM while the sentry starts: one that helps it then has other
			// capabilities. EINVAL: the processor is not there any more.
			return moved, errno
		}
	}
	return moved, 0
}
