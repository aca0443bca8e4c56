package sprites

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/wire"
)

// daemonRoutes are those that the daemon inside of the sprite answers. Each is
// named here, so that a client reaches none that is for the host alone.
func (d *Door) daemonRoutes() {
	for _, p := range []struct{ methods, path, class string }{
		{"GET POST", "/exec", "exec"},
		{"GET", "/exec/{a}", "exec"},
		{"POST", "/exec/{a}/kill", "exec"},
		{"GET", "/control", "control"},
		{"GET", "/proxy", "proxy"},
		{"GET", "/ports/watch", "ports"},
		{"GET", "/fs/read", "fs"},
		{"PUT", "/fs/write", "fs"},
		{"GET", "/fs/list", "fs"},
		{"DELETE", "/fs/delete", "fs"},
		{"POST", "/fs/rename", "fs"},
		{"POST", "/fs/copy", "fs"},
		{"POST", "/fs/chmod", "fs"},
		{"POST", "/fs/chown", "fs"},
		{"GET", "/fs/watch", "fs"},
		{"GET", "/services", "services"},
		{"GET PUT DELETE", "/services/{a}", "services"},
		{"POST", "/services/signal", "services"},
		{"POST", "/services/{a}/start", "services"},
		{"POST", "/services/{a}/stop", "services"},
		{"POST", "/services/{a}/restart", "services"},
		{"GET", "/services/{a}/logs", "services"},
	} {
		for method := range strings.FieldsSeq(p.methods) {
			d.spriteRoute(method, p.path, p.class, func(w http.ResponseWriter, r *http.Request, _ caller, m machine.Machine) error {
				return d.forward(w, r, m, p.path)
			})
		}
	}
	// Asked only for the version in the header: no reason to wake a sprite.
	d.spriteRoute("HEAD", "/exec", "exec", func(w http.ResponseWriter, _ *http.Request, _ caller, _ machine.Machine) error {
		w.WriteHeader(http.StatusOK)
		return nil
	})
}

// forward carries a request to the daemon as it is, but for its path.
func (d *Door) forward(w http.ResponseWriter, r *http.Request, m machine.Machine, path string) error {
	value := r.PathValue("a")
	if strings.Contains(path, "{a}") && (value == "" || value == "." || value == ".." || strings.ContainsAny(value, "/\\\x00")) {
		return fail(http.StatusNotFound, "not_found", "there is no %q here", door.Clip(value))
	}
	to := *r.URL
	rest := strings.TrimPrefix(path, "/")
	to.Path = wire.SpritePath + strings.Replace(rest, "{a}", value, 1)
	to.RawPath = wire.SpritePath + strings.Replace(rest, "{a}", url.PathEscape(value), 1)
	out := r.WithContext(r.Context())
	out.URL = &to
	d.config.Daemon.Daemon(w, out, m, func(status int, message string) {
		code := "unavailable"
		switch status {
		case http.StatusTooManyRequests:
			code = codeTooMany
		case http.StatusNotFound, http.StatusBadGateway:
			code = "not_reachable"
		}
		d.writeError(w, r, fail(status, code, "%s", message))
	})
	return nil
}
