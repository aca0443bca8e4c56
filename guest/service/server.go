package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/wire"
)

// maxRequest bounds the bodies of requests other than definitions, in bytes.
const maxRequest = 64 << 10

// Config is what a Server needs to know at start.
type Config struct {
	// Host is required.
	Host Host
	// Log writes a line to the machine's log. Required.
	Log func(level, message string, pairs ...string)
	// Root is prefixed to the folder /.sprite. Default "/".
	Root string
	// Forget is told of a connection that was taken over from an HTTP server and
	// has ended. Optional.
	Forget func(net.Conn)
}

// Server is what a sprite can do for itself. Make it with New, which starts
// nothing: Begin does, in machines that are sprites. Close ends everything.
type Server struct {
	config Config
	// folder is /.sprite.
	folder   string
	services *supervisor
	tasks    *tasks
	calls    *calls
	activity *activity
	host     http.Handler
	local    *http.Server

	mu sync.Mutex
	// begun is set in machines that are sprites.
	begun, closed bool
}

// New returns a server that has not begun.
func New(config Config) *Server {
	if config.Root == "" {
		config.Root = "/"
	}
	if config.Forget == nil {
		config.Forget = func(net.Conn) {}
	}
	folder := filepath.Join(config.Root, ".sprite")
	s := &Server{
		config: config, folder: folder,
		services: newSupervisor(config.Host, config.Log, filepath.Join(folder, "services"), filepath.Join(folder, "logs", "services")),
	}
	s.tasks = &tasks{alive: map[string]task{}, changed: func() { s.activity.report() }}
	s.calls = &calls{forget: config.Forget, patience: callPatience, arrived: make(chan struct{}), connected: s.connected}
	s.activity = &activity{calls: s.calls, tasks: s.tasks, pause: reportPause}
	s.host = s.hostRoutes()
	s.local = &http.Server{
		Handler:           s.localRoutes(),
		ReadHeaderTimeout: 30 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	return s
}

// Begin takes what the host says of this sprite. The first time it starts the
// services and serves the socket; afterwards it only takes what has changed. It
// returns when requests can be answered.
func (s *Server) Begin(in *wire.SpriteInit) {
	if err := s.writeFiles(in); err != nil {
		s.config.Log("error", "cannot write what a sprite is told of itself", "error", err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun || s.closed {
		return
	}
	s.begun = true
	if err := s.services.load(); err != nil {
		s.config.Log("error", "the services are not started", "error", err.Error())
	}
	if err := s.listen(); err != nil {
		s.config.Log("error", "the sprite's own API is not served", "error", err.Error())
	}
	go s.services.startAll()
}

// listen serves the socket, to every user of the machine.
func (s *Server) listen() error {
	path := filepath.Join(s.folder, "api.sock")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the former socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return errors.Join(err, listener.Close())
	}
	go s.local.Serve(listener) // until Close
	return nil
}

// connected is called when the host has connected.
func (s *Server) connected() {
	s.activity.report()
	if s.isSprite() {
		go s.askPolicy() // ends within reportTime
	}
}

// Touch says that the machine is in use though no request is open to it: it
// stays awake for another 30 seconds. It is cheap and may be called often.
func (s *Server) Touch() { s.activity.touch() }

// HostHandler answers what the host asks below wire.SpritePath: /services…,
// /url-port, and PUT /policy/network with the policy's text when it has changed.
func (s *Server) HostHandler() http.Handler { return s.host }

// Calls takes over a connection on which the host answers calls (wire.CallsPath).
func (s *Server) Calls(w http.ResponseWriter, r *http.Request) { s.calls.accept(w, r) }

// Close ends the services; those that have not ended when ctx is done are
// killed.
func (s *Server) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.services.close(ctx)
	s.local.Close()
	s.calls.close()
}

func (s *Server) isSprite() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun
}

// hostRoutes are those of the host.
func (s *Server) hostRoutes() http.Handler {
	mux := http.NewServeMux()
	s.serviceRoutes(mux)
	mux.HandleFunc("GET /url-port", s.urlPort)
	mux.HandleFunc("PUT "+wire.CallPolicy, s.takePolicy)
	strip := http.StripPrefix(strings.TrimSuffix(wire.SpritePath, "/"), mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.isSprite() {
			http.Error(w, "this machine is no sprite", http.StatusNotFound)
			return
		}
		strip.ServeHTTP(w, r)
	})
}

// localRoutes are those of the socket. "/v1" before a path makes no difference.
func (s *Server) localRoutes() http.Handler {
	mux := http.NewServeMux()
	s.serviceRoutes(mux)
	s.taskRoutes(mux)
	forward := s.calls.forward()
	for _, path := range []string{
		wire.CallInfo, wire.CallPolicy, wire.CallCheckpoint, wire.CallCheckpoints, wire.CallCheckpoints + "/", wire.CallOrgs, wire.CallOrgs + "/",
	} {
		mux.Handle(path, forward)
	}
	stripped := http.StripPrefix("/v1", mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(strings.TrimPrefix(r.URL.Path, "/v1"), wire.CallOrgs+"/") {
			r.Body = http.MaxBytesReader(w, r.Body, maxDefinition)
		} // else the host bounds it
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			stripped.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
