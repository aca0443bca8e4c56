package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/atoll-cloud/atoll/guest/service"
	"github.com/atoll-cloud/atoll/wire/filesystem/filesystemconnect"
	"github.com/atoll-cloud/atoll/wire/process/processconnect"
)

// maxMessage bounds one RPC message from a client, in bytes.
const maxMessage = 32 << 20

// Config is what a Server needs to know at start. The zero value serves the
// user "user" with no process limit.
type Config struct {
	// DefaultUser is whom requests act as when they name nobody and Init has
	// not said otherwise. Default "user".
	DefaultUser string
	// Root is prefixed to the daemon's own files (etc/passwd, etc/hosts, …).
	// Default "/". Paths that clients name are never prefixed.
	Root string
	// SystemSettings lets init change the host name and files below etc.
	SystemSettings bool
	// Log receives the machine's log. Required.
	Log *Log
	// Spawner starts processes. Required.
	Spawner *Spawner
}

// Server answers clients and the host. Make it with New; Close ends what it
// owns.
type Server struct {
	config   Config
	log      *Log
	users    *users
	settings *settings
	// settingsMu serializes init requests.
	settingsMu sync.Mutex
	spawner    *Spawner
	table      *processTable
	watchers   *watcherTable
	metadata   *metadataStore
	cpu        cpuSampler
	services   *service.Server
	http       *http.Server
	// connections are those of http and of tunnels.
	connections *connections
	// mounted are the routes of other packages, which belong to the host.
	mounted *http.ServeMux
}

// New returns a server that has not started to listen.
func New(config Config) *Server {
	if config.DefaultUser == "" {
		config.DefaultUser = "user"
	}
	if config.Root == "" {
		config.Root = "/"
	}
	s := &Server{
		config:   config,
		log:      config.Log,
		users:    newUsers(config.Root),
		settings: newSettings(config.DefaultUser),
		spawner:  config.Spawner,
		table:    newProcessTable(),
		watchers: newWatcherTable(),
		metadata: newMetadataStore(),

		connections: newConnections(),
		mounted:     http.NewServeMux(),
	}
	s.mountServices()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler:           s.Handler(),
		Protocols:         protocols,
		ReadHeaderTimeout: 30 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          config.Log.std(),
		ConnState:         s.connections.track,
		ConnContext:       withConnection,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          1000,
			MaxReceiveBufferPerConnection: 4 << 20,
			MaxReceiveBufferPerStream:     1 << 20,
			MaxReadFrameSize:              256 << 10,
		},
	}
	return s
}

// Handler returns every route of the daemon.
func (s *Server) Handler() http.Handler {
	options := []connect.HandlerOption{
		connect.WithCodec(jsonCodec{}),
		connect.WithReadMaxBytes(maxMessage),
		// Clients inside the data centre gain nothing from compressed events,
		// and HTTP libraries ask for it without being told to.
		connect.WithCompressMinBytes(1 << 62),
	}
	mux := http.NewServeMux()
	route, processes := processconnect.NewProcessHandler(&processService{s}, options...)
	mux.Handle(route, holdable(processes))
	mux.Handle(filesystemconnect.NewFilesystemHandler(&filesystemService{s}, options...))
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /envs", s.envs)
	mux.HandleFunc("GET /files", s.downloadFile)
	mux.HandleFunc("POST /files", s.uploadFiles)
	mux.HandleFunc("POST /files/compose", s.composeFiles)
	mux.HandleFunc("POST /init", s.takeSettings)
	mux.HandleFunc("/", s.hostRoute)
	return s.guard(mux)
}

// Mount serves a pattern (as of http.ServeMux) to requests that carry the
// control token. Patterns must not overlap the daemon's own routes.
func (s *Server) Mount(pattern string, handler http.Handler) { s.mounted.Handle(pattern, handler) }

// Serve answers connections until Close or Shutdown.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(aheadListener{l})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve guest daemon: %w", err)
}

// Shutdown ends every process with SIGTERM, then SIGKILL when ctx is done,
// and stops serving.
func (s *Server) Shutdown(ctx context.Context) {
	s.services.Close(ctx)
	s.table.terminate(ctx)
	s.watchers.closeAll()
	s.http.Close()
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) envs(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.settings.get().envs)
}
