package doortest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

// storedMemory is what the memory of every fake sandbox takes on the disk.
const storedMemory = 42 << 20

func (d *Door) sleepRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /sandboxes/{id}/pause", d.one(d.pause))
	mux.HandleFunc("POST /v2/sandboxes/{id}/connect", d.one(d.connect))
	mux.HandleFunc("POST /sandboxes/{id}/fork", d.one(d.fork))
	mux.HandleFunc("POST /sandboxes/{id}/snapshots", d.one(d.snapshot))
	mux.HandleFunc("GET /snapshots", d.listSnapshots)
	mux.HandleFunc("DELETE /templates/{id}", d.deleteSnapshot)
}

func (d *Door) pause(w http.ResponseWriter, r *http.Request, s *client.Sandbox) {
	in := struct{ Memory bool }{true}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, 400, "The body is no pause")
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.State == client.StatePaused {
		refuse(w, 409, fmt.Sprintf("sandbox \"%s\" is paused already", s.SandboxID))
		return
	}
	s.State, s.Sleep, s.EndAt = client.StatePaused, client.SleepStored, time.Time{}
	if in.Memory {
		s.MemoryStoredBytes = storedMemory
	}
	w.WriteHeader(http.StatusNoContent)
}

func (d *Door) connect(w http.ResponseWriter, r *http.Request, s *client.Sandbox) {
	in := struct {
		Timeout int
		Memory  bool
	}{300, true}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, 400, "The body has no time-out")
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if end := time.Now().Add(time.Duration(in.Timeout) * time.Second); end.After(s.EndAt) {
		s.EndAt = end
	}
	if s.State != client.StatePaused {
		reply(w, 200, s)
		return
	}
	if d.damaged[s.SandboxID] && in.Memory {
		refuse(w, 409, "the memory image of the sandbox is damaged. It still starts from its disk: connect with onResume \"reboot\"")
		return
	}
	d.wake(s)
	reply(w, 201, s)
}

// wake needs the lock.
func (d *Door) wake(s *client.Sandbox) {
	s.State, s.Sleep, s.MemoryStoredBytes = client.StateRunning, "", 0
}

// Damage makes the memory that a sandbox will be resumed from unusable.
func (d *Door) Damage(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.damaged[id] = true
}

func (d *Door) fork(w http.ResponseWriter, r *http.Request, s *client.Sandbox) {
	in := struct{ Count, Timeout int }{1, 15}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Count < 1 || in.Count > 100 {
		refuse(w, 400, "count must be a number from 1 to 100")
		return
	}
	d.mu.Lock()
	source := *s
	d.mu.Unlock()
	if source.State == client.StatePaused {
		refuse(w, 409, "the sandbox is paused")
		return
	}
	out := []client.Forked{}
	for n := range in.Count {
		if d.MaxSandboxes > 0 && len(d.IDs()) >= d.MaxSandboxes {
			out = append(out, client.Forked{Error: &client.Error{Status: 429, Message: "the limit of sandboxes is reached"}})
			continue
		}
		f := source
		f.SandboxID = fmt.Sprintf("f%d%s", n+1, source.SandboxID)
		f.EndAt = time.Now().Add(time.Duration(in.Timeout) * time.Second)
		d.Add(f)
		out = append(out, client.Forked{Sandbox: &f})
	}
	reply(w, 201, out)
}

func (d *Door) snapshot(w http.ResponseWriter, r *http.Request, s *client.Sandbox) {
	var in struct{ Name string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(w, 400, "The body is no snapshot")
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.State == client.StatePaused {
		refuse(w, 409, "the sandbox is paused")
		return
	}
	d.taken++
	n := client.Snapshot{SnapshotID: fmt.Sprintf("t%d:default", d.taken), Names: []string{}, SandboxID: s.SandboxID,
		CreatedAt: time.Now(), MemoryStoredBytes: storedMemory, DiskUsedBytes: s.DiskUsedBytes}
	if in.Name != "" {
		n.SnapshotID = "team/" + in.Name + ":default"
		n.Names = []string{n.SnapshotID}
	}
	d.snapshots = slices.DeleteFunc(d.snapshots, func(old client.Snapshot) bool { return old.SnapshotID == n.SnapshotID })
	d.snapshots = append(d.snapshots, n)
	reply(w, 201, n)
}

func (d *Door) listSnapshots(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	from, _ := strconv.Atoi(q.Get("nextToken"))
	d.mu.Lock()
	defer d.mu.Unlock()
	all := []client.Snapshot{}
	for _, s := range slices.Backward(d.snapshots) {
		named := q.Get("name") == "" || s.SnapshotID == q.Get("name") || strings.Contains(s.SnapshotID, "/"+q.Get("name")+":")
		if named && (q.Get("sandboxID") == "" || s.SandboxID == q.Get("sandboxID")) {
			all = append(all, s)
		}
	}
	reply(w, 200, page(d, w, all, from))
}

func (d *Door) deleteSnapshot(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, s := range d.snapshots {
		if s.SnapshotID == r.PathValue("id") {
			d.snapshots = slices.Delete(d.snapshots, i, i+1)
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	refuse(w, 404, fmt.Sprintf("template '%s' not found", r.PathValue("id")))
}
