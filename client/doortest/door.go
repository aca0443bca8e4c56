// Package doortest is a small server that behaves like Atoll's front, control
// API and edge, so that the client and the command line can be tested without
// an engine: sandboxes are records, and all of them are one guest.
package doortest

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

// The secrets that the door accepts.
const (
	APIKey     = "e2b_0123456789abcdef0123456789abcdef01234567"
	GuestToken = "guest-token"
)

// Door is a running fake.
type Door struct {
	URL string
	// PageSize is how many entries a page of a listing has.
	PageSize int
	// MaxSandboxes is how many there may be before forks are refused; 0 is no limit.
	MaxSandboxes int
	// Kernel, where set, is the code interpreter of all sandboxes.
	Kernel http.Handler
	// Sprites is the Sprites API.
	Sprites *Sprites

	mu        sync.Mutex
	sandboxes map[string]*client.Sandbox
	order     []string
	created   []client.NewSandbox
	logs      map[string][]client.LogEntry
	keys      map[string]client.APIKey
	snapshots []client.Snapshot
	taken     int             // snapshots, those that are gone included
	damaged   map[string]bool // sandboxes that cannot be resumed with their memory
	guest     *httputil.ReverseProxy
	server    *httptest.Server
}

// New starts a door whose sandboxes are all the guest daemon at guestURL;
// empty: there is none. It is closed with the test.
func New(t testing.TB, guestURL string) *Door {
	d := &Door{PageSize: 100, sandboxes: map[string]*client.Sandbox{}, logs: map[string][]client.LogEntry{},
		keys: map[string]client.APIKey{}, damaged: map[string]bool{}, Sprites: newSprites()}
	if guestURL != "" {
		u, err := url.Parse(guestURL)
		if err != nil {
			t.Fatal(err)
		}
		d.guest = &httputil.ReverseProxy{FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
	}
	s := httptest.NewServer(d.handler())
	t.Cleanup(s.CloseClientConnections)
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	t.Cleanup(d.Sprites.close)
	d.URL, d.server = s.URL, s
	return d
}

// Client returns a client with the door's secrets.
func (d *Door) Client(t testing.TB) *client.Client {
	c, err := client.New(client.Config{APIURL: d.URL, APIKey: APIKey})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Add puts a running sandbox there.
func (d *Door) Add(s client.Sandbox) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.State == "" {
		s.State = client.StateRunning
	}
	d.sandboxes[s.SandboxID] = &s
	d.order = append(d.order, s.SandboxID)
}

// IDs are those of the sandboxes that are there.
func (d *Door) IDs() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.order)
}

// Break closes all connections, as a server does that is killed.
func (d *Door) Break() {
	d.server.CloseClientConnections()
	d.Sprites.breakOff()
}

// Created is what was asked for, in order.
func (d *Door) Created() []client.NewSandbox {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.created)
}

// Log adds a line to a sandbox's log.
func (d *Door) Log(id string, e client.LogEntry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logs[id] = append(d.logs[id], e)
}

func (d *Door) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /sandboxes", d.create)
	mux.HandleFunc("GET /v2/sandboxes", d.list)
	mux.HandleFunc("GET /sandboxes/{id}", d.one(d.get))
	mux.HandleFunc("DELETE /sandboxes/{id}", d.one(d.kill))
	mux.HandleFunc("POST /sandboxes/{id}/timeout", d.one(d.timeout))
	mux.HandleFunc("GET /sandboxes/{id}/metrics", d.one(func(w http.ResponseWriter, _ *http.Request, s *client.Sandbox) {
		reply(w, 200, []client.Metric{{TimestampUnix: 1, CPUCount: 2, MemTotal: 1 << 30}})
	}))
	mux.HandleFunc("GET /v2/sandboxes/{id}/logs", d.readLogs)
	mux.HandleFunc("GET /templates", func(w http.ResponseWriter, r *http.Request) {
		reply(w, 200, []client.Template{{TemplateID: "tbase", Names: []string{"base"}, BuildStatus: "ready", CPUCount: 2, MemoryMB: 512, DiskSizeMB: 1024, UpdatedAt: time.Now()}})
	})
	d.sleepRoutes(mux)
	mux.HandleFunc("/api-keys", d.apiKeys)
	mux.HandleFunc("DELETE /api-keys/{id}", d.deleteKey)
	d.Sprites.routes(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id := r.Header.Get("E2b-Sandbox-Id"); id != "" {
			d.toGuest(w, r, id)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			if r.Header.Get("Authorization") != "Bearer "+APIKey {
				reply(w, 401, map[string]string{"error": "unauthorized", "message": "Invalid token"})
				return
			}
		} else if r.URL.Path != "/health" && r.Header.Get("X-API-Key") != APIKey {
			refuse(w, 401, "Invalid API key")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// toGuest is the edge: it passes the request on as it is.
func (d *Door) toGuest(w http.ResponseWriter, r *http.Request, id string) {
	d.mu.Lock()
	s := d.sandboxes[id]
	if s != nil && s.State == client.StatePaused && s.Lifecycle != nil && s.Lifecycle.AutoResume {
		d.wake(s)
	}
	asleep := s != nil && s.State == client.StatePaused
	d.mu.Unlock()
	switch {
	case s == nil:
		refuse(w, 502, "The sandbox was not found")
	case asleep:
		refuse(w, 502, "The sandbox was not found running, for it is paused")
	case !d.open(r.Header.Get("E2b-Sandbox-Port")):
		refuse(w, 502, "The sandbox is running but port is not open")
	case s.EnvdAccessToken != r.Header.Get("X-Access-Token"):
		refuse(w, 401, "unauthorized access")
	case r.Header.Get("E2b-Sandbox-Port") == kernelPort:
		d.Kernel.ServeHTTP(w, r)
	case d.guest == nil:
		refuse(w, 502, "There is no guest")
	default:
		// The guest may answer before the end of the request has been read.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			refuse(w, 500, err.Error())
			return
		}
		d.guest.ServeHTTP(w, r)
	}
}

const kernelPort = "49999"

// open reports whether somebody listens on a port of the sandboxes.
func (d *Door) open(port string) bool {
	return port == "49983" || port == kernelPort && d.Kernel != nil
}

func (d *Door) create(w http.ResponseWriter, r *http.Request) {
	var n client.NewSandbox
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil || n.TemplateID == "" {
		refuse(w, 400, "The body is not a sandbox")
		return
	}
	d.mu.Lock()
	known := n.TemplateID == "base" || n.TemplateID == "code-interpreter-v1" || slices.ContainsFunc(d.snapshots, func(s client.Snapshot) bool { return s.SnapshotID == n.TemplateID })
	d.mu.Unlock()
	if !known {
		refuse(w, 404, fmt.Sprintf("template '%s' not found", n.TemplateID))
		return
	}
	ttl := 15
	if n.Timeout != nil {
		ttl = *n.Timeout
	}
	d.mu.Lock()
	d.created = append(d.created, n)
	s := client.Sandbox{SandboxID: fmt.Sprintf("i%019x", len(d.created)), TemplateID: "tbase", Alias: "base", StartedAt: time.Now(),
		EndAt: time.Now().Add(time.Duration(ttl) * time.Second), CPUCount: 2, MemoryMB: 512, Metadata: n.Metadata,
		Lifecycle: &client.Lifecycle{OnTimeout: "kill", AutoResume: n.AutoResume != nil && n.AutoResume.Enabled}}
	if n.AutoPause {
		s.Lifecycle.OnTimeout = "pause"
	}
	if n.Secure {
		s.EnvdAccessToken = GuestToken
	}
	d.mu.Unlock()
	d.Add(s)
	reply(w, 201, s)
}

func (d *Door) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	from, _ := strconv.Atoi(q.Get("nextToken"))
	wanted, err := url.ParseQuery(q.Get("metadata"))
	if err != nil {
		refuse(w, 400, "Invalid metadata filter")
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	all := []client.Sandbox{}
	for _, id := range slices.Backward(d.order) {
		s := *d.sandboxes[id]
		keep := q.Get("state") == "" || slices.Contains(strings.Split(q.Get("state"), ","), s.State)
		for k := range wanted {
			keep = keep && s.Metadata[k] == wanted.Get(k)
		}
		if s.EnvdAccessToken, s.Lifecycle = "", nil; keep {
			all = append(all, s)
		}
	}
	reply(w, 200, page(d, w, all, from))
}

// page is the entries from one on, and tells where the next page begins.
func page[T any](d *Door, w http.ResponseWriter, all []T, from int) []T {
	all = all[min(from, len(all)):]
	if len(all) > d.PageSize {
		all = all[:d.PageSize]
		w.Header().Set("X-Next-Token", strconv.Itoa(from+d.PageSize))
	}
	return all
}

func (d *Door) get(w http.ResponseWriter, _ *http.Request, s *client.Sandbox) {
	d.mu.Lock()
	defer d.mu.Unlock()
	reply(w, 200, s)
}

// one finds the sandbox that a path names.
func (d *Door) one(then func(http.ResponseWriter, *http.Request, *client.Sandbox)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		s := d.sandboxes[r.PathValue("id")]
		d.mu.Unlock()
		if s == nil {
			refuse(w, 404, fmt.Sprintf("sandbox \"%s\" doesn't exist or you don't have access to it", r.PathValue("id")))
			return
		}
		then(w, r, s)
	}
}

func (d *Door) kill(w http.ResponseWriter, r *http.Request, s *client.Sandbox) {
	d.mu.Lock()
	delete(d.sandboxes, s.SandboxID)
	d.order = slices.DeleteFunc(d.order, func(id string) bool { return id == s.SandboxID })
	d.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (d *Door) timeout(w http.ResponseWriter, r *http.Request, s *client.Sandbox) {
	var in struct{ Timeout int }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, 400, "The body has no time-out")
		return
	}
	d.mu.Lock()
	s.EndAt = time.Now().Add(time.Duration(in.Timeout) * time.Second)
	d.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (d *Door) readLogs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	cursor, _ := strconv.ParseInt(q.Get("cursor"), 10, 64)
	limit, _ := strconv.Atoi(q.Get("limit"))
	d.mu.Lock()
	defer d.mu.Unlock()
	out := []client.LogEntry{}
	for _, e := range d.logs[r.PathValue("id")] {
		if e.Timestamp.UnixMilli() >= cursor && len(out) < limit {
			out = append(out, e)
		}
	}
	reply(w, 200, map[string]any{"logs": out})
}

func (d *Door) apiKeys(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Method == http.MethodGet {
		all := []client.APIKey{}
		for _, k := range d.keys {
			all = append(all, k)
		}
		reply(w, 200, all)
		return
	}
	var in struct{ Name string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Name == "" {
		refuse(w, 400, "The key needs a name")
		return
	}
	k := client.APIKey{ID: fmt.Sprintf("key-%d", len(d.keys)+1), Name: in.Name, CreatedAt: time.Now(),
		Mask: client.Mask{Prefix: "e2b_", MaskedValuePrefix: "01", MaskedValueSuffix: "cdef"}}
	d.keys[k.ID] = k
	k.Key = APIKey
	reply(w, 201, k)
}

func (d *Door) deleteKey(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.keys[r.PathValue("id")]; !ok {
		refuse(w, 404, "There is no such key")
		return
	}
	delete(d.keys, r.PathValue("id"))
	w.WriteHeader(http.StatusNoContent)
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// refuse answers in the control API's error shape.
func refuse(w http.ResponseWriter, status int, message string) {
	reply(w, status, map[string]any{"code": status, "message": message})
}
