package sprites

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
)

const (
	defaultPage = 50
	maxPage     = 100 // the API's pages have up to 50; two of its clients ask for 100
)

type listView struct {
	Sprites []spriteView `json:"sprites"`
	HasMore bool         `json:"has_more"`
	Next    string       `json:"next_continuation_token,omitempty"`
	// The team's totals are here for one client, and in Org for another.
	orgView
	Org orgView `json:"org"`
}

// list answers a page of the caller's sprites, by name, or, to those who
// accept a stream, all of them and what becomes of them.
func (d *Door) list(w http.ResponseWriter, r *http.Request, c caller) error {
	q := r.URL.Query()
	limit, err := pageLimit(q)
	if err != nil {
		return err
	}
	prefix := q.Get("prefix")
	if strings.Contains(r.Header.Get("Accept"), "application/x-ndjson") {
		return d.watch(w, r, c, prefix)
	}
	after, err := parseToken(q.Get("continuation_token"))
	if err != nil {
		return err
	}
	all := d.sprites(c.team.ID)
	org := viewOrg(c.team, all)
	out := listView{Sprites: []spriteView{}, orgView: org, Org: org}
	from := sort.Search(len(all), func(i int) bool { return all[i].Name > after })
	for _, m := range all[from:] {
		if !strings.HasPrefix(m.Name, prefix) {
			continue
		}
		if len(out.Sprites) == limit {
			out.HasMore = true
			out.Next = base64.RawURLEncoding.EncodeToString([]byte(out.Sprites[limit-1].Name))
			break
		}
		out.Sprites = append(out.Sprites, d.view(m, c.team))
	}
	return door.WriteJSON(w, http.StatusOK, out)
}

func pageLimit(q url.Values) (int, error) {
	s := q.Get("max_results")
	if s == "" {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, invalid("max_results is %q: give a number from 1 to %d", door.Clip(s), maxPage)
	}
	return min(n, maxPage), nil
}

// parseToken reads the name that a page ended with.
func parseToken(s string) (string, error) {
	name, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return "", invalid("continuation_token is not one that this server gave out")
	}
	return string(name), nil
}

func sortByName(all []machine.Machine) {
	slices.SortFunc(all, func(a, b machine.Machine) int { return strings.Compare(a.Name, b.Name) })
}
