package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/api/admin"
	"github.com/atoll-cloud/atoll/api/e2b"
	spritedoor "github.com/atoll-cloud/atoll/api/sprites"
	"github.com/atoll-cloud/atoll/bundle"
	"github.com/atoll-cloud/atoll/edge"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/meter"
	"github.com/atoll-cloud/atoll/observe"
	"github.com/atoll-cloud/atoll/store"
)

// server is one running Atoll. Its parts are opened in this order and closed
// in the opposite one.
type server struct {
	config   upConfig
	log      *slog.Logger
	listener net.Listener
	records  *store.Store
	accounts *account.Accounts
	meter    *meter.Meter
	metrics  *observe.Metrics
	engine   *machine.Engine
	bundle   string // version of the helper binaries
	door     *e2b.Door
	sprites  *spritedoor.Door
	edge     *edge.Edge
	http     *http.Server

	secrets credentials
}

// startServer opens everything and begins to serve. progress hears of long
// work. On an error nothing stays open.
func startServer(ctx context.Context, config upConfig, log *slog.Logger, progress func(machine.Progress)) (_ *server, err error) {
	s := &server{config: config, log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(false))
		}
	}()
	if err := os.MkdirAll(config.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	if s.listener, err = net.Listen("tcp", config.Listen); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", config.Listen, err)
	}
	if s.records, err = store.Open(ctx, store.Config{Dir: filepath.Join(config.Data, "records"), Logger: log}); err != nil {
		return nil, fmt.Errorf("open the records: %w", err)
	}
	if err := s.openAccounts(ctx); err != nil {
		return nil, err
	}
	if err := s.openMeter(ctx); err != nil {
		return nil, err
	}
	if err := s.openEngine(ctx, progress); err != nil {
		return nil, err
	}
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	s.http = edge.Server(observe.Middleware(handler, s.metrics, log), log)
	return s, nil
}

// openAccounts opens teams and keys, and keeps the first start's secrets in
// the file that the commands on this host read.
func (s *server) openAccounts(ctx context.Context) (err error) {
	if s.accounts, err = account.Open(ctx, account.Config{Store: s.records, Logger: s.log}); err != nil {
		return fmt.Errorf("open the accounts: %w", err)
	}
	if s.secrets, err = readCredentials(s.config.Data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.secrets.APIURL = "http://" + reachable(s.listener.Addr())
	s.secrets.SandboxURL = s.secrets.APIURL
	s.secrets.Domain = s.domain()
	_, err = s.accounts.Bootstrap(ctx, func(first account.FirstSecrets) error {
		s.secrets.APIKey, s.secrets.AdminToken = first.APIKey, first.AdminToken
		return writeCredentials(s.config.Data, s.secrets)
	})
	if err != nil {
		return fmt.Errorf("make the first team: %w", err)
	}
	for _, team := range s.accounts.Teams() {
		if !team.Default || team.MaxConcurrent == s.config.Sandboxes {
			continue
		}
		if _, err := s.accounts.SetMaxConcurrent(ctx, team.ID, s.config.Sandboxes); err != nil {
			return fmt.Errorf("limit the first team: %w", err)
		}
	}
	return writeCredentials(s.config.Data, s.secrets)
}

func (s *server) openEngine(ctx context.Context, progress func(machine.Progress)) error {
	instance, err := instanceName(s.config.Data)
	if err != nil {
		return err
	}
	lib := filepath.Join(s.config.Data, "lib")
	if err := os.MkdirAll(lib, 0o755); err != nil {
		return err
	}
	bin, err := bundle.Extract(lib)
	if err != nil {
		return err
	}
	s.bundle = filepath.Base(bin)
	s.metrics = observe.NewMetrics()
	observer := s.metrics.NewMachines(s.counts)
	s.engine, err = machine.Open(ctx, machine.Config{
		DataDir: s.config.Data, RunDir: "/run/atoll-" + instance, Instance: instance,
		LibDir: lib, Bundle: s.bundle, Version: version(),
		MaxTimeout: s.config.MaxTimeout, Pool: s.config.Pool, PoolMax: s.config.PoolMax, Cold: s.config.Cold,
		DiskPoolBytes: s.config.DiskPool << 30, Templates: s.config.Templates,
		Idle: s.config.Idle, Linger: s.config.Linger, MemoryReserve: s.config.reserveBytes(),
		TeamLimit: func(id string) int {
			team, err := s.accounts.Team(id)
			if err != nil || team.MaxConcurrent == 0 {
				return -1
			}
			return team.MaxConcurrent
		},
		Network: s.config.Network, Meter: s.meter,
		Logger: s.log, Progress: progress,
	}, s.records, observer)
	if err != nil {
		return fmt.Errorf("open the engine: %w", err)
	}
	return nil
}

// handler puts the doors together: guests by host name or header first, then
// the operator's paths, then the APIs.
func (s *server) handler() (http.Handler, error) {
	visitKey, err := secretFile(s.config.Data, "visits.key")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	s.edge = edge.New(edge.Config{
		Engine: s.engine, Domain: s.domain(), Fallback: mux, Logger: s.log,
		Visitors: spritedoor.Visitors{Accounts: s.accounts}, VisitKey: visitKey,
	})
	operator := admin.New(admin.Config{
		Engine: s.engine, Metrics: s.metrics, IsAdmin: s.accounts.IsAdmin, Logger: s.log,
	})
	for _, path := range []string{"/admin/metrics", "/admin/events"} {
		mux.Handle(path, operator) // by name: E2B's API has paths below /admin too
	}
	s.sprites = spritedoor.New(spritedoor.Config{
		Engine: s.engine, Daemon: s.edge, Accounts: s.accounts, URL: s.spriteURL,
		Idle: s.config.SpriteIdle, CreatesPerMinute: s.config.Creates, Bundle: s.bundle, Logger: s.log,
	})
	mux.Handle("/v1/", s.sprites)
	mux.Handle("/usage", s.usageDoor())
	mux.Handle("/usage/", s.usageDoor())
	s.door = e2b.New(e2b.Config{Engine: s.engine, Accounts: s.accounts, Domain: s.domain(), Logger: s.log})
	mux.Handle("/", s.door)
	return s.edge, nil
}

// spriteURL is where a sprite is reached. A domain of the operator's is served
// by a proxy that speaks TLS, as E2B's clients expect of theirs; one with a
// port is this server's own.
func (s *server) spriteURL(label string) string {
	domain := s.domain()
	if _, _, err := net.SplitHostPort(domain); err == nil {
		return "http://" + label + "." + domain
	}
	return "https://" + label + "." + domain
}

func (s *server) counts() observe.MachineCounts {
	counts := observe.MachineCounts{ByState: map[string]int{}}
	if s.engine == nil { // scraped while it starts
		return counts
	}
	for _, m := range s.engine.List("") {
		counts.ByState[string(m.State)]++
	}
	for _, p := range s.engine.Pools() {
		counts.Pool += p.Warm
		counts.PoolTarget += p.Target
	}
	return counts
}

// domain is the name below which guests are reached, with the port where
// clients must name it.
func (s *server) domain() string {
	if s.config.Domain != "" {
		return s.config.Domain
	}
	_, port, _ := net.SplitHostPort(s.listener.Addr().String())
	return net.JoinHostPort("localhost", port)
}

// run serves until ctx ends.
func (s *server) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() { s.door.Run(ctx) })
	work.Go(func() { s.sprites.Run(ctx) })
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
		return nil
	}
}

// close ends the server; with end all machines too, else they run on.
func (s *server) close(end bool) error {
	var errs []error
	if s.http != nil {
		grace := 2 * time.Second
		if end {
			grace /= 10 // what still runs ends with its sandbox anyway
		}
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		if err := s.http.Shutdown(ctx); err != nil {
			errs = append(errs, s.http.Close()) // streams have no end of their own
		}
	}
	if s.edge != nil {
		s.edge.Close()
	}
	if s.listener != nil {
		s.listener.Close() // closed already when it served
	}
	if s.engine != nil {
		errs = append(errs, s.engine.Close(end))
	}
	if s.meter != nil {
		errs = append(errs, s.meter.Close())
	}
	if s.accounts != nil {
		s.accounts.Close()
	}
	if s.records != nil {
		s.records.Close()
	}
	return errors.Join(errs...)
}

// reachable turns the address of a listener into one that clients on this
// host can use.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// instanceName returns the short name that this data directory's kernel
// objects carry; it is drawn at the first start.
func instanceName(data string) (string, error) {
	path := filepath.Join(data, "instance.json")
	var instance struct {
		Name string `json:"name"`
	}
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &instance)
		if err == nil && instance.Name == "" {
			err = errors.New("it names nothing")
		}
	}
	if err == nil {
		return instance.Name, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	random := make([]byte, 2)
	rand.Read(random) // does not fail
	instance.Name = "at" + hex.EncodeToString(random)
	if b, err = json.Marshal(instance); err != nil {
		return "", err
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return "", fmt.Errorf("name this instance: %w", err)
	}
	return instance.Name, nil
}

// secretFile returns the random secret that a file of the data directory holds;
// it is drawn at the first start.
func secretFile(data, name string) ([]byte, error) {
	path := filepath.Join(data, name)
	b, err := os.ReadFile(path)
	switch {
	case err == nil && len(b) == 32:
		return b, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	b = make([]byte, 32)
	rand.Read(b) // does not fail
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return b, nil
}
