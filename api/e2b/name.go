package e2b

import (
	"regexp"
	"strings"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/machine"
)

// defaultTag is the tag that every template has. "latest" names the same; the
// engine knows no others yet.
const defaultTag = "default"

// snapshotNameRule is what a snapshot may be called.
var snapshotNameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,127}$`)

// slug is a team's name as the namespace of its templates: lower-case letters
// and digits with hyphens between. Teams see only their own, so two teams may
// have the same.
func slug(t account.Team) string {
	words := strings.FieldsFunc(strings.ToLower(t.Name), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	if len(words) == 0 {
		return t.ID
	}
	return strings.Join(words, "-")
}

// localRef takes the caller's own namespace off a template's name, as the
// engine knows names without. The tag stays.
func (c caller) localRef(ref string) string {
	return strings.TrimPrefix(ref, slug(c.team)+"/")
}

// names are a template's names as clients see them: those of a team's own
// templates carry its namespace.
func (c caller) names(t machine.Template) []string {
	out := make([]string, 0, len(t.Names))
	for _, name := range t.Names {
		if t.Team != "" {
			name = slug(c.team) + "/" + name
		}
		out = append(out, name)
	}
	return out
}

// isDefaultTag reports whether a tag names what there is; empty names it too.
func isDefaultTag(tag string) bool { return tag == "" || tag == defaultTag || tag == "latest" }
