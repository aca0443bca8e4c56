package network

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// maxNameRules bounds the rules by name of one policy.
const maxNameRules = 1024

// NameAction is what becomes of the names that a rule is about.
type NameAction string

// The actions of rules by name.
const (
	AllowName NameAction = "allow"
	DenyName  NameAction = "deny"
)

// NameRule allows or denies the names that its domain stands for. The order of
// rules means nothing: the most specific that matches decides, and of two
// for the same domain the one that denies.
type NameRule struct {
	// Domain is a name (example.com), every name below one, at any depth
	// (*.example.com), or every name (*).
	Domain string     `json:"domain"`
	Action NameAction `json:"action"`
}

// asciiNames maps names as people write them to those that are asked for.
var asciiNames = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false))

// ParseDomain returns the domain of a rule in its one form: lower case,
// internationalised names in their ASCII form, no dot at the end.
func ParseDomain(text string) (string, error) {
	if text == "*" {
		return text, nil
	}
	name, wild := strings.CutPrefix(text, "*.")
	bad := func(why string) (string, error) {
		if len(text) > 80 {
			text = text[:80] + "…"
		}
		return "", fmt.Errorf("%q %s: write a domain as example.com, *.example.com or *", text, why)
	}
	if len(name) > 1024 {
		return bad("is too long")
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
		ascii, err := asciiNames.ToASCII(name)
		if err != nil || !utf8.ValidString(name) {
			return bad("has no ASCII form")
		}
		name = ascii
	}
	name, ok := plainName(name)
	if !ok || name == "" {
		return bad("is no domain name")
	}
	if strings.Trim(name[strings.LastIndexByte(name, '.')+1:], "0123456789") == "" {
		return bad("is no domain name")
	}
	if wild {
		name = "*." + name
	}
	return name, nil
}

// plainName is a name without the dot at its end and in lower case; false if
// it has anything but letters, digits, hyphens and underscores in its labels.
// Names of other bytes are nobody's host, and their text forms can be mistaken
// for other names.
func plainName(name string) (string, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" {
		return "", true
	}
	if len(name) > 253 {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) < 1 || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", false
		}
	}
	return name, true
}

// nameRules are the rules of a policy made ready to be asked; nil allows all.
type nameRules struct {
	exact map[string]bool // by name
	below map[string]bool // by the name above
	rest  bool
}

// compileNames makes rules ready; none are nil. They must be valid.
func compileNames(rules []NameRule) *nameRules {
	if len(rules) == 0 {
		return nil
	}
	r := &nameRules{exact: make(map[string]bool), below: make(map[string]bool)}
	every, said := true, false
	for _, rule := range rules {
		domain, _ := ParseDomain(rule.Domain)
		allow := rule.Action == AllowName
		switch above, wild := strings.CutPrefix(domain, "*."); {
		case domain == "*":
			every, said = every && allow, true
		case wild:
			note(r.below, above, allow)
		default:
			note(r.exact, domain, allow)
		}
	}
	r.rest = said && every
	return r
}

// note keeps a rule; denying wins over allowing the same.
func note(rules map[string]bool, domain string, allow bool) {
	before, known := rules[domain]
	rules[domain] = allow && (before || !known)
}

// allows tells whether a plain name is allowed.
func (r *nameRules) allows(name string) bool {
	if r == nil {
		return true
	}
	if allow, ok := r.exact[name]; ok {
		return allow
	}
	for above := name; ; {
		_, rest, found := strings.Cut(above, ".")
		if !found {
			return r.rest
		}
		if allow, ok := r.below[rest]; ok {
			return allow
		}
		above = rest
	}
}

// validateNames tells whether rules by name can be put in force.
func validateNames(rules []NameRule) error {
	if len(rules) > maxNameRules {
		return fmt.Errorf("network policy has %d rules by name: at most %d are possible", len(rules), maxNameRules)
	}
	for _, rule := range rules {
		if _, err := ParseDomain(rule.Domain); err != nil {
			return fmt.Errorf("network policy: %w", err)
		}
		if rule.Action != AllowName && rule.Action != DenyName {
			return fmt.Errorf("network policy for %s: the action %.20q is unknown: write %q or %q", rule.Domain, rule.Action, AllowName, DenyName)
		}
	}
	return nil
}
