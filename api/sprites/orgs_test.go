package sprites

import (
	"net/http"
	"strings"
	"testing"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/wire"
)

// inside returns a client that stands for the programs in a new sprite "me" of
// the default team, where "mine" is another and "victim" is another team's.
func inside(t *testing.T) (*world, *http.Client) {
	w := newWorld(t)
	g := newGuestSide(t, w.engine)
	w.create("me")
	host, _ := g.accept()
	w.create("mine")
	w.create("victim", "Authorization", "Bearer "+w.otherKey)
	return w, host
}

const org = wire.CallOrgs + "/default/"

func TestASpriteMayNotUseTheAPIByItself(t *testing.T) {
	w, host := inside(t)
	for _, c := range [][2]string{
		{"GET", "sprites"}, {"GET", "v1/sprites"}, {"DELETE", "sprites/mine"}, {"POST", "sprites"},
		{"PUT", "sprites/me"}, {"POST", "v1/organizations/default/tokens"},
	} {
		status, body := call(t, host, c[0], org+c[1], `{"name":"x","org_access":true}`)
		if status != 403 || !strings.Contains(body, `"error":"org_access_off"`) || !strings.Contains(body, "atoll sprite config update -s me --org-access on") {
			t.Errorf("%v = %d %s", c, status, body)
		}
	}
	if len(w.engine.List("")) != 3 || orgAccess(w.engine.machines[0]) {
		t.Error("something was done all the same")
	}
	for _, value := range []string{`"yes"`, "1", "null"} { // on is true and nothing else
		w.do("PUT", "/v1/sprites/me", `{"org_access":`+value+`}`)
		if status, _ := call(t, host, "GET", org+"sprites", ""); status != 403 {
			t.Errorf("org_access %s: status %d", value, status)
		}
	}
}

func TestASpriteUsesTheAPIAsItsTeam(t *testing.T) {
	w, host := inside(t)
	var v spriteView
	if w.must(200, &v, "PUT", "/v1/sprites/me", `{"org_access":true}`); !v.OrgAccess {
		t.Error("the switch is not shown")
	}
	do := func(want int, method, path, body string) string {
		t.Helper()
		status, got := call(t, host, method, path, body)
		if status != want {
			t.Errorf("%s %s = %d %s, want %d", method, path, status, got, want)
		}
		return got
	}
	for _, path := range []string{org + "sprites", org + "v1/sprites", wire.CallOrgs + "/" + w.team.ID + "/sprites"} {
		if got := do(200, "GET", path, ""); !strings.Contains(got, `"name":"mine"`) || strings.Contains(got, "victim") {
			t.Errorf("list = %s", got)
		}
	}
	do(201, "POST", org+"sprites", `{"name":"made"}`)
	if m, err := w.engine.Named(w.team.ID, "made"); err != nil || orgAccess(m) {
		t.Errorf("made %+v, %v", m, err)
	}
	do(409, "POST", org+"sprites", `{"name":"mine"}`)
	do(400, "POST", org+"sprites", `{"name":"No Label"}`)
	do(200, "PUT", org+"sprites/made", `{"labels":["a"]}`)
	if got := do(200, "POST", org+"sprites/made/exec?cmd=ls", ""); got != "POST /sprite/exec?cmd=ls of made" {
		t.Errorf("exec = %s", got)
	}
	do(204, "DELETE", org+"sprites/made", "")
	do(404, "GET", org+"sprites/made", "")

	// Not of another team, and nothing but sprites.
	do(404, "GET", org+"sprites/victim", "")
	do(404, "DELETE", org+"sprites/victim", "")
	do(404, "GET", wire.CallOrgs+"/other-ones/sprites", "")
	do(404, "POST", org+"organizations/default/tokens", `{"description":"k"}`)
	do(404, "POST", org+"v1/organizations/default/tokens", `{"description":"k"}`)
	do(404, "GET", org+"usage", "")
	do(404, "GET", org+"spritesque", "")
	do(405, "PATCH", org+"sprites/mine", "")

	// What a sprite may not give itself or others.
	do(403, "POST", org+"sprites", `{"name":"heir","org_access":true}`)
	do(403, "PUT", org+"sprites/mine", `{"org_access":true}`)
	do(403, "PUT", org+"sprites/me", `{"org_access":false}`)
	do(403, "POST", org+"sprites/me/policy/network", `{"rules":[]}`)
	do(204, "POST", org+"sprites/mine/policy/network", `{"rules":[]}`)

	w.must(200, nil, "PUT", "/v1/sprites/me", `{"org_access":false}`)
	do(403, "GET", org+"sprites", "")
}

// A key that a sprite knows makes it nobody else, nor do paths lead elsewhere.
func TestTricksOfASprite(t *testing.T) {
	w, host := inside(t)
	w.must(200, nil, "PUT", "/v1/sprites/me", `{"org_access":true}`)
	r, _ := http.NewRequest("GET", "http://host"+org+"sprites", nil)
	r.Header.Set("Authorization", "Bearer "+w.otherKey)
	if res, err := host.Do(r); err != nil || res.StatusCode != 200 {
		t.Error(res, err)
	} else if res.Body.Close(); res.Header.Get(versionHeader) != Version {
		t.Error("no version", res.Header)
	}
	host.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, path := range []string{
		"sprites/../organizations/default/tokens", "sprites/%2e%2e/organizations", "sprites/%2E%2E%2Forganizations",
		"sprites//organizations", "sprites/mine/exec/..%2f..%2f..%2fatoll%2finit/kill", "sprites/..", "./sprites/../../info",
		"sprites%2f..%2forganizations", "%73prites/../usage", "v1/v1/sprites", "sprites/mine/../victim", "sprites/mine%2f..%2fvictim",
	} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			if status, body := call(t, host, method, org+path, "{}"); status < 300 {
				t.Errorf("%s %s = %d %s", method, path, status, body)
			}
		}
	}
	r, _ = http.NewRequest("GET", "http://host"+org+"sprites/mine/exec?cmd=ls", nil)
	r.Header.Set(wire.CallUpgradeHeader, "1")
	if res, err := host.Do(r); err != nil || res.StatusCode != 501 {
		t.Error("a WebSocket:", res, err)
	}
	if n := len(w.engine.List("")); n != 3 {
		t.Errorf("%d sprites are left", n)
	}
	if keys := w.accounts.Keys(w.team.ID); len(keys) != 1 {
		t.Errorf("the team has %d keys", len(keys))
	}
}

// What ends the guest of the caller is answered before it is done.
func TestASpriteDestroysItself(t *testing.T) {
	w, host := inside(t)
	w.must(200, nil, "PUT", "/v1/sprites/me", `{"org_access":true}`)
	if status, body := call(t, host, "POST", org+"sprites/me/restart", ""); status != 202 || !strings.Contains(body, `"sprite_name":"me"`) {
		t.Errorf("restart = %d %s", status, body)
	}
	w.do("POST", "/v1/sprites/me/checkpoint", "{}")
	if status, body := call(t, host, "POST", org+"sprites/me/checkpoints/v1/restore", ""); status != 202 || <-w.engine.restored != "v1" {
		t.Errorf("restore = %d %s", status, body)
	}
	if status, body := call(t, host, "DELETE", org+"sprites/me", ""); status != 204 {
		t.Errorf("destroy = %d %s", status, body)
	}
	w.eventually("the sprite ends", func() bool {
		_, err := w.engine.Named(w.team.ID, "me")
		return err != nil
	})
	if !w.engine.did(func(f *fakeEngine) bool { return len(f.restarts) == 1 }) {
		t.Error("it was not restarted")
	}
	if _, err := w.engine.find(func(m machine.Machine) bool { return m.Name == "mine" }); err != nil {
		t.Error("another went with it")
	}
}
