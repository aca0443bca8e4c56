package sprite

import (
	"context"
	"encoding/json"

	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/atoll-cloud/atoll/guest"
	"github.com/atoll-cloud/atoll/wire"
)

// Activity is told that the machine is in use though no request is open to it.
type Activity interface {
	// Touch says so for the moment. It is called at most once a second and must
	// not wait.
	Touch()
}

// Config is what a Server needs. Guest is required.
type Config struct {
	// Guest starts processes and knows users and paths.
	Guest *guest.Server
	// Activity hears of sessions that nobody watches; nil is nobody to tell.
	Activity Activity
	// Log receives events in the machine's log; fields are names and values. Nil
	// is no log.
	Log func(level, message string, fields ...string)
	// Hidden are ports that are the daemon's own and are not told.
	Hidden []int
}

// Server serves one sprite. Make it with New; Close ends what it owns.
type Server struct {
	config   Config
	guest    *guest.Server
	sessions *sessionTable
	ports    *portWatcher
	touched  atomic.Int64 // unix seconds

	life context.Context
	end  context.CancelFunc
	// tasks are the goroutines of sessions; none begins when closed is set.
	tasks  sync.WaitGroup
	mu     sync.Mutex
	closed bool
}

// New returns a server whose Handler is not mounted yet.
func New(config Config) *Server {
	if config.Log == nil {
		config.Log = func(string, string, ...string) {}
	}
	life, end := context.WithCancel(context.Background())
	return &Server{
		config: config, guest: config.Guest, sessions: newSessionTable(), ports: newPortWatcher("/proc", config.Hidden),
		life: life, end: end,
	}
}

// Close asks every session's process to end, kills those that have not when ctx
// is done, and ends the connections of their clients.
func (s *Server) Close(ctx context.Context) {
	for _, running := range s.sessions.all() {
		running.stop(syscall.SIGTERM)
	}
	for _, running := range s.sessions.all() {
		select {
		case <-running.exited:
		case <-ctx.Done():
			running.stop(syscall.SIGKILL)
		}
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.tasks.Wait()
}

// task runs a goroutine that Close waits for; false when it is too late for one.
func (s *Server) task(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.tasks.Go(f)
	}
	return !s.closed
}

// Handler serves everything below wire.SpritePath that is this package's.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	at := func(pattern string, f http.HandlerFunc) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+wire.SpritePath+path, f)
	}
	at("GET exec", s.exec)
	at("POST exec", s.execHTTP)
	at("GET exec/{id}", s.attach)
	at("POST exec/{id}/kill", s.kill)
	at("GET control", s.control)
	at("GET proxy", s.proxy)
	at("GET ports/watch", s.watchPorts)
	at("GET fs/read", s.readFile)
	at("PUT fs/write", s.writeFile)
	at("GET fs/list", s.listFiles)
	at("GET fs/watch", s.watchFiles)
	at("DELETE fs/delete", s.fileRoute("fs.delete"))
	at("POST fs/rename", s.fileRoute("fs.rename"))
	at("POST fs/copy", s.fileRoute("fs.copy"))
	at("POST fs/chmod", s.fileRoute("fs.chmod"))
	at("POST fs/chown", s.fileRoute("fs.chown"))
	return mux
}

// touch reports that a session is in use.
func (s *Server) touch() {
	if s.config.Activity == nil {
		return
	}
	now := time.Now().Unix()
	if last := s.touched.Load(); last != now && s.touched.CompareAndSwap(last, now) {
		s.config.Activity.Touch()
	}
}

// writeJSON answers with a JSON body.
func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"error":"internal","message":"the answer cannot be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(data) // the client left: nobody to tell
}

// writeError answers in the shape that SDKs make errors of.
func writeError(w http.ResponseWriter, status int, err error) {
	code := strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "_")
	writeJSON(w, status, struct {
		Error   string `json:"error"`
		Message string `json:"message"`
	}{code, err.Error()})
}
