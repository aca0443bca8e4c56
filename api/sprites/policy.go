package sprites

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/network"
)

// policyView is a network policy as the API writes it. Without rules a sprite
// may reach the whole internet.
type policyView struct {
	Rules []ruleView `json:"rules"`
}

// ruleView is about a domain, or includes a list of ours.
type ruleView struct {
	Domain  string `json:"domain,omitempty"`
	Action  string `json:"action,omitempty"`
	Include string `json:"include,omitempty"`
}

// includeDefaults is the one list that can be included.
const includeDefaults = "defaults"

func policyOf(m machine.Machine) policyView {
	v := policyView{}
	_ = json.Unmarshal([]byte(m.Door[doorRules]), &v) // written by this door; without any it is empty
	if v.Rules == nil {
		v.Rules = []ruleView{}
	}
	return v
}

func (d *Door) networkPolicy(w http.ResponseWriter, _ *http.Request, _ caller, m machine.Machine) error {
	return door.WriteJSON(w, http.StatusOK, policyOf(m))
}

// setNetworkPolicy replaces a sprite's rules at once, asleep or not.
func (d *Door) setNetworkPolicy(w http.ResponseWriter, r *http.Request, c caller, m machine.Machine) error {
	if c.isSelf(m) {
		return asText(fail(http.StatusForbidden, "forbidden", "a sprite cannot change its own network policy"))
	}
	var body struct {
		Rules *[]ruleView `json:"rules"`
	}
	if err := decode(w, r, &body); err != nil {
		return asText(err)
	}
	if body.Rules == nil {
		return asText(invalid(`rules is missing: send {"rules": []} to allow everything`))
	}
	names, err := nameRules(*body.Rules)
	if err != nil {
		return asText(err)
	}
	if err := (network.Policy{Names: names}).Validate(); err != nil {
		return asText(invalid("%v", err))
	}
	if err := d.putPolicy(r.Context(), m.ID, policyView{Rules: *body.Rules}, names); err != nil {
		return asText(err)
	}
	return door.NoContent(w)
}

// putPolicy puts rules in force, and keeps them as they were given. One change
// follows the other, so that what is shown is what is in force.
func (d *Door) putPolicy(ctx context.Context, id string, rules policyView, names []network.NameRule) error {
	d.policies.Lock()
	defer d.policies.Unlock()
	text, err := json.Marshal(rules)
	if err != nil {
		return fmt.Errorf("keep the rules: %w", err)
	}
	m, err := d.engine.Get(id)
	if err != nil {
		return err
	}
	policy := m.Network
	policy.Names = names
	if err := d.engine.SetNetwork(ctx, id, policy); err != nil {
		return err
	}
	m, err = d.engine.EditDoor(ctx, id, func(notes map[string]string) { notes[doorRules] = string(text) })
	if err != nil {
		return err
	}
	d.tellPolicy(ctx, m)
	return nil
}

// nameRules translates rules for the network. Nil allows everything.
func nameRules(rules []ruleView) ([]network.NameRule, error) {
	var names []network.NameRule
	defaults := false
	for i, rule := range rules {
		switch {
		case rule.Include != "" && (rule.Domain != "" || rule.Action != ""):
			return nil, invalid("rule %d has both include and a domain: make two rules of it", i+1)
		case rule.Include == includeDefaults:
			defaults = true
		case rule.Include != "":
			return nil, invalid("rule %d includes %q: there is only %q", i+1, door.Clip(rule.Include), includeDefaults)
		case rule.Action != string(network.AllowName) && rule.Action != string(network.DenyName):
			return nil, invalid(`rule %d: action is %q: give "allow" or "deny"`, i+1, door.Clip(rule.Action))
		default:
			domain, err := network.ParseDomain(rule.Domain)
			if err != nil {
				return nil, invalid("rule %d: %v", i+1, err)
			}
			names = append(names, network.NameRule{Domain: domain, Action: network.NameAction(rule.Action)})
		}
	}
	if defaults {
		names = network.WithDefaults(names)
	}
	return names, nil
}

// privilegesView is what programs of a sprite may do. The profile is the one
// that all sprites here have.
type privilegesView struct {
	Profile         string   `json:"profile"`
	Devices         []string `json:"devices"`
	NoNewPrivileges bool     `json:"noNewPrivileges"`
}

func (d *Door) privileges(w http.ResponseWriter, _ *http.Request, _ caller, _ machine.Machine) error {
	return door.WriteJSON(w, http.StatusOK, privilegesView{Profile: "standard", Devices: []string{}})
}

// setPrivileges accepts what sprites have anyway, and refuses the rest by name:
// a limit that is accepted and not enforced is worse than none.
func (d *Door) setPrivileges(w http.ResponseWriter, r *http.Request, _ caller, _ machine.Machine) error {
	var body privilegesView
	if err := decode(w, r, &body); err != nil {
		return asText(err)
	}
	switch {
	case body.Profile != "" && body.Profile != "standard":
		return asText(invalid(`profile %q is not available: sprites here have "standard", which lets them become root inside`, door.Clip(body.Profile)))
	case len(body.Devices) > 0:
		return asText(invalid("devices are not available: a sprite here has its own kernel and no devices of the host"))
	case body.NoNewPrivileges:
		return asText(invalid("noNewPrivileges is not available: programs in a sprite here may use sudo"))
	}
	return door.NoContent(w)
}

func (d *Door) deletePrivileges(w http.ResponseWriter, _ *http.Request, _ caller, _ machine.Machine) error {
	return door.NoContent(w)
}

// resourcesView is how much a sprite may use.
type resourcesView struct {
	Memory *memoryView `json:"memory,omitempty"`
}

type memoryView struct {
	LimitMB   int  `json:"limit_mb"`
	Autoscale bool `json:"autoscale"`
}

func (d *Door) resources(w http.ResponseWriter, _ *http.Request, _ caller, m machine.Machine) error {
	return door.WriteJSON(w, http.StatusOK, resourcesView{Memory: &memoryView{LimitMB: m.MemoryMB}})
}

// setResources accepts what the sprite has, and refuses the rest by name.
func (d *Door) setResources(w http.ResponseWriter, r *http.Request, _ caller, m machine.Machine) error {
	var body resourcesView
	if err := decode(w, r, &body); err != nil {
		return asText(err)
	}
	switch mem := body.Memory; {
	case mem == nil:
	case mem.Autoscale:
		return asText(invalid("memory.autoscale is not available: a sprite here has the memory of its template"))
	case mem.LimitMB != 0 && mem.LimitMB != m.MemoryMB:
		return asText(invalid("memory.limit_mb is %d: a sprite here has the %d MB of its template", mem.LimitMB, m.MemoryMB))
	}
	return door.NoContent(w)
}

func (d *Door) deleteResources(w http.ResponseWriter, _ *http.Request, _ caller, _ machine.Machine) error {
	return door.NoContent(w)
}
