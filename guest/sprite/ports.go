package sprite

import (
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// portsEvery is how often listening ports are looked at while somebody wants
	// to know. A look that takes long makes it less often.
	portsEvery = 400 * time.Millisecond
	// portsShare is what part of the time may be spent with looking.
	portsShare = 50
	// portsAtLeast is how often they are looked at all the same.
	portsAtLeast = 4 * time.Second
	// portsQueue bounds the events that wait for one client.
	portsQueue = 256
)

// portEvent tells of a port that is open, was opened or was closed.
type portEvent struct {
	Type    string `json:"type"`
	Port    uint16 `json:"port"`
	Address string `json:"address"`
	Pid     int    `json:"pid"`
}

// portWatcher looks for listening ports as long as somebody is subscribed.
type portWatcher struct {
	proc   string
	hidden []int

	mu            sync.Mutex
	subscriptions map[*portSubscription]struct{}
	running       bool
	known         map[listener]int // with the process that holds it
}

// portSubscription is one client's interest in ports.
type portSubscription struct {
	watcher *portWatcher
	// root is the process whose ports are told, with those of what it started; 0
	// is everybody's.
	root   int
	events chan portEvent
	told   map[listener]bool
}

func newPortWatcher(proc string, hidden []int) *portWatcher {
	return &portWatcher{proc: proc, hidden: hidden, subscriptions: map[*portSubscription]struct{}{}, known: map[listener]int{}}
}

// subscribe tells what is open of a process and changes from now on; end it when
// done.
func (p *portWatcher) subscribe(root int) *portSubscription {
	sub := &portSubscription{watcher: p, root: root, events: make(chan portEvent, portsQueue), told: map[listener]bool{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subscriptions[sub] = struct{}{}
	for at, pid := range p.known {
		sub.opened(at, pid)
	}
	if !p.running {
		p.running = true
		go p.run()
	}
	return sub
}

// end gives a subscription up; nil is none.
func (sub *portSubscription) end() {
	if sub == nil {
		return
	}
	sub.watcher.mu.Lock()
	defer sub.watcher.mu.Unlock()
	delete(sub.watcher.subscriptions, sub)
}

// run looks until nobody is subscribed.
func (p *portWatcher) run() {
	for {
		begin := time.Now()
		p.look()
		took := time.Since(begin)
		p.mu.Lock()
		if len(p.subscriptions) == 0 {
			p.running = false
			clear(p.known)
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		time.Sleep(min(max(portsEvery, took*portsShare), portsAtLeast))
	}
}

// look compares what listens with what is known and tells the difference.
func (p *portWatcher) look() {
	now := map[listener]bool{}
	fresh := map[uint64]bool{}
	p.mu.Lock()
	for _, at := range listeners(p.proc) {
		if slices.Contains(p.hidden, int(at.port)) {
			continue
		}
		now[at] = true
		if _, known := p.known[at]; !known {
			fresh[at.inode] = true
		}
	}
	p.mu.Unlock()
	pids := map[uint64]int{}
	if len(fresh) > 0 {
		pids = owners(p.proc, fresh)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, pid := range p.known {
		if !now[at] {
			delete(p.known, at)
			for sub := range p.subscriptions {
				sub.closed(at, pid)
			}
		}
	}
	for at := range now {
		if _, known := p.known[at]; !known {
			p.known[at] = pids[at.inode]
			for sub := range p.subscriptions {
				sub.opened(at, pids[at.inode])
			}
		}
	}
}

// opened and closed queue an event; the watcher's lock is held. A client that
// does not read misses some.
func (sub *portSubscription) opened(at listener, pid int) {
	if sub.told[at] || sub.root != 0 && !belongs(sub.watcher.proc, pid, sub.root) {
		return
	}
	sub.told[at] = true
	sub.tell("port_opened", at, pid)
}

func (sub *portSubscription) closed(at listener, pid int) {
	if sub.told[at] {
		delete(sub.told, at)
		sub.tell("port_closed", at, pid)
	}
}

func (sub *portSubscription) tell(kind string, at listener, pid int) {
	select {
	case sub.events <- portEvent{kind, at.port, at.address.String(), pid}:
	default:
	}
}

// watchPorts serves the route that tells of all ports.
func (s *Server) watchPorts(w http.ResponseWriter, r *http.Request) {
	k, err := s.accept(w, r, 0)
	if err != nil {
		return
	}
	defer s.guest.ForgetConnection(r)
	done := k.ignore(s.life)
	defer func() { k.drop(); <-done }()
	s.ports.look()
	sub := s.ports.subscribe(0)
	defer sub.end()
	if k.writeJSON(s.life, s.ports.list(sub)) != nil {
		return
	}
	for err == nil {
		select {
		case event := <-sub.events:
			err = k.writeJSON(s.life, event)
		case <-done:
			return
		}
	}
}

// portList is the first message to who watches ports.
type portList struct {
	Type  string      `json:"type"`
	Ports []portEvent `json:"ports"`
}

// list returns what is open, and makes the subscription tell changes only.
func (p *portWatcher) list(sub *portSubscription) portList {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := portList{Type: "port_list", Ports: []portEvent{}}
	for at, pid := range p.known {
		sub.told[at] = true
		list.Ports = append(list.Ports, portEvent{"port_opened", at.port, at.address.String(), pid})
	}
	slices.SortFunc(list.Ports, func(a, b portEvent) int { return int(a.Port) - int(b.Port) })
	for len(sub.events) > 0 {
		<-sub.events // they are in the list
	}
	return list
}
