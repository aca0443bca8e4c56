package e2b

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/machine"
)

// asSDK encodes a metadata filter as the SDKs do: each key and value, then the
// pairs, then the parameter.
func asSDK(pairs ...string) string {
	inner := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		inner.Set(url.PathEscape(pairs[i]), url.PathEscape(pairs[i+1]))
	}
	return url.QueryEscape(inner.Encode())
}

func TestListFilters(t *testing.T) {
	w := newWorld(t)
	w.engine.templates = append(w.engine.templates, machine.Template{ID: "py", Names: []string{"python"}})
	for i := range 5 {
		template := []string{"base", "py"}[i%2]
		w.create(fmt.Sprintf(`{"templateID":%q,"metadata":{"n":"%d","odd &=%%+ключ":"a/b ✓"}}`, template, i))
		w.advance(time.Second)
	}
	started := url.QueryEscape(w.clock().Add(-2 * time.Second).Format(time.RFC3339Nano))
	tests := []struct {
		query string
		want  string // the sandboxes' metadata n, in order
	}{
		{"", "4 3 2 1 0"},
		{"order=asc", "0 1 2 3 4"},
		{"state=running", "4 3 2 1 0"},
		{"state=paused", ""},
		{"state=running,paused", "4 3 2 1 0"},
		{"state=paused&state=running", "4 3 2 1 0"},
		{"template=python", "3 1"},
		{"template=py", "3 1"},
		{"template=base:default", "4 2 0"},
		{"template=none", ""},
		{"startedAfter=" + started, "4 3"},
		{"metadata=" + asSDK("n", "2"), "2"},
		{"metadata=" + asSDK("n", "2", "x", "y"), ""},
		{"metadata=" + asSDK("odd &=%+ключ", "a/b ✓"), "4 3 2 1 0"},
		{"metadata=n%3D3", "3"}, // as written by hand
		{"limit=2", "4 3"},
	}
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			var got []listedSandbox
			w.listInto("/v2/sandboxes?"+tt.query, &got)
			if ns := numbers(got); ns != tt.want {
				t.Errorf("got %q, want %q", ns, tt.want)
			}
		})
	}
	for _, query := range []string{"limit=0", "limit=101", "limit=x", "order=up", "state=dead", "nextToken=x", "nextToken=" + url.QueryEscape("☃"),
		"startedAfter=yesterday", "metadata=%25zz", "metadata=a%3Bb"} {
		if a := w.do("GET", "/v2/sandboxes?"+query, ""); a.status != 400 || a.message(t) == "" {
			t.Errorf("?%s = %d, want 400", query, a.status)
		}
	}
	var got []listedSandbox
	w.listInto("/sandboxes?metadata="+asSDK("n", "1"), &got)
	if numbers(got) != "1" {
		t.Errorf("v1 list with a filter gives %q", numbers(got))
	}
}

func TestPaging(t *testing.T) {
	w := newWorld(t)
	for i := range 7 {
		w.create(fmt.Sprintf(`{"templateID":"base","metadata":{"n":"%d"}}`, i))
		if i%2 == 0 { // some start at the same instant
			w.advance(time.Second)
		}
	}
	for _, order := range []string{"asc", "desc"} {
		var pages []string
		next := ""
		for {
			var got []listedSandbox
			a := w.listInto("/v2/sandboxes?limit=3&order="+order+"&nextToken="+next, &got)
			if total := a.header.Get("X-Total-Running"); total != "7" {
				t.Errorf("X-Total-Running is %q, want 7", total)
			}
			pages = append(pages, numbers(got))
			if next = a.header.Get("X-Next-Token"); next == "" {
				break
			}
		}
		want := []string{"0 1 2", "3 4 5", "6"}
		if order == "desc" {
			want = []string{"6 5 4", "3 2 1", "0"}
		}
		if !slices.Equal(pages, want) {
			t.Errorf("%s pages are %q, want %q", order, pages, want)
		}
	}
}

func TestPagingWhileSandboxesEnd(t *testing.T) {
	w := newWorld(t)
	var ids []string
	for i := range 6 {
		ids = append(ids, w.create(fmt.Sprintf(`{"templateID":"base","metadata":{"n":"%d"}}`, i)).SandboxID)
		w.advance(time.Second)
	}
	var got []listedSandbox
	a := w.listInto("/v2/sandboxes?limit=2", &got)
	for _, i := range []int{5, 4, 3} { // the page's last is among those that end
		w.do("DELETE", "/sandboxes/"+ids[i], "")
	}
	w.create(`{"templateID":"base","metadata":{"n":"new"}}`)
	w.listInto("/v2/sandboxes?limit=2&nextToken="+a.header.Get("X-Next-Token"), &got)
	if numbers(got) != "2 1" {
		t.Errorf("second page is %q, want 2 1", numbers(got))
	}
}

func (w *world) listInto(path string, v *[]listedSandbox) answer {
	w.t.Helper()
	*v = nil
	a := w.do("GET", path, "")
	var raw []struct {
		Metadata map[string]string
	}
	if err := json.Unmarshal(a.body, &raw); err != nil || a.status != 200 {
		w.t.Fatalf("GET %s = %d %s", path, a.status, a.body)
	}
	for _, r := range raw {
		*v = append(*v, listedSandbox{Metadata: r.Metadata})
	}
	return a
}

func numbers(list []listedSandbox) string {
	var ns []string
	for _, s := range list {
		ns = append(ns, s.Metadata["n"])
	}
	return strings.Join(ns, " ")
}

func FuzzParseMetadata(f *testing.F) {
	for _, s := range []string{"", "a=b", "user%20x=1&b=%2525", "%", "a=%zz", "&&=", asSDK("ключ", "+&=%")} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseMetadata(s)
		if err == nil && s != "" && m == nil {
			t.Errorf("parseMetadata(%q) gives neither pairs nor an error", s)
		}
	})
}

func FuzzMetadataRoundTrip(f *testing.F) {
	f.Add("key", "value")
	f.Add("a b&=%+", "✓/\x00")
	f.Fuzz(func(t *testing.T, k, v string) {
		s, err := url.QueryUnescape(asSDK(k, v))
		if err != nil {
			t.Fatal(err)
		}
		m, err := parseMetadata(s)
		if err != nil || m[k] != v || len(m) != 1 {
			t.Errorf("pair %q=%q became %q, %v", k, v, m, err)
		}
	})
}

func FuzzParseListQuery(f *testing.F) {
	f.Add("limit=1&order=asc&state=running&nextToken=MSBh&startedAfter=2030-01-01T00:00:00Z")
	f.Add("limit=99999999999999999999")
	f.Fuzz(func(t *testing.T, s string) {
		v, _ := url.ParseQuery(s)
		q, err := parseListQuery(v)
		if err == nil && (q.limit < 1 || q.limit > maxPage) {
			t.Errorf("limit %d of %q", q.limit, s)
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add("MSBh")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCursor(s)
		if err != nil {
			return
		}
		if again, err := parseCursor(c.String()); err != nil || again.compare(c) != 0 {
			t.Errorf("cursor %q became %v, %v", s, again, err)
		}
	})
}

func FuzzCreateBody(f *testing.F) {
	f.Add(`{"templateID":"base","timeout":5,"metadata":{"a":"b"},"network":{"allowOut":["1.1.1.1"]}}`)
	f.Add(`{"templateID":"base","network":{"allowOut":["*.example.com","*"],"denyOut":["0.0.0.0/0"]}}`)
	f.Add(`{"templateID":"base","iam":{"tokens":[]},"mcp":{},"network":{"rules":null}}`)
	w := newWorld(f)
	r := w.request("POST", "/v2/sandboxes")
	f.Fuzz(func(t *testing.T, s string) {
		var body newSandbox
		if w.door.parse(r, []byte(s), &body, false) != nil {
			return
		}
		spec, err := w.door.createSpec(body, caller{team: w.accounts.Teams()[0]}, true, time.Minute)
		if err != nil {
			return
		}
		if spec.Timeout <= 0 || spec.Timeout > 24*time.Hour || spec.Network.Validate() != nil || spec.AccessToken == "" {
			t.Errorf("%q lets through %+v", s, spec)
		}
	})
}
