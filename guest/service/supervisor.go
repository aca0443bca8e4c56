package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

var (
	errNotFound   = errors.New("no such service")
	errNotRunning = errors.New("the service is not running")
	// errConflict is reported for what something else stands against; the text
	// beside it says what.
	errConflict = errors.New("")
	errClosed   = errors.New("the machine is ending")
)

// defaultStop is how long a service has to end before it is killed.
const defaultStop = 10 * time.Second

// supervisor keeps services running.
type supervisor struct {
	host  Host
	log   func(level, message string, pairs ...string)
	store store
	// logFolder holds the services' logs.
	logFolder string
	// pauses are those before restarts.
	pauses pauses

	// changing is held while definitions change on the disk.
	changing sync.Mutex
	mu       sync.Mutex
	services map[string]*service
	closed   bool
}

func newSupervisor(host Host, log func(string, string, ...string), folder, logFolder string) *supervisor {
	return &supervisor{
		host: host, log: log, store: store{folder}, logFolder: logFolder,
		pauses: defaultPauses, services: map[string]*service{},
	}
}

// load reads the definitions from the disk.
func (v *supervisor) load() error {
	records, err := v.store.load(func(name string, err error) {
		v.log("error", "a service's definition is passed over", "service", name, "error", err.Error())
	})
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	holder := "" // of the HTTP port
	for _, name := range slices.Sorted(maps.Keys(records)) {
		s := v.newService(name, records[name])
		v.services[name] = s
		needs := func(name string) []string { return records[name].Needs }
		if circle := findCircle(name, needs); circle != nil {
			s.broken = "its needs lead back to itself: " + strings.Join(circle, " → ")
		}
		if s.HTTPPort != nil && holder != "" {
			s.broken = "service " + holder + " holds the HTTP port already, and only one may"
		} else if s.HTTPPort != nil {
			holder = name
		}
		s.failure = s.broken
	}
	return nil
}

// startAll starts all services that nobody stopped, those that others need
// first.
func (v *supervisor) startAll() {
	v.mu.Lock()
	needs := map[string][]string{}
	for name, s := range v.services {
		needs[name] = s.Needs
	}
	v.mu.Unlock()
	for _, name := range startOrder(needs) {
		v.mu.Lock()
		if s := v.services[name]; s != nil && !s.Stopped && s.current == nil && s.again == nil {
			v.startLocked(s, false) // what is wrong stands in its state
		}
		v.mu.Unlock()
	}
}

// list returns all services in the order of their names.
func (v *supervisor) list() []view {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := make([]view, 0, len(v.services))
	for _, name := range slices.Sorted(maps.Keys(v.services)) {
		all = append(all, v.services[name].view())
	}
	return all
}

// get returns one service.
func (v *supervisor) get(name string) (view, *logFiles, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s, err := v.find(name)
	if err != nil {
		return view{}, nil, err
	}
	return s.view(), s.logs, nil
}

// find returns a service; v.mu is held.
func (v *supervisor) find(name string) (*service, error) {
	if s := v.services[name]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("%w: %q", errNotFound, bounded(name))
}

// put makes or replaces a definition. It reports whether a process runs that
// has another program than what the definition says now.
func (v *supervisor) put(ctx context.Context, name string, d Definition) (replaced bool, err error) {
	if err := checkName(name); err != nil {
		return false, err
	}
	for {
		v.changing.Lock()
		leaving := v.leaving(name)
		if leaving == nil {
			break
		}
		v.changing.Unlock()
		if err := leaving.wait(ctx); err != nil {
			return false, err
		}
	}
	defer v.changing.Unlock()
	v.mu.Lock()
	err = v.admit(name, &d)
	v.mu.Unlock()
	if err != nil {
		return false, err
	}
	if err := v.store.write(name, record{Definition: d}); err != nil {
		return false, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.services[name]
	if s == nil {
		v.services[name] = v.newService(name, record{Definition: d})
		return false, nil
	}
	s.Definition, s.Stopped, s.broken = d, false, ""
	return s.current != nil && !s.current.program.sameProgram(&d), nil
}

// leaving returns the last run of a service that is being deleted.
func (v *supervisor) leaving(name string) *run {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s := v.services[name]; s != nil && s.gone {
		return s.current
	}
	return nil
}

// admit checks a definition against the others; v.mu is held.
func (v *supervisor) admit(name string, d *Definition) error {
	if v.closed {
		return errClosed
	}
	if v.services[name] == nil && len(v.services) >= maxServices {
		return bad("there are %d services already: delete some", maxServices)
	}
	for _, need := range d.Needs {
		if v.services[need] == nil && need != name {
			return bad("needs: there is no service %q: make it first", need)
		}
	}
	circle := findCircle(name, func(of string) []string {
		if of == name {
			return d.Needs
		}
		if s := v.services[of]; s != nil {
			return s.Needs
		}
		return nil
	})
	if circle != nil {
		return bad("needs: they lead in a circle: %s", strings.Join(circle, " → "))
	}
	if d.HTTPPort == nil {
		return nil
	}
	for other, s := range v.services {
		if other != name && s.HTTPPort != nil {
			return fmt.Errorf("%wservice %q holds the HTTP port (%d) already, and only one may", errConflict, other, *s.HTTPPort)
		}
	}
	return nil
}

// remove stops a service and forgets it; its logs stay.
func (v *supervisor) remove(ctx context.Context, name string, patience time.Duration) error {
	last, err := v.forget(name, patience)
	if err != nil || last == nil {
		return err
	}
	return last.wait(ctx)
}

// forget removes a service's definition and begins its end.
func (v *supervisor) forget(name string, patience time.Duration) (*run, error) {
	v.changing.Lock()
	defer v.changing.Unlock()
	v.mu.Lock()
	s, err := v.find(name)
	if err == nil {
		err = v.needed(name)
	}
	v.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := v.store.remove(name); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	s.cancelRestart()
	s.gone = true
	if s.current == nil {
		delete(v.services, name)
		return nil, nil
	}
	s.current.stop(patience)
	return s.current, nil
}

// needed returns an error if another service needs this one; v.mu is held.
func (v *supervisor) needed(name string) error {
	for other, s := range v.services {
		if !s.gone && slices.Contains(s.Needs, name) {
			return fmt.Errorf("%wservice %q needs it: delete that first", errConflict, other)
		}
	}
	return nil
}

// start starts a service and those that it needs, and takes back a client's
// stop. already is reported when a process of it runs.
func (v *supervisor) start(ctx context.Context, name string) (r *run, already bool, err error) {
	if err := v.setStopped(name, false); err != nil {
		return nil, false, err
	}
	for {
		v.mu.Lock()
		s, err := v.find(name)
		switch {
		case err != nil || s.gone:
			v.mu.Unlock()
			return nil, false, fmt.Errorf("%w: %q", errNotFound, bounded(name))
		case s.current == nil:
			s.restarts, s.pause = 0, 0
			err = v.startLocked(s, true)
			r = s.current
			v.mu.Unlock()
			return r, false, err
		case !s.current.leaving && !s.current.over:
			r = s.current
			v.mu.Unlock()
			return r, true, nil
		}
		last := s.current
		v.mu.Unlock()
		if err := last.wait(ctx); err != nil {
			return nil, false, err
		}
	}
}

// stop begins the end of a service, which then stays stopped. The run is nil
// when it only waited for its restart.
func (v *supervisor) stop(name string, patience time.Duration) (*run, error) {
	v.mu.Lock()
	s, err := v.find(name)
	if err == nil && s.current == nil && s.again == nil {
		err = fmt.Errorf("%w: %q", errNotRunning, name)
	}
	v.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := v.setStopped(name, true); errors.Is(err, errNotFound) {
		return nil, err
	} else if err != nil {
		// A full disk must not keep anybody from stopping what fills it.
		v.log("warn", "that a service is stopped could not be kept", "service", name, "error", err.Error())
	}
	return v.end(name, patience)
}

// end begins the end of a service's process.
func (v *supervisor) end(name string, patience time.Duration) (*run, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s, err := v.find(name)
	if err != nil {
		return nil, err
	}
	s.cancelRestart()
	s.failure = s.broken
	if s.current == nil {
		return nil, nil
	}
	s.current.stop(patience)
	return s.current, nil
}

// setStopped keeps what a client wants of a service.
func (v *supervisor) setStopped(name string, stopped bool) error {
	v.changing.Lock()
	defer v.changing.Unlock()
	v.mu.Lock()
	s, err := v.find(name)
	if err != nil || s.gone || s.Stopped == stopped {
		v.mu.Unlock()
		return err
	}
	s.Stopped = stopped
	r := record{s.Definition, stopped}
	v.mu.Unlock()
	return v.store.write(name, r)
}

// signal sends a signal to a service's process.
func (v *supervisor) signal(name string, sig syscall.Signal) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	s, err := v.find(name)
	if err != nil {
		return err
	}
	if s.current == nil || s.current.over {
		return fmt.Errorf("%w: %q", errNotRunning, name)
	}
	return send(s.current.pid, sig)
}

// close ends all services and starts none any more.
func (v *supervisor) close(ctx context.Context) {
	v.mu.Lock()
	v.closed = true
	var last []*run
	for _, s := range v.services {
		s.cancelRestart()
		if s.current != nil {
			s.current.stop(defaultStop)
			last = append(last, s.current)
		}
	}
	v.mu.Unlock()
	for _, r := range last {
		if r.wait(ctx) != nil {
			v.mu.Lock()
			r.kill()
			v.mu.Unlock()
		}
	}
}
