package e2b

import "testing"

func TestProgramsInBrowsersMayCall(t *testing.T) {
	w := newWorld(t)
	asked := "x-api-key,content-type,authorization"
	for _, path := range []string{"/v2/sandboxes", "/sandboxes/x/timeout", "/nothing"} {
		a := w.do("OPTIONS", path, "", "X-API-Key", "", "Origin", "https://app.example",
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", asked)
		if h := a.header; a.status != 204 || h.Get("Access-Control-Allow-Origin") != "*" ||
			h.Get("Access-Control-Allow-Headers") != asked || h.Get("Access-Control-Allow-Methods") == "" {
			t.Errorf("preflight of POST %s = %d %v", path, a.status, h)
		}
	}
	for _, tt := range []struct {
		key  string
		want int
	}{{w.key, 200}, {"", 401}} {
		a := w.do("GET", "/v2/sandboxes", "", "X-API-Key", tt.key, "Origin", "https://app.example")
		if a.status != tt.want || a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("Access-Control-Expose-Headers") != "*" {
			t.Errorf("GET from a page = %d %v, want %d readable for it", a.status, a.header, tt.want)
		}
	}
	if a := w.do("GET", "/v2/sandboxes", ""); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("an answer to a program that is no page names origins")
	}
}
