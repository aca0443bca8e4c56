package guest

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// reseedPatience is how long one thread may take to come to a place where its
	// generators can be seeded. Right after a restore every page is touched for
	// the first time.
	reseedPatience = 100 * time.Millisecond
	// reseedCall bounds what a function that is called for us may take.
	reseedCall = 5 * time.Second
	// reseedRound bounds the first round: whom it does not come to is busy.
	// Where the host has no processor to spare, all take their time.
	reseedRound = time.Second
	// reseedWait is how long the copy waits for those that were busy.
	reseedWait = 300 * time.Millisecond
	// reseedEnd is when processes that never came to such a place are left
	// alone, and reseedPause how long they have before the second attempt.
	reseedEnd   = 3 * time.Second
	reseedPause = 20 * time.Millisecond
)

var (
	errUnsafe = errors.New("the thread is not where it can be interrupted")
	errGone   = errors.New("the thread has ended")
	errStuck  = errors.New("the thread did not come back")
)

// reseed gives the random number generators that live in running processes new
// seeds: a copy of a machine must not draw the numbers that the machine it was
// copied of draws. The kernel's own differs by itself. It returns when all have
// them or after some rounds over all processes; those that are still busy are
// tried again until reseedEnd, by a goroutine that ends on its own.
func (s *Server) reseed() {
	first := make(chan struct{})
	go func() {
		// Tracing belongs to one thread, which is not given back: should
		// anything be left undone, its end lets the traced threads go.
		runtime.LockOSThread()
		begin := time.Now()
		seeded, busy := s.reseedAll(processes(), begin.Add(reseedRound))
		for len(busy) > 0 && time.Since(begin) < reseedWait {
			time.Sleep(reseedPause)
			var again int
			again, busy = s.reseedAll(busy, begin.Add(reseedRound))
			seeded += again
		}
		close(first)
		s.log.Write("info", "gave running processes new random seeds", "processes", strconv.Itoa(seeded),
			"busy", strconv.Itoa(len(busy)), "took", time.Since(begin).String())
		for pause := reseedPause; len(busy) > 0 && time.Since(begin) < reseedEnd; pause *= 2 {
			time.Sleep(pause)
			_, busy = s.reseedAll(busy, begin.Add(reseedEnd))
		}
		for _, pid := range busy {
			s.log.Write("warn", "a process was too busy to get new random seeds: it may draw the same numbers as other copies",
				"pid", strconv.Itoa(pid))
		}
	}()
	<-first
}

// processes returns the numbers of all others.
func processes() []int {
	return slices.DeleteFunc(numbers("/proc"), func(pid int) bool { return pid == os.Getpid() })
}

// numbers returns the entries of a directory that are numbers.
func numbers(dir string) []int {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var list []int
	for _, entry := range entries {
		if n, err := strconv.Atoi(entry.Name()); err == nil {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

// reseedAll returns how many processes have new seeds and which of the others
// may get them later.
func (s *Server) reseedAll(pids []int, end time.Time) (seeded int, busy []int) {
	for i, pid := range pids {
		if time.Now().After(end) {
			return seeded, append(busy, pids[i:]...)
		}
		run := inspect(pid)
		if run == nil {
			continue
		}
		// Stops of traced threads must not be taken for ends of children.
		var err error
		s.spawner.alone(func() { err = run(&seeding{pid: pid, exited: s.spawner.deliver}) })
		switch {
		case err == nil:
			seeded++
		case errors.Is(err, errUnsafe), errors.Is(err, errStuck):
			busy = append(busy, pid)
		case !errors.Is(err, errGone):
			s.log.Write("warn", "a process got no new random seeds: it may draw the same numbers as other copies",
				"pid", strconv.Itoa(pid), "error", err.Error())
		}
	}
	return seeded, busy
}

// seeding is one attempt at one process.
type seeding struct {
	pid    int
	exited func(pid int, status syscall.WaitStatus)
}

// inspect returns how to seed the generators of a process, nil when it has
// none that we know.
func inspect(pid int) func(*seeding) error {
	list := images(pid, "libc.so", "libc-", "ld-musl-", "libcrypto.so", "libpython", "libnode.so")
	list = slices.DeleteFunc(list, func(im *image) bool { return im.load() != nil })
	if python, ok := findPython(list); ok {
		return func(a *seeding) error { return a.python(python) }
	}
	poll := uint64(0)
	if openssl, ok := functions(list, "RAND_poll"); ok {
		poll = openssl[0]
	}
	if node := findNode(list); node != nil {
		return func(a *seeding) error { return a.node(node, poll) }
	}
	if poll == 0 {
		return nil
	}
	return func(a *seeding) error { return a.openssl(poll) }
}

// page is how much memory is asked for in a process, for text, in bytes.
const page = 4096

// allocate returns memory of the process that can be written to.
func (t *tracee) allocate(mmap uint64) (uint64, error) {
	const nowhere = ^uint64(0)
	address, err := t.call(mmap, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, nowhere, 0)
	if err == nil && address == nowhere {
		err = unix.ENOMEM
	}
	return address, err
}

// waits reports calls in which threads wait for the outside: whoever is in one
// holds no lock of the library that seeds or is seeded.
func waits(call uint64) bool {
	return polls(call) || slices.Contains(waitingCalls, call)
}

// polls reports the calls in which event loops wait, locks that in which threads
// wait for each other.
func polls(call uint64) bool        { return slices.Contains(pollingCalls, call) }
func locks(call uint64) bool        { return call == unix.SYS_FUTEX }
func pollsOrLocks(call uint64) bool { return polls(call) || locks(call) }

// openssl makes one thread of the process that waits call RAND_poll, which
// takes new entropy from the kernel; generators of other threads follow when
// they are used next.
func (a *seeding) openssl(poll uint64) error {
	failed := errUnsafe
	for _, tid := range a.threads() {
		err := a.traced(tid, func(t *tracee) error {
			if err := t.reach(waits); err != nil {
				return err
			}
			return t.pollEntropy(poll)
		})
		if err == nil || !errors.Is(err, errUnsafe) && !errors.Is(err, errStuck) && !errors.Is(err, errGone) {
			return err
		}
		failed = err
	}
	return failed
}

// pollEntropy calls RAND_poll, if there is one.
func (t *tracee) pollEntropy(poll uint64) error {
	if poll == 0 {
		return nil
	}
	done, err := t.call(poll)
	if err == nil && int32(done) != 1 {
		err = errors.New("OpenSSL could not be seeded")
	}
	return err
}

// threads returns the threads of the process, the first one first.
func (a *seeding) threads() []int { return numbers("/proc/" + strconv.Itoa(a.pid) + "/task") }

// traced runs f on a thread that stands still.
func (a *seeding) traced(tid int, f func(*tracee) error) error {
	t, err := attach(tid, time.Now().Add(reseedPatience), a.exited)
	if err != nil {
		return err
	}
	err = f(t)
	return errors.Join(err, t.release())
}
