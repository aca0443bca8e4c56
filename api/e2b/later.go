package e2b

import (
	"encoding/json"
	"net/http"
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

// laterRoutes answers the operations that later versions bring.
func (d *Door) laterRoutes() {
	for what, patterns := range map[string][]string{
		"changing the state of nodes is": {"POST /nodes/{nodeID}"},
		"building templates is": {
			"POST /templates", "POST /v2/templates", "POST /v3/templates", "POST /templates/{templateID}",
			"PATCH /templates/{templateID}", "PATCH /v2/templates/{templateID}",
			"GET /templates/{templateID}/files/{hash}",
			"POST /templates/{templateID}/builds/{buildID}", "POST /v2/templates/{templateID}/builds/{buildID}",
			"GET /templates/{templateID}/builds/{buildID}/status", "GET /templates/{templateID}/builds/{buildID}/logs",
			"POST /admin/teams/{teamID}/builds/cancel",
		},
		"tags of templates are": {"POST /templates/tags", "DELETE /templates/tags"},
		"volumes are":           {"GET /volumes", "POST /volumes", "GET /volumes/{volumeID}", "DELETE /volumes/{volumeID}"},
		"secrets are": {
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

// notYet answers one operation of a later version; what comes with its verb.
func (d *Door) notYet(what string) handler {
	return func(http.ResponseWriter, *http.Request, caller) error {
		return &problem{status: http.StatusNotImplemented, code: "not_available", message: what + " not available in this version of Atoll"}
	}
}
