package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// maxRequest bounds the body of a request, in bytes.
	maxRequest = 64 << 20
	// maxContexts bounds how many contexts there are.
	maxContexts = 256
	// defaultMarker is where a template lists the kernels that start with the
	// machine.
	defaultMarker = "/etc/atoll/interpreter.json"
)

// Host is what the kernel server needs of the daemon that it is part of.
type Host interface {
	// StartKernel starts a program as the machine's user, under the rules for
	// all processes, in a session of its own; output is its stdout and stderr.
	// ended gets its status, once.
	StartKernel(args []string, env map[string]string, dir string, output *os.File) (pid int, ended <-chan syscall.WaitStatus, err error)
	// KernelOwner returns whom kernels run as.
	KernelOwner() (uid, gid int, err error)
	// KernelFolder is where contexts work that were given no folder.
	KernelFolder() (string, error)
	// Environment returns the machine's variables; the map never changes.
	Environment() map[string]string
}

// Config is what a Server needs to know at start.
type Config struct {
	// Host is required.
	Host Host
	// Log writes a line to the machine's log. Required.
	Log func(level, message string, pairs ...string)
	// Root is prefixed to the folders of kernelspecs. Default "/".
	Root string
	// Marker lists the kernels to start at once. Default /etc/atoll/interpreter.json.
	Marker string
	// ConnState is told of connections, as by net/http. Optional.
	ConnState func(net.Conn, http.ConnState)
}

// Server runs clients' code in kernels. Make it with New; Close ends the
// kernels.
type Server struct {
	config Config
	specs  specs
	http   *http.Server
	// life ends with Close.
	life    context.Context
	endLife context.CancelFunc
	tasks   sync.WaitGroup
	// awaited are the contexts that start with the machine.
	awaited []*runContext
	// unready is set when one of those could not be made.
	unready bool

	mu       sync.Mutex
	closed   bool
	contexts map[string]*runContext
	// defaults are the contexts of languages.
	defaults map[string]*runContext
	made     int
}

// New returns a server, and starts the kernels that the template lists. It
// returns nil when the machine has no kernels.
func New(config Config) (*Server, error) {
	if config.Root == "" {
		config.Root = "/"
	}
	if config.Marker == "" {
		config.Marker = defaultMarker
	}
	found := findSpecs(config.Root)
	if len(found) == 0 {
		return nil, nil
	}
	start, err := startList(config.Marker)
	if err != nil {
		return nil, err
	}
	s := &Server{config: config, specs: found, contexts: map[string]*runContext{}, defaults: map[string]*runContext{}}
	s.life, s.endLife = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 30 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ConnState:         config.ConnState,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	for _, language := range start {
		c, err := s.defaultContext(language)
		if err != nil {
			config.Log("error", "a kernel of the template is missing", "language", language, "error", err.Error())
			s.unready = true
			continue
		}
		s.awaited = append(s.awaited, c)
		c.warm = c.spec.Metadata.Atoll.Warm
		if c.turn.try() { // not when a language is listed twice
			s.warm(c)
		}
	}
	return s, nil
}

// Handler returns every route of the server.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("POST /execute", s.execute)
	mux.HandleFunc("GET /contexts", s.list)
	mux.HandleFunc("POST /contexts", s.create)
	mux.HandleFunc("DELETE /contexts/{id}", s.remove)
	mux.HandleFunc("POST /contexts/{id}/restart", s.restart)
	return mux
}

// Serve answers connections until Close.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the code interpreter: %w", err)
	}
	return nil
}

// Close stops serving and ends all kernels. A nil server is closed already.
func (s *Server) Close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.closed = true
	all := s.all()
	s.mu.Unlock()
	s.endLife()
	s.http.Close()
	var ending sync.WaitGroup
	for _, c := range all {
		ending.Go(c.remove)
	}
	ending.Wait()
	s.tasks.Wait()
}

// health answers 204 when all kernels that start with the machine have
// started and run nothing.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if s.unready {
		http.Error(w, "a kernel of this template is missing; see the log", http.StatusServiceUnavailable)
		return
	}
	for _, c := range s.awaited {
		if !c.ready() {
			http.Error(w, "the "+c.language+" kernel is not ready", http.StatusServiceUnavailable)
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// contextJSON is a context as clients see it.
type contextJSON struct {
	ID       string `json:"id"`
	Language string `json:"language"`
	Cwd      string `json:"cwd"`
}

func (c *runContext) json() contextJSON { return contextJSON{c.id, c.language, c.cwd} }

func (s *Server) list(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	all := s.all()
	s.mu.Unlock()
	answer := make([]contextJSON, len(all))
	for i, c := range all {
		answer[i] = c.json()
	}
	writeJSON(w, http.StatusOK, answer)
}

// all returns the contexts in the order in which they were made; s.mu is held.
func (s *Server) all() []*runContext {
	all := make([]*runContext, 0, len(s.contexts))
	for _, c := range s.contexts {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *runContext) int { return a.order - b.order })
	return all
}

func (s *Server) create(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Language string            `json:"language"`
		Cwd      string            `json:"cwd"`
		Env      map[string]string `json:"env_vars"`
	}
	if !readJSON(w, r, &in) {
		return
	}
	if err := checkEnvironment(in.Env); err != nil {
		writeError(w, err)
		return
	}
	cwd, err := s.folder(in.Cwd)
	if err != nil {
		writeError(w, err)
		return
	}
	c, err := s.add(in.Language, cwd, in.Env, false)
	if err != nil {
		writeError(w, err)
		return
	}
	c.turn.token <- struct{}{} // new, so it is free
	_, err = c.live(s.life)
	c.turn.release()
	if err != nil {
		s.forget(c)
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, c.json())
}

// errNoFolder is reported for working directories that do not exist.
var errNoFolder = errors.New("no such folder")

// folder returns where a context works.
func (s *Server) folder(wanted string) (string, error) {
	home, err := s.config.Host.KernelFolder()
	if err != nil {
		return "", err
	}
	if wanted == "" {
		return home, nil
	}
	if strings.ContainsRune(wanted, 0) {
		return "", fmt.Errorf("%w: its name holds a NUL byte", errNoFolder)
	}
	if !filepath.IsAbs(wanted) {
		wanted = filepath.Join(home, wanted)
	}
	if info, err := os.Stat(wanted); err != nil || !info.IsDir() {
		return "", fmt.Errorf("%w: cwd %q does not exist or is not a folder", errNoFolder, wanted)
	}
	return filepath.Clean(wanted), nil
}

// errTooMany is reported when there are too many contexts.
var errTooMany = fmt.Errorf("there are %d contexts already; remove some", maxContexts)

// errClosed is reported while the daemon ends.
var errClosed = errors.New("the machine is stopping")

// add makes a context whose kernel has not started.
func (s *Server) add(language, cwd string, env map[string]string, isDefault bool) (*runContext, error) {
	spec, err := s.specs.find(language)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.defaults[spec.language]; isDefault && c != nil {
		return c, nil
	}
	if s.closed {
		return nil, errClosed
	}
	if len(s.contexts) >= maxContexts {
		return nil, errTooMany
	}
	s.made++
	c := &runContext{
		id: random(16), language: spec.language, cwd: cwd, env: env, spec: spec,
		host: s.config.Host, turn: newTurn(), order: s.made,
	}
	s.contexts[c.id] = c
	if isDefault {
		s.defaults[spec.language] = c
	}
	return c, nil
}

// defaultContext returns the default context of a language.
func (s *Server) defaultContext(language string) (*runContext, error) {
	cwd, err := s.folder("")
	if err != nil {
		return nil, err
	}
	return s.add(language, cwd, nil, true)
}

// forget takes a context off the list.
func (s *Server) forget(c *runContext) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.contexts, c.id)
	if s.defaults[c.language] == c {
		delete(s.defaults, c.language)
	}
}

// errNoContext is reported for ids that no context has.
var errNoContext = errors.New("no such context")

func (s *Server) context(id string) (*runContext, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.contexts[id]; c != nil {
		return c, nil
	}
	if len(id) > 64 {
		id = id[:64]
	}
	return nil, fmt.Errorf("%w: %q", errNoContext, id)
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	c, err := s.context(r.PathValue("id"))
	if err != nil {
		writeError(w, err)
		return
	}
	s.forget(c)
	c.remove()
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) restart(w http.ResponseWriter, r *http.Request) {
	c, err := s.context(r.PathValue("id"))
	if err == nil {
		err = c.restart(r.Context())
	}
	if err != nil {
		writeError(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// warm starts a context's kernel while nobody waits for it. The caller has the
// turn, which this gives back. A kernel that does not start is tried again when
// code is to run.
func (s *Server) warm(c *runContext) {
	s.tasks.Go(func() {
		defer c.turn.release()
		p, err := c.live(s.life)
		switch {
		case err == nil:
			p.runSilently(c.warm)
		case s.life.Err() == nil && !errors.Is(err, errRemoved):
			s.config.Log("error", "a kernel did not start", "language", c.language, "error", err.Error())
		}
	})
}

// readJSON reads a request's body; the body is all read, so that the end of
// the connection is noticed from then on.
func readJSON(w http.ResponseWriter, r *http.Request, v any) bool {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err == nil && len(body) > 0 {
		err = json.Unmarshal(body, v)
	}
	if err != nil {
		http.Error(w, "read the request: "+err.Error(), http.StatusBadRequest)
	}
	return err == nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}

// writeError answers with an error. What the client named and does not exist
// is 404 throughout, since that is where both published SDKs show the text.
func writeError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, errUnknownLanguage), errors.Is(err, errNoContext), errors.Is(err, errNoFolder), errors.Is(err, errRemoved):
		status = http.StatusNotFound
	case errors.Is(err, errEnvironment):
		status = http.StatusBadRequest
	case errors.Is(err, errTooMany):
		status = http.StatusTooManyRequests
	case errors.Is(err, errClosed):
		status = http.StatusServiceUnavailable
	}
	http.Error(w, err.Error(), status)
}
