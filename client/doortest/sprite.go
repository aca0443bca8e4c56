package doortest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

// SpriteOrg is the organisation of the door's sprites.
const SpriteOrg = "default"

// Sprites is the Sprites API of a Door. Sprites are records; their programs,
// files and ports are this host's.
type Sprites struct {
	// PageSize is how many sprites a page of the listing has.
	PageSize int

	mu       sync.Mutex
	all      map[string]*sprite
	sessions map[string]*execSession
	started  int // sessions, those that ended included
}

// sprite is one record.
type sprite struct {
	client.Sprite
	checkpoints []client.Checkpoint
	services    map[string]*client.Service
	policy      client.NetworkPolicy
	restored    []string // ids, in order
}

func newSprites() *Sprites {
	return &Sprites{PageSize: 50, all: map[string]*sprite{}, sessions: map[string]*execSession{}}
}

// Names are those of the sprites that are there, in order.
func (s *Sprites) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for n := range s.all {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Add puts a running sprite there.
func (s *Sprites) Add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(client.NewSprite{Name: name})
}

func (s *Sprites) add(n client.NewSprite) *sprite {
	now := time.Now().UTC()
	one := &sprite{services: map[string]*client.Service{}, Sprite: client.Sprite{ID: "sprite-" + n.Name, Name: n.Name, Organization: SpriteOrg,
		Status: client.SpriteRunning, CreatedAt: now, UpdatedAt: now, URL: "http://" + n.Name + ".localhost", Labels: n.Labels,
		URLSettings: client.SpriteURL{Auth: "sprite"}, Environment: n.Environment, Config: n.Config}}
	if n.URLSettings != nil {
		one.URLSettings = *n.URLSettings
	}
	s.all[n.Name] = one
	return one
}

// Restored is the checkpoints that a sprite was put back to, in order.
func (s *Sprites) Restored(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all[name].restored)
}

func (s *Sprites) routes(mux *http.ServeMux) {
	const one = "/v1/sprites/{name}"
	mux.HandleFunc("POST /v1/sprites", s.create)
	mux.HandleFunc("GET /v1/sprites", s.list)
	for pattern, f := range map[string]func(http.ResponseWriter, *http.Request, *sprite){
		"GET " + one: func(w http.ResponseWriter, _ *http.Request, one *sprite) { reply(w, 200, one.Sprite) },
		"PUT " + one: s.update,
		"DELETE " + one: func(w http.ResponseWriter, _ *http.Request, one *sprite) {
			delete(s.all, one.Name)
			w.WriteHeader(http.StatusNoContent)
		},
		"POST " + one + "/upgrade": func(w http.ResponseWriter, _ *http.Request, _ *sprite) { w.WriteHeader(http.StatusNoContent) },
		"POST " + one + "/restart": func(w http.ResponseWriter, _ *http.Request, one *sprite) {
			reply(w, 202, map[string]string{"sprite_name": one.Name, "machine_id": "m1", "message": "restarting"})
		},
		"POST " + one + "/checkpoint":               s.checkpoint,
		"GET " + one + "/checkpoints":               s.listCheckpoints,
		"GET " + one + "/checkpoints/{id}":          s.getCheckpoint,
		"DELETE " + one + "/checkpoints/{id}":       s.deleteCheckpoint,
		"POST " + one + "/checkpoints/{id}/restore": s.restore,
		"GET " + one + "/policy/network": func(w http.ResponseWriter, _ *http.Request, one *sprite) {
			reply(w, 200, client.NetworkPolicy{Rules: append([]client.NetworkRule{}, one.policy.Rules...)})
		},
		"POST " + one + "/policy/network": func(w http.ResponseWriter, r *http.Request, one *sprite) {
			if json.NewDecoder(r.Body).Decode(&one.policy) == nil {
				w.WriteHeader(http.StatusNoContent)
			}
		},
	} {
		mux.HandleFunc(pattern, s.one(f, true))
	}
	s.serviceRoutes(mux, one)
	s.guestRoutes(mux, one)
}

// one finds the sprite that a path names. With locked, nothing else happens
// meanwhile.
func (s *Sprites) one(then func(http.ResponseWriter, *http.Request, *sprite), locked bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		one := s.all[r.PathValue("name")]
		if !locked {
			s.mu.Unlock()
		} else {
			defer s.mu.Unlock()
		}
		w.Header().Set("Sprite-Version", "v1.0.0")
		if one == nil {
			reply(w, 404, map[string]string{"error": "not_found", "message": fmt.Sprintf("there is no sprite %q", r.PathValue("name"))})
			return
		}
		then(w, r, one)
	}
}

func (s *Sprites) create(w http.ResponseWriter, r *http.Request) {
	var n client.NewSprite
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil || n.Name == "" {
		reply(w, 400, map[string]string{"error": "name is required"})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[n.Name] != nil {
		reply(w, 409, map[string]string{"error": "conflict", "message": fmt.Sprintf("there is a sprite %q already", n.Name)})
		return
	}
	if f := n.From; f != nil && (s.all[f.Sprite] == nil || !slices.ContainsFunc(s.all[f.Sprite].checkpoints, func(c client.Checkpoint) bool { return c.ID == f.Checkpoint })) {
		reply(w, 404, map[string]string{"error": "not_found", "message": "there is no such checkpoint"})
		return
	}
	reply(w, 201, s.add(n).Sprite)
}

func (s *Sprites) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []client.Sprite
	org := client.SpriteOrg{Name: SpriteOrg, Running: len(s.all)}
	for name, one := range s.all {
		if strings.HasPrefix(name, q.Get("prefix")) {
			found = append(found, one.Sprite)
		}
	}
	slices.SortFunc(found, func(a, b client.Sprite) int { return cmp.Compare(a.Name, b.Name) })
	if r.Header.Get("Accept") == "application/x-ndjson" {
		for _, one := range found {
			line(w, client.SpriteChange{Name: one.Name, Status: one.Status, Timestamp: time.Now().UTC(), Org: org})
		}
		line(w, client.SpriteChange{Type: "heartbeat", Timestamp: time.Now().UTC(), Org: org})
		return
	}
	from, _ := strconv.Atoi(q.Get("continuation_token"))
	out := map[string]any{"org": org, "name": org.Name, "has_more": false}
	found = found[min(from, len(found)):]
	if len(found) > s.PageSize {
		found = found[:s.PageSize]
		out["has_more"], out["next_continuation_token"] = true, strconv.Itoa(from+s.PageSize)
	}
	out["sprites"] = append([]client.Sprite{}, found...)
	reply(w, 200, out)
}

func (s *Sprites) update(w http.ResponseWriter, r *http.Request, one *sprite) {
	var u client.SpriteUpdate
	if err := json.NewDecoder(r.Body).Decode(&u); err != nil {
		reply(w, 400, map[string]string{"error": "bad_request"})
		return
	}
	if u.URLSettings != nil {
		one.URLSettings.Auth = cmp.Or(u.URLSettings.Auth, one.URLSettings.Auth)
		one.URLSettings.PrivateAccess = cmp.Or(u.URLSettings.PrivateAccess, one.URLSettings.PrivateAccess)
	}
	if u.ClearLabels {
		one.Labels = nil
	}
	if u.Labels != nil {
		one.Labels = u.Labels
	}
	reply(w, 200, one.Sprite)
}

func (s *Sprites) checkpoint(w http.ResponseWriter, r *http.Request, one *sprite) {
	var n client.NewCheckpoint
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
		plain(w, 400, "the body is no checkpoint")
		return
	}
	id := fmt.Sprintf("v%d", len(one.checkpoints)+1)
	one.checkpoints = append(one.checkpoints, client.Checkpoint{ID: id, CreatedAt: time.Now().UTC(), Comment: n.Comment, SizeBytes: 3 << 20, Memory: n.Memory})
	line(w, client.SpriteEvent{Type: "info", Data: "Creating checkpoint", Time: time.Now().UTC()})
	line(w, client.SpriteEvent{Type: "complete", Data: "Checkpoint " + id + " created", Time: time.Now().UTC()})
}

func (s *Sprites) listCheckpoints(w http.ResponseWriter, r *http.Request, one *sprite) {
	found := []client.Checkpoint{}
	for _, c := range one.checkpoints {
		if !c.IsAuto || r.URL.Query().Get("includeAuto") == "true" {
			found = append(found, c)
		}
	}
	reply(w, 200, found)
}

// known finds the checkpoint that a path names.
func (one *sprite) known(w http.ResponseWriter, r *http.Request) (int, bool) {
	i := slices.IndexFunc(one.checkpoints, func(c client.Checkpoint) bool { return c.ID == r.PathValue("id") })
	if i < 0 {
		plain(w, 404, "checkpoint not found: "+r.PathValue("id"))
	}
	return i, i >= 0
}

func (s *Sprites) getCheckpoint(w http.ResponseWriter, r *http.Request, one *sprite) {
	if i, ok := one.known(w, r); ok {
		reply(w, 200, one.checkpoints[i])
	}
}

func (s *Sprites) deleteCheckpoint(w http.ResponseWriter, r *http.Request, one *sprite) {
	if i, ok := one.known(w, r); ok {
		one.checkpoints = slices.Delete(one.checkpoints, i, i+1)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Sprites) restore(w http.ResponseWriter, r *http.Request, one *sprite) {
	i, ok := one.known(w, r)
	if !ok {
		return
	}
	id := one.checkpoints[i].ID
	if one.checkpoints[i].Comment == "broken" {
		line(w, client.SpriteEvent{Type: "error", Error: "the disk is full"})
		return
	}
	one.restored = append(one.restored, id)
	one.checkpoints = append(one.checkpoints, client.Checkpoint{ID: fmt.Sprintf("pre-restore-%s-%d", id, time.Now().Unix()), IsAuto: true, CreatedAt: time.Now().UTC()})
	line(w, client.SpriteEvent{Type: "info", Data: "Restoring from " + id})
	line(w, client.SpriteEvent{Type: "complete", Data: "Restore from " + id + " complete"})
}

// line writes one line of a stream.
func line(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	json.NewEncoder(w).Encode(v)
	http.NewResponseController(w).Flush()
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}
