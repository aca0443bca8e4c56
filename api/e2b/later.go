package e2b

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
)

// later refuses a field of a request that Atoll does not have yet.
func later(field, what string) error {
	return invalid("%s: %s is not available in this version of Atoll; leave the field out", field, what)
}

// checkLater refuses what a create request may ask for and Atoll cannot do
// yet. The values that SDKs send by default pass.
func checkLater(body newSandbox) error {
	switch {
	case body.AutoPause:
		return later("autoPause", "pausing sandboxes")
	case body.AutoResume != nil && body.AutoResume.Enabled:
		return later("autoResume", "resuming sandboxes on requests")
	case given(body.MCP):
		return later("mcp", "the MCP gateway")
	case asksIdentity(body.IAM):
		return later("iam", "workload identity")
	case len(body.VolumeMounts) > 0:
		return later("volumeMounts", "volumes")
	}
	return nil
}

// asksIdentity reports whether an iam field has tokens; without, it is empty.
func asksIdentity(raw json.RawMessage) bool {
	var iam struct {
		Tokens json.RawMessage `json:"tokens"`
	}
	if !given(raw) {
		return false
	}
	return json.Unmarshal(raw, &iam) != nil || given(iam.Tokens)
}

func (n *networkConfig) checkLater() error {
	switch {
	case given(n.EgressProxy):
		return later("network.egressProxy", "an egress proxy")
	case given(n.Rules):
		return later("network.rules", "rewriting of requests by rules")
	case n.MaskRequestHost != "":
		return later("network.maskRequestHost", "masking the Host header")
	case len(n.HTTPSPorts) > 0:
		return later("network.httpsPorts", "ports that serve HTTPS inside a sandbox")
	}
	return nil
}

// domainRule tells a domain name, perhaps with a leading wildcard, from
// nonsense.
var domainRule = regexp.MustCompile(`^(\*|(\*\.)?([A-Za-z0-9_-]{1,63}\.)*[A-Za-z][A-Za-z0-9-]{0,62})\.?$`)

func domainProblem(field, name string) error {
	if strings.HasSuffix(field, "denyOut") {
		return invalid("%s: %q is a domain name; only addresses and CIDR blocks can be denied", field, clip(name))
	}
	return invalid("%s: %q is a domain name, and rules by domain name are not available in this version of Atoll; give addresses or CIDR blocks", field, clip(name))
}

// laterRoutes answers the operations that later versions bring.
func (d *Door) laterRoutes() {
	for what, patterns := range map[string][]string{
		"pausing sandboxes":           {"POST /sandboxes/{sandboxID}/pause"},
		"resuming sandboxes":          {"POST /sandboxes/{sandboxID}/resume"},
		"forking sandboxes":           {"POST /sandboxes/{sandboxID}/fork"},
		"snapshots":                   {"POST /sandboxes/{sandboxID}/snapshots", "GET /snapshots"},
		"changing the state of nodes": {"POST /nodes/{nodeID}"},
		"building templates": {
			"POST /templates", "POST /v2/templates", "POST /v3/templates", "POST /templates/{templateID}",
			"PATCH /templates/{templateID}", "PATCH /v2/templates/{templateID}",
			"GET /templates/{templateID}/files/{hash}",
			"POST /templates/{templateID}/builds/{buildID}", "POST /v2/templates/{templateID}/builds/{buildID}",
			"GET /templates/{templateID}/builds/{buildID}/status", "GET /templates/{templateID}/builds/{buildID}/logs",
			"POST /admin/teams/{teamID}/builds/cancel",
		},
		"tags of templates": {"POST /templates/tags", "DELETE /templates/tags"},
		"volumes":           {"GET /volumes", "POST /volumes", "GET /volumes/{volumeID}", "DELETE /volumes/{volumeID}"},
		"secrets": {
			"GET /secrets", "POST /secrets", "GET /secrets/{secretID}", "POST /secrets/{secretID}", "DELETE /secrets/{secretID}",
		},
	} {
		for _, pattern := range patterns {
			d.route(pattern, "later", laterAccess(pattern), d.notYet(what))
		}
	}
}

func laterAccess(pattern string) access {
	if strings.Contains(pattern, "/admin/") || strings.Contains(pattern, "/nodes/") {
		return admin
	}
	return aTeam
}

// notYet answers one operation of a later version. Where it is about a sandbox
// that does not exist, that is told first.
func (d *Door) notYet(what string) handler {
	return func(_ http.ResponseWriter, r *http.Request, c caller) error {
		if r.PathValue("sandboxID") != "" {
			if _, err := d.find(r, c); err != nil {
				return err
			}
		}
		return &problem{status: http.StatusNotImplemented, code: "not_available", message: what + " is not available in this version of Atoll"}
	}
}
