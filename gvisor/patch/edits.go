package main

// edit puts text behind the one place of a source that reads as after does, or in
// its place if it is one of runtimeEdits.
type edit struct {
	source      string // path in gVisor's module, or in Go's sources
	after, text string
}

var edits = []edit{
	// A restored guest stays paused if its description asks for that. Pauses are
	// counted, and counted before the guest's threads start, so that none runs.
	{"runsc/boot/loader.go", `
	log.Infof("Process should have started...")
	l.watchdog.Start()
`, `	if l.state == restoringUnstarted && l.root.spec.Annotations["dev.atoll.start"] == "paused" {
		l.k.Pause()
	}
`},
	// A checkpoint looks for memory that is zero by reading what was allocated.
	// Where the host has given none yet that makes it do so, just to take it
	// back; it was a third of the work. The host knows where those holes are.
	{"pkg/sentry/pgalloc/save_restore.go", `
	zeroPage := make([]byte, hostarch.PageSize)
`, `	dataStart, dataEnd := uint64(0), uint64(0) // of what was found last
`},
	{"pkg/sentry/pgalloc/save_restore.go", `
			for pgoff := 0; pgoff < len(bs); pgoff += hostarch.PageSize {
`, `				if off := chunkFR.Start + uint64(pgoff); !wasCommitted {
					if off >= dataEnd {
						dataStart, dataEnd = off, off+hostarch.PageSize
						if at, err := unix.Seek(int(f.file.Fd()), int64(off), unix.SEEK_DATA); err == unix.ENXIO {
							dataStart, dataEnd = math.MaxUint64, math.MaxUint64
						} else if err == nil {
							dataStart = uint64(at) - uint64(at)%hostarch.PageSize
							dataEnd = dataStart + hostarch.PageSize
							if end, err := unix.Seek(int(f.file.Fd()), at, unix.SEEK_HOLE); err == nil {
								dataEnd = uint64(end)
							}
						}
					}
					if hole := min(dataStart, chunkFR.End); off < hole {
						alreadyUncommittedBytes += hole - off
						maseg = updateAddRange(maseg, memmap.FileRange{Start: off, End: hole}, false, false)
						pgoff += int(hole-off) - hostarch.PageSize
						continue
					}
				}
`},
	// A guest's own clock, by which it measures and waits, stands still while it
	// is a checkpoint, as a computer's does that is asleep. gVisor moves it on
	// with the wall clock, so that a guest that wakes finds all its timers over.
	{"pkg/sentry/kernel/timekeeper.go", `
		elapsed := nowRealtime - t.saveRealtime
`, `		elapsed = 0
`},
	// A sleep for some time lasts that long though the wall clock is set, as POSIX
	// wants it. gVisor works out its end by the clock that was named, which for
	// sleep(1) is the wall clock.
	{"pkg/sentry/syscalls/linux/sys_time.go", `
	dur := time.Duration(req.ToNsecCapped()) * time.Nanosecond
`, `	if clockID == linux.CLOCK_REALTIME {
		c = t.Kernel().MonotonicClock()
	}
`},
	// Reading from a connection that did not survive is an error. Without this
	// it is the end of the data, as if the other side had sent all there is.
	{"pkg/tcpip/transport/tcp/endpoint_state.go", `
		e.cleanupLocked()
	}
	e.state.Store(uint32(StateError))
`, `	e.hardError = &tcpip.ErrConnectionReset{}
`},
	// A guest's fsync fails where the host's does. gVisor drops that error, and a
	// program would believe that what it wrote is safe.
	{"pkg/sentry/fsimpl/gofer/gofer.go", `
	// Prefer syncing write handles over read handles, since some remote
	// filesystem implementations may not sync changes made through write
	// handles otherwise.
	wh := d.inode.writeHandle()
`, `	if h := d.inode.readHandle(); true {
		if d.inode.isWriteHandleOk() {
			h = wh
		}
		if dataOnly {
			return h.syncData(ctx)
		}
		return h.sync(ctx)
	}
`},
	// Memory is loaded by as many threads as may be busy with it while others
	// decode the kernel and run the guest: 128 of them leave both no processor.
	{"pkg/sentry/state/stateio/pagesfile.go", `
import (
`, `	"runtime"

`},
	{"pkg/sentry/state/stateio/pagesfile.go", `
func NewPagesFileFDReaderDefault(fd int32) *FDReader {
`, `	if readers := min(runtime.NumCPU()/2, 16); readers > 0 {
		return NewPagesFileFDReader(fd, pagesFileFDDefaultMaxIOBytes, readers)
	}
`},
	// A directory's entries are on its own device, unless they are directories. So
	// reading it needs no stat of each file in it.
	{"pkg/sentry/fsimpl/gofer/directfs_inode.go", `
	return fsutil.ForEachDirent(readFD, func(ino uint64, off int64, ftype uint8, name string, reclen uint16) {
`, `		if ftype != unix.DT_DIR && ftype != unix.DT_UNKNOWN {
			key := i.inoKey
			key.ino = ino
			recordDirent(name, key, ftype)
			return
		}
`},
	// A system call's instruction is replaced by a quicker one the first time that
	// it traps. That costs as much as many traps, and a copy of a page of the
	// program: a shell that runs one command would pay it forty times and use each
	// once or twice. So a program first has to show that it makes many.
	{"pkg/sentry/platform/systrap/usertrap/usertrap_amd64.go", `	nextTrap  uint32
	tableAddr hostarch.Addr
`, `	trapped int
`},
	{"pkg/sentry/platform/systrap/usertrap/usertrap_amd64.go", `	sysno := ac.SyscallNo()
	patchAddr := ac.IP() - uintptr(len(jmpInst))
`, `	if s.trapped++; s.trapped <= 256 {
		return nil
	}
`},
	// Sentry and guest wait for each other in a loop instead of asleep while there
	// is much to do. For a guest that has to do for a few milliseconds that is a
	// loss, because those who wait take the processors from those who work. So
	// they begin with it after 20 ms of work without a pause.
	{"pkg/sentry/platform/systrap/metrics.go", `
	fastPathContextLimit = uint32(maxSysmsgThreads * 2)
`, `	const busy = 20
	active := 0 // for how many milliseconds without a pause
`},
	{"pkg/sentry/platform/systrap/metrics.go", `
	const busy = 20
	active := 0 // for how many milliseconds without a pause

	for {
`, `		if active < busy {
			time.Sleep(time.Millisecond - recordingPeriod)
		}
`},
	{"pkg/sentry/platform/systrap/metrics.go", `
		time.Sleep(recordingPeriod)
`, `		if !fastpath.recentActivity.Load() {
			active = 0
		} else if active < busy {
			if active++; active == busy {
				threads.spread()
			}
			fastpath.recentActivity.Store(false)
			continue
		}
`},
	// A guest that rests, or works for a few milliseconds, has its threads on one
	// processor; see placement.go. The sentry's filter has to allow that.
	{"pkg/sentry/platform/systrap/metrics.go", `
	select {
	case <-s.monitorWakeup:
	default:
	}
`, `	threads.gather()
`},
	{"pkg/sentry/platform/systrap/systrap.go", `
		initSleepTimeouts()
`, `		threads.init()
`},
	{"runsc/boot/filter/config/config_main.go", `
	unix.SYS_GETTID:       seccomp.MatchAll{},
`, `	unix.SYS_SCHED_SETAFFINITY: seccomp.MatchAll{},
`},
	// Nobody has to ask the one who polls when polling is off.
	{"pkg/sentry/platform/systrap/subprocess.go", `
	ctx.kicked = false
	slowPath := false
`, `	if !fastpath.sentryFastPath() {
		ctx.disableSentryFastPath()
		slowPath = true
	}
`},
	// A guest's CPUID instruction is the processor's own. gVisor has it trap, so as to
	// answer it itself: glibc executes 68 of them when a program starts, each a
	// round trip to the sentry. And where the host is a virtual machine, a switch between a
	// thread that traps and one that does not, which is each switch between guest
	// and sentry, writes a register of the processor that the hypervisor guards: 7 us
	// where the switch itself takes 1. What a guest gets to see of the processor is the same,
	// and memory images are bound to the processor's model in any case.
	{"pkg/sentry/platform/systrap/subprocess_amd64.go", `
func enableCpuidFault() {
`, `	return
`},
	// What a start does for nobody: it asks the processor for each feature anew, it
	// registers what could be traced by a configuration that we never give, it takes
	// the time before and after each of some thousand objects, and makes a table
	// of that for a log that nobody keeps.
	{"pkg/cpuid/static_amd64.go", `
func (fs FeatureSet) ToStatic() Static {
`, `	fs.Function = remembered{fs.Function, make(Static)}
`},
	// An answer of zeros is what is said where none is known, and most are.
	{"pkg/cpuid/static_amd64.go", `
		if CacheType(out.Eax&0xf) == cacheNull {
			break
		}
	}
`, `	for in, out := range s {
		if out == (Out{}) {
			delete(s, in)
		}
	}
`},
	{"pkg/sentry/seccheck/metadata.go", `
func Initialize() {
`, `	return
`},
	{"pkg/state/stats.go", `
func (s *Stats) sample(id typeID) {
`, `	if int(id) < len(s.byType) {
		return
	}
`},
	{"pkg/state/stats.go", `
func (s *Stats) String() string {
`, `	return "not taken"
`},
	// Arrays of bytes are in a checkpoint as text is, not byte by byte: the registers
	// of one thread are 11 KiB.
	{"pkg/state/encode.go", `
func (es *encodeState) encodeArray(obj reflect.Value, dest *wire.Object) {
`, `	if obj.Type().Elem().Kind() == reflect.Uint8 && obj.CanAddr() {
		text := wire.String(obj.Bytes())
		*dest = &text
		return
	}
`},
	{"pkg/state/decode.go", `
	case *wire.String:
`, `		if obj.Kind() == reflect.Array {
			if len(*x) != obj.Len() {
				Failf("mismatching array length expect=%d, actual=%d", obj.Len(), len(*x))
			}
			copy(obj.Bytes(), *x)
			return
		}
`},
	// Nothing reads these 2048 numbers, nor what becomes of queues that a restored
	// network closes first of all.
	{"pkg/tcpip/network/ipv4/ipv4.go", `
	hashIV := r[buckets]
`, `	ids = nil
`},
	{"pkg/tcpip/link/fdbased/fdbased_state_autogen.go", `
	m.beforeSave()
`, `	m = &processorManager{seed: m.seed, e: m.e, ready: m.ready}
`},
	// Buffers for packets were cleared that nobody had used yet, so the host had to
	// give half a MiB before anything was received.
	{"pkg/buffer/chunk.go", `
type chunk struct {
	chunkRefs
	data []byte
`, `	used bool // there may be something in data
`},
	{"pkg/buffer/chunk.go", `
	pool := getChunkPool(len(c.data))
`, `	c.used = true
`},
	{"pkg/buffer/chunk.go", `
		c = pool.Get().(*chunk)
`, `		if !c.used {
			c.InitRefs()
			return c
		}
`},
	// Nobody asks how often each of 2048 system calls was missing.
	{"pkg/sentry/kernel/syscalls.go", `
	unimplementedSyscallCounterInit.Do(func() {
`, `		unimplementedSyscallCounter = metric.MustCreateNewUint64Metric("/unimplemented_syscalls", metric.Uint64Metadata{
			Cumulative: true,
			Fields:     []metric.Field{metric.NewField("sysno", outOfRangeSyscallNumber...)},
		})
		return
`},
	// The world stopped for each number of processors that a start went through.
	{"pkg/gomaxprocs/gomaxprocs.go", `
	t := temp + n
`, `	if base != 0 {
		return
	}
`},
	// The self-check looks at this to see that the program was built patched.
	{"runsc/boot/loader.go", `
// ContainerRuntimeState is the runtime state of a container.
type ContainerRuntimeState int
`, `
var atollPausedStart = true
`},
}

// runtimeEdits are for the Go runtime of the programs of a sandbox: the guest's kernel,
// whose threads mostly wait for the guest, and the daemon, each of whose waits is two
// switches between guest and kernel. Where the host is a virtual machine, setting a
// timer is expensive too.
var runtimeEdits = []edit{
	// The runtime's monitor looks after the other threads every 20 us while any of them
	// works, which is some fifty times during a command that takes 5 ms. Every 2 ms
	// does as well: a goroutine then waits that much longer for the processor of one
	// that is held up by the host.
	{"runtime/proc.go", `
		if idle == 0 { // start with 20us sleep...
			delay = 20
`, `
		if idle == 0 {
			delay = 2000
`},
	{"runtime/proc.go", `
				if syscallWake {
					idle = 0
					delay = 20
`, `
				if syscallWake {
					idle = 0
					delay = 2000
`},
	// A thread that looks for work and finds what another is about to do waits 3 us,
	// for which it sets a timer and sleeps for 50. It gives way instead.
	{"runtime/proc.go", `
								if !osHasLowResTimer {
									usleep(3)
`, `
								if !osHasLowResTimer {
									osyield()
`},
	// Nobody asks what allocates, so no stacks are taken of that.
	{"runtime/mprof.go", `
var MemProfileRate int = 512 * 1024
`, `
var MemProfileRate int = 0
`},
	// Each of several hundred lists of a small heap took a page of memory.
	{"runtime/mspanset.go", `
	spanSetBlockEntries = 512 // 4KB on 64-bit
`, `
	spanSetBlockEntries = 64
`},
}
