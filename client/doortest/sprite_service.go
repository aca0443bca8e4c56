package doortest

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

// serviceRoutes serve services that are records; none of them runs anything.
func (s *Sprites) serviceRoutes(mux *http.ServeMux, one string) {
	for pattern, f := range map[string]func(http.ResponseWriter, *http.Request, *sprite){
		"GET " + one + "/services": func(w http.ResponseWriter, _ *http.Request, one *sprite) {
			all := []client.Service{}
			for _, v := range one.services {
				all = append(all, *v)
			}
			slices.SortFunc(all, func(a, b client.Service) int { return cmp.Compare(a.Name, b.Name) })
			reply(w, 200, all)
		},
		"PUT " + one + "/services/{service}": func(w http.ResponseWriter, r *http.Request, one *sprite) {
			var n client.NewService
			if err := json.NewDecoder(r.Body).Decode(&n); err != nil || n.Cmd == "" {
				plain(w, 400, "cmd is required")
				return
			}
			name := r.PathValue("service")
			one.services[name] = &client.Service{Name: name, Cmd: n.Cmd, Args: n.Args, Env: n.Env, Dir: n.Dir, Needs: n.Needs, HTTPPort: n.HTTPPort,
				State: &client.ServiceState{Name: name}}
			startService(w, one.services[name])
		},
		"GET " + one + "/services/{service}": service(func(w http.ResponseWriter, _ *http.Request, _ *sprite, v *client.Service) { reply(w, 200, v) }),
		"DELETE " + one + "/services/{service}": service(func(w http.ResponseWriter, _ *http.Request, one *sprite, v *client.Service) {
			delete(one.services, v.Name)
			w.WriteHeader(http.StatusNoContent)
		}),
		"POST " + one + "/services/{service}/start":   service(func(w http.ResponseWriter, _ *http.Request, _ *sprite, v *client.Service) { startService(w, v) }),
		"POST " + one + "/services/{service}/restart": service(func(w http.ResponseWriter, _ *http.Request, _ *sprite, v *client.Service) { startService(w, v) }),
		"POST " + one + "/services/{service}/stop": service(func(w http.ResponseWriter, _ *http.Request, _ *sprite, v *client.Service) {
			if v.State.Status != "running" {
				plain(w, 409, "the service is not running")
				return
			}
			v.State.Status = "stopped"
			serviceEvents(w, client.ServiceEvent{Type: "stopping"}, client.ServiceEvent{Type: "stopped"})
		}),
		"GET " + one + "/services/{service}/logs": service(func(w http.ResponseWriter, _ *http.Request, _ *sprite, v *client.Service) {
			serviceEvents(w, client.ServiceEvent{Type: "stdout", Data: "a line of " + v.Name + "\n"}, client.ServiceEvent{Type: "stderr", Data: "an error\n"})
		}),
		"POST " + one + "/services/signal": func(w http.ResponseWriter, r *http.Request, one *sprite) {
			var in struct{ Name, Signal string }
			if err := json.NewDecoder(r.Body).Decode(&in); err != nil || one.services[in.Name] == nil {
				plain(w, 404, "service not found: "+in.Name)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		},
	} {
		mux.HandleFunc(pattern, s.one(f, true))
	}
}

// service finds the service that a path names.
func service(then func(http.ResponseWriter, *http.Request, *sprite, *client.Service)) func(http.ResponseWriter, *http.Request, *sprite) {
	return func(w http.ResponseWriter, r *http.Request, one *sprite) {
		v := one.services[r.PathValue("service")]
		if v == nil {
			plain(w, 404, "service not found: "+r.PathValue("service"))
			return
		}
		then(w, r, one, v)
	}
}

func startService(w http.ResponseWriter, v *client.Service) {
	v.State.Status, v.State.PID, v.State.StartedAt = "running", 42, time.Now().UTC()
	serviceEvents(w, client.ServiceEvent{Type: "started"}, client.ServiceEvent{Type: "stdout", Data: "listening\n"})
}

// serviceEvents tells of events, and of the end.
func serviceEvents(w http.ResponseWriter, events ...client.ServiceEvent) {
	for _, e := range append(events, client.ServiceEvent{Type: "complete", LogFiles: map[string]string{"combined": "/.sprite/logs/services/web.log"}}) {
		e.Timestamp = time.Now().UnixMilli()
		line(w, e)
	}
}
