package systrap

import (
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
	gathered int // how often
}

const (
	// moveEvery is how many times a sandbox gathers at the same place before it
	// looks for another: the first one may have got crowded.
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

// gather moves all threads to one processor.
func (p *placement) gather() {
	if len(p.allowed) < 2 {
		return
	}
	if p.gathered++; p.together && p.gathered%moveEvery != 0 {
		return
	}
	var one unix.CPUSet
	one.Set(p.allowed[rand.IntN(len(p.allowed))])
	p.together = true
	if !p.move(&one, maxGathered) {
		p.spread()
	}
}

// spread lets all threads run anywhere.
func (p *placement) spread() {
	if p.together {
		p.together = false
		p.move(&p.everyone, 0)
	}
}

// move sets where all threads may run, and those that they start from then on.
// It stops and returns false at more than limit of them, unless that is 0, or
// where the host refuses.
func (p *placement) move(to *unix.CPUSet, limit int) bool {
	moved, gap := 0, 0
	for tid := 1; gap < maxGap; tid++ {
		switch errno := hostsyscall.RawSyscallErrno(unix.SYS_SCHED_SETAFFINITY, uintptr(tid), unsafe.Sizeof(*to), uintptr(unsafe.Pointer(to))); errno {
		case 0:
			moved++
			gap = 0
		case unix.ESRCH:
			gap++
		default: // such as EINVAL: the processor is not there any more
			return false
		}
		if limit > 0 && moved > limit {
			return false
		}
	}
	return true
}
