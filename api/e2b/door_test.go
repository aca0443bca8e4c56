package e2b

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
)

func TestAuthentication(t *testing.T) {
	w := newWorld(t)
	bad := "e2b_" + strings.Repeat("0", 40)
	tests := []struct {
		name    string
		path    string
		headers []string
		want    int
	}{
		{"health needs no key", "/health", []string{"X-API-Key", ""}, 204},
		{"key in X-API-Key", "/v2/sandboxes", nil, 200},
		{"key as bearer token", "/v2/sandboxes", []string{"X-API-Key", "", "Authorization", "Bearer " + w.key}, 200},
		{"no key", "/v2/sandboxes", []string{"X-API-Key", ""}, 401},
		{"wrong key", "/v2/sandboxes", []string{"X-API-Key", bad}, 401},
		{"malformed key", "/v2/sandboxes", []string{"X-API-Key", "secret"}, 401},
		{"basic credentials", "/v2/sandboxes", []string{"X-API-Key", "", "Authorization", "Basic " + w.key}, 401},
		{"own team named", "/v2/sandboxes", []string{"X-Team-ID", w.team}, 200},
		{"another team named", "/v2/sandboxes", []string{"X-Team-ID", w.other}, 403},
		{"admin for a team", "/v2/sandboxes", []string{"X-Admin-Token", w.admin, "X-Team-ID", w.other}, 200},
		{"admin without a team", "/v2/sandboxes", []string{"X-Admin-Token", w.admin}, 400},
		{"admin for no team", "/v2/sandboxes", []string{"X-Admin-Token", w.admin, "X-Team-ID", "x"}, 404},
		{"wrong admin token", "/nodes", []string{"X-Admin-Token", w.key}, 401},
		{"nodes with an API key", "/nodes", nil, 401},
		{"nodes with the admin token", "/nodes", []string{"X-Admin-Token", w.admin}, 200},
		{"unknown route", "/nothing", []string{"X-API-Key", ""}, 404},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := w.do("GET", tt.path, "", tt.headers...)
			if a.status != tt.want {
				t.Errorf("got %d, want %d: %s", a.status, tt.want, a.body)
			}
			if a.status >= 400 {
				msg := a.message(t)
				if strings.Contains(msg, w.key) || strings.Contains(msg, bad) {
					t.Errorf("the message repeats a key: %s", msg)
				}
			}
		})
	}
}

func TestAnotherTeamsSandboxDoesNotExist(t *testing.T) {
	w := newWorld(t)
	id := w.create(`{"templateID":"base"}`).SandboxID
	for _, tt := range []struct{ method, path, body string }{
		{"GET", "/sandboxes/" + id, ""},
		{"DELETE", "/sandboxes/" + id, ""},
		{"POST", "/sandboxes/" + id + "/timeout", `{"timeout":10}`},
		{"POST", "/sandboxes/" + id + "/refreshes", `{"duration":10}`},
		{"POST", "/sandboxes/" + id + "/connect", `{"timeout":10}`},
		{"POST", "/v2/sandboxes/" + id + "/connect", `{}`},
		{"PUT", "/sandboxes/" + id + "/network", `{}`},
		{"GET", "/sandboxes/" + id + "/metrics", ""},
		{"GET", "/sandboxes/" + id + "/logs", ""},
		{"GET", "/v2/sandboxes/" + id + "/logs", ""},
		{"POST", "/sandboxes/" + id + "/pause", ""},
		{"POST", "/sandboxes/" + id + "/resume", "{}"},
		{"POST", "/sandboxes/" + id + "/fork", ""},
		{"POST", "/sandboxes/" + id + "/snapshots", "{}"},
	} {
		if a := w.do(tt.method, tt.path, tt.body, "X-API-Key", w.otherKey); a.status != 404 {
			t.Errorf("%s %s as another team = %d, want 404: %s", tt.method, tt.path, a.status, a.body)
		}
	}
	if a := w.do("GET", "/v2/sandboxes", "", "X-API-Key", w.otherKey); string(a.body) != "[]" {
		t.Errorf("another team lists %s", a.body)
	}
	if a := w.do("GET", "/sandboxes/metrics?sandbox_ids="+id, "", "X-API-Key", w.otherKey); string(a.body) != `{"sandboxes":{}}` {
		t.Errorf("another team measures %s", a.body)
	}
}

func TestCreate(t *testing.T) {
	w := newWorld(t)
	s := w.create(`{"templateID":"base","timeout":60,"metadata":{"user":"ann"},"envVars":{"A":"1"},
		"autoPause":false,"autoPauseMemory":true,"autoResume":{"enabled":false},"mcp":null,"iam":{"tokens":{}},"volumeMounts":[],
		"network":{"egressProxy":null,"rules":{},"denyOut":["8.8.8.8","10.1.2.3/8"],"allowOut":["1.1.1.1/32"],"allowPublicTraffic":false},
		"allow_internet_access":false,"somethingNew":1}`)
	if s.SandboxID == "" || s.TemplateID != "base" || s.Alias != "base" || s.ClientID == "" || s.EnvdVersion == "" ||
		s.EnvdAccessToken == "" || s.TrafficAccessToken == nil || *s.Domain != "atoll.test" {
		t.Errorf("answer %+v lacks something", s)
	}
	spec := w.lastSpec()
	if spec.Timeout != time.Minute || spec.Metadata["user"] != "ann" || spec.Env["A"] != "1" || spec.Team != w.team ||
		spec.MaxConcurrent != 100 || fmt.Sprint(spec.Network.Deny) != "[8.8.8.8/32 10.0.0.0/8 0.0.0.0/0]" ||
		fmt.Sprint(spec.Network.Allow) != "[1.1.1.1/32]" {
		t.Errorf("the engine was asked for %+v", spec)
	}
	var info sandboxDetail
	w.get("/sandboxes/"+s.SandboxID+"-"+clientID, &info) // as old SDKs write ids
	if info.AllowInternetAccess == nil || *info.AllowInternetAccess || info.Network.AllowPublicTraffic ||
		info.EnvdAccessToken != s.EnvdAccessToken || info.Lifecycle.OnTimeout != "kill" || info.Metadata["user"] != "ann" {
		t.Errorf("info %+v does not give back what was asked", info)
	}
}

func TestCreateDefaults(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		path, body string
		timeout    time.Duration
		secure     bool
	}{
		{"/sandboxes", `{"templateID":"base"}`, 15 * time.Second, false},
		{"/sandboxes", `{"templateID":"base","secure":true}`, 15 * time.Second, true},
		{"/v2/sandboxes", `{"templateID":"base"}`, 300 * time.Second, true},
		{"/v2/sandboxes", `{"templateID":"base","secure":false,"timeout":86400}`, 24 * time.Hour, true},
	} {
		a := w.do("POST", tt.path, tt.body, "Content-Type", "text/plain")
		spec := w.lastSpec()
		if a.status != 201 || spec.Timeout != tt.timeout || (spec.AccessToken != "") != tt.secure || spec.TrafficToken != "" {
			t.Errorf("POST %s %s = %d with timeout %v, secure %v", tt.path, tt.body, a.status, spec.Timeout, spec.AccessToken != "")
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	w := newWorld(t)
	big := strings.Repeat("x", maxMapSize)
	many, _ := json.Marshal(func() map[string]string {
		m := map[string]string{}
		for i := range maxEntries + 1 {
			m[fmt.Sprint(i)] = ""
		}
		return m
	}())
	base := `{"templateID":"base",`
	tests := []struct {
		name, body string
		status     int
		mentions   string
	}{
		{"no body", ``, 400, "body"},
		{"no JSON", `{"templateID":`, 400, "JSON"},
		{"a list", `[]`, 400, "object"},
		{"two objects", `{} {}`, 400, "JSON"},
		{"no template", `{}`, 400, "templateID"},
		{"template of another type", `{"templateID":5}`, 400, "templateID must be a string"},
		{"template with odd characters", `{"templateID":"a b"}`, 400, "templateID"},
		{"path as template", `{"templateID":"../x"}`, 400, "templateID"},
		{"unknown template", `{"templateID":"nope"}`, 404, "nope"},
		{"timeout too long", base + `"timeout":86401}`, 400, "86400"},
		{"timeout without end", base + `"timeout":0}`, 400, "timeout"},
		{"negative timeout", base + `"timeout":-1}`, 400, "timeout"},
		{"fraction as timeout", base + `"timeout":1.5}`, 400, "timeout must be a whole number"},
		{"huge timeout", base + `"timeout":99999999999}`, 400, "timeout"},
		{"metadata of another type", base + `"metadata":{"a":1}}`, 400, "metadata"},
		{"metadata as list", base + `"metadata":[]}`, 400, "metadata must be an object"},
		{"metadata without key", base + `"metadata":{"":"x"}}`, 400, "metadata"},
		{"metadata too large", base + `"metadata":{"a":"` + big + `"}}`, 400, "metadata"},
		{"metadata too many", base + `"metadata":` + string(many) + `}`, 400, "metadata"},
		{"environment name with =", base + `"envVars":{"A=B":"x"}}`, 400, "envVars"},
		{"environment name empty", base + `"envVars":{"":"x"}}`, 400, "envVars"},
		{"zero byte in environment", base + `"envVars":{"A":"x\u0000"}}`, 400, "zero byte"},
		{"nonsense address", base + `"network":{"denyOut":["1.2.3"]}}`, 400, "denyOut"},
		{"nonsense prefix", base + `"network":{"allowOut":["1.2.3.4/99"]}}`, 400, "allowOut"},
		{"domain denied", base + `"network":{"denyOut":["example.com"]}}`, 400, "domain name"},
		{"domain allowed beside everything", base + `"network":{"allowOut":["*.example.com"]}}`, 400, "ALL_TRAFFIC"},
		{"nonsense domain", base + `"network":{"allowOut":["a.*.com"],"denyOut":["0.0.0.0/0"]}}`, 400, "a.*.com"},
		{"egress proxy", base + `"network":{"egressProxy":{"address":"a:1"}}}`, 400, "egressProxy"},
		{"rules", base + `"network":{"rules":{"a.com":[{}]}}}`, 400, "network.rules"},
		{"host mask", base + `"network":{"maskRequestHost":"x"}}`, 400, "maskRequestHost"},
		{"HTTPS ports", base + `"network":{"httpsPorts":[3000]}}`, 400, "httpsPorts"},
		{"auto pause of another type", base + `"autoPause":"yes"}`, 400, "autoPause must be true or false"},
		{"auto resume without its one field", base + `"autoPause":true,"autoResume":{}}`, 400, "autoResume.enabled"},
		{"auto resume without auto pause", base + `"autoResume":{"enabled":true}}`, 400, "autoPause"},
		{"auto resume without memory", base + `"autoPause":true,"autoPauseMemory":false,"autoResume":{"enabled":true}}`, 400, "autoPauseMemory"},
		{"MCP", base + `"mcp":{"x":{}}}`, 400, "mcp"},
		{"identity", base + `"iam":{"tokens":{"a":{"audience":"x","tokenType":"y"}}}}`, 400, "iam"},
		{"volumes", base + `"volumeMounts":[{"name":"v","path":"/v"}]}`, 400, "volumeMounts"},
		{"too large", `{"x":"` + strings.Repeat("x", door.MaxBody) + `"}`, 413, "larger"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, path := range []string{"/sandboxes", "/v2/sandboxes"} {
				a := w.do("POST", path, tt.body)
				if a.status != tt.status || !strings.Contains(a.message(t), tt.mentions) {
					t.Errorf("POST %s = %d %s, want %d with %q", path, a.status, a.body, tt.status, tt.mentions)
				}
			}
		})
	}
	if n := len(w.engine.machines); n != 0 {
		t.Errorf("refused requests made %d sandboxes", n)
	}
}

func TestEngineErrors(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		err     error
		status  int
		message string
	}{
		{fmt.Errorf("%w: a sentence", machine.ErrLimit), 429, "a sentence"},
		{fmt.Errorf("%w: a sentence", machine.ErrInvalid), 400, "a sentence"},
		{fmt.Errorf("start the guest: %w: a sentence", machine.ErrDamaged), 409, "a sentence"},
		{fmt.Errorf("%w: a sentence", machine.ErrIncompatible), 409, "a sentence"},
		{fmt.Errorf("%w: a sentence", machine.ErrConflict), 409, "a sentence"},
		{fmt.Errorf("%w: a sentence", machine.ErrUnavailable), 503, "a sentence"},
		{errors.New("open /secret/path: no such file"), 500, "the server failed to do this; its log tells why"},
	} {
		w.engine.set(func(f *fakeEngine) { f.failWith = tt.err })
		a := w.do("POST", "/v2/sandboxes", `{"templateID":"base"}`)
		if a.status != tt.status || a.message(t) != tt.message {
			t.Errorf("%v is answered %d %s, want %d %q", tt.err, a.status, a.body, tt.status, tt.message)
		}
	}
}

func TestConcurrencyLimit(t *testing.T) {
	w := newWorld(t)
	if _, err := w.accounts.SetMaxConcurrent(t.Context(), w.team, 1); err != nil {
		t.Fatal(err)
	}
	w.create(`{"templateID":"base"}`)
	a := w.do("POST", "/v2/sandboxes", `{"templateID":"base"}`)
	if a.status != 429 || !strings.Contains(a.message(t), "limit is 1") || a.header.Get("Should-Retry") != "false" {
		t.Errorf("over the limit: %d %v %s", a.status, a.header, a.body)
	}
	if _, err := w.accounts.SetMaxConcurrent(t.Context(), w.team, 0); err != nil {
		t.Fatal(err)
	}
	if a := w.do("POST", "/v2/sandboxes", `{"templateID":"base"}`); a.status != 429 {
		t.Errorf("with a limit of 0: %d %s", a.status, a.body)
	}
}

func TestIdempotencyKey(t *testing.T) {
	w := newWorld(t)
	body := `{"templateID":"base"}`
	entered, leave := make(chan struct{}), make(chan struct{})
	w.engine.set(func(f *fakeEngine) { f.createHit = func() { close(entered); <-leave } })
	var wg sync.WaitGroup
	ids := make([]string, 3)
	for i := range ids {
		wg.Go(func() {
			a := w.do("POST", "/v2/sandboxes", body, "Idempotency-Key", "k-1")
			var s sandbox
			if err := json.Unmarshal(a.body, &s); err != nil || a.status != 201 {
				t.Errorf("create = %d %s", a.status, a.body)
			}
			ids[i] = s.SandboxID
		})
	}
	<-entered
	close(leave)
	wg.Wait()
	w.engine.set(func(f *fakeEngine) { f.createHit = nil })
	if ids[0] == "" || ids[0] != ids[1] || ids[1] != ids[2] || len(w.engine.machines) != 1 {
		t.Errorf("three requests with one key made %d sandboxes: %v", len(w.engine.machines), ids)
	}
	if a := w.do("POST", "/v2/sandboxes", `{"templateID":"base","timeout":9}`, "Idempotency-Key", "k-1"); a.status != 409 {
		t.Errorf("the same key for another request = %d, want 409", a.status)
	}
	if a := w.do("POST", "/v2/sandboxes", body, "Idempotency-Key", "NOT valid"); a.status != 400 {
		t.Errorf("an invalid key = %d, want 400", a.status)
	}
	if a := w.do("POST", "/v2/sandboxes", body, "Idempotency-Key", "k-1", "X-API-Key", w.otherKey); a.status != 201 || strings.Contains(string(a.body), ids[0]) {
		t.Errorf("another team's request with the same key = %d %s", a.status, a.body)
	}
	w.do("DELETE", "/sandboxes/"+ids[0], "")
	if a := w.do("POST", "/v2/sandboxes", body, "Idempotency-Key", "k-1"); a.status != 201 {
		t.Errorf("the key of a sandbox that ended = %d, want a new sandbox", a.status)
	}
}

func TestTimes(t *testing.T) {
	w := newWorld(t)
	id := w.create(`{"templateID":"base","timeout":100}`).SandboxID
	left := func() time.Duration {
		m, _ := w.engine.Get(id)
		return m.Deadline.Sub(w.clock())
	}
	path := "/sandboxes/" + id
	tests := []struct {
		path, body string
		status     int
		left       time.Duration
	}{
		{"/refreshes", `{"duration":50}`, 204, 100 * time.Second}, // never shorter
		{"/refreshes", `{"duration":150}`, 204, 150 * time.Second},
		{"/refreshes", ``, 204, 150 * time.Second},
		{"/refreshes", `{"duration":3601}`, 400, 150 * time.Second},
		{"/refreshes", `{"duration":-1}`, 400, 150 * time.Second},
		{"/connect", `{"timeout":10}`, 200, 150 * time.Second},
		{"/connect", `{"timeout":200}`, 200, 200 * time.Second},
		{"/connect", `{"timeout":0}`, 200, 200 * time.Second},
		{"/connect", `{}`, 400, 200 * time.Second},
		{"/connect", `{"timeout":86401}`, 400, 200 * time.Second},
		{"/timeout", `{"timeout":20}`, 204, 20 * time.Second},
		{"/timeout", `{"timeout":86400}`, 204, 24 * time.Hour},
		{"/timeout", `{"timeout":86401}`, 400, 24 * time.Hour},
		{"/timeout", `{}`, 400, 24 * time.Hour},
		{"/timeout", `{"timeout":"1"}`, 400, 24 * time.Hour},
		{"/timeout", `{"timeout":0}`, 204, 0},
	}
	for _, tt := range tests {
		a := w.do("POST", path+tt.path, tt.body)
		if a.status != tt.status || left() != tt.left {
			t.Errorf("POST %s %s = %d with %v left, want %d with %v: %s", tt.path, tt.body, a.status, left(), tt.status, tt.left, a.body)
		}
	}
	if a := w.do("POST", "/v2"+path+"/connect", ``); a.status != 200 || left() != 300*time.Second {
		t.Errorf("connect without a body = %d with %v left", a.status, left())
	}
	w.engine.max = 0 // the operator allows sandboxes without an end
	if a := w.do("POST", path+"/timeout", `{"timeout":0}`); a.status != 204 || !w.engine.machines[0].Deadline.IsZero() {
		t.Errorf("timeout 0 where it is allowed = %d", a.status)
	}
	var info sandboxDetail
	if a := w.do("GET", path, ""); json.Unmarshal(a.body, &info) != nil && !strings.Contains(string(a.body), "9999-12-31") {
		t.Errorf("info of a sandbox without an end: %s", a.body)
	}
	if w.create(`{"templateID":"base","timeout":0}`); w.lastSpec().Timeout != 0 {
		t.Errorf("create without an end asked for %v", w.lastSpec().Timeout)
	}
}

func TestKill(t *testing.T) {
	w := newWorld(t)
	path := "/sandboxes/" + w.create(`{"templateID":"base"}`).SandboxID
	for i, want := range []int{204, 404} {
		if a := w.do("DELETE", path, ""); a.status != want {
			t.Errorf("kill number %d = %d, want %d", i+1, a.status, want)
		}
	}
}

// Names are allowed as the SDKs' documentation has it, and given back.
func TestNetworkByName(t *testing.T) {
	w := newWorld(t)
	for _, network := range []string{
		`"network":{"allowOut":["API.Example.com","1.1.1.1","*.npmjs.org"],"denyOut":["0.0.0.0/0"]}`,
		`"network":{"allowOut":["1.1.1.1","api.example.com.","*.npmjs.org"]},"allow_internet_access":false`,
	} {
		id := w.create(`{"templateID":"base",` + network + `}`).SandboxID
		if got := fmt.Sprint(w.lastSpec().Network); got != "{[0.0.0.0/0] [1.1.1.1/32] [{api.example.com allow} {*.npmjs.org allow}]}" {
			t.Errorf("%s: the policy is %s", network, got)
		}
		var info sandboxDetail
		w.get("/sandboxes/"+id, &info)
		if got := fmt.Sprint(info.Network.AllowOut, info.Network.DenyOut); got != "[1.1.1.1/32 api.example.com *.npmjs.org] [0.0.0.0/0]" {
			t.Errorf("%s: info says %s", network, got)
		}
	}
}

func TestNetworkUpdate(t *testing.T) {
	w := newWorld(t)
	path := "/sandboxes/" + w.create(`{"templateID":"base","network":{"denyOut":["9.9.9.9"]}}`).SandboxID
	for _, tt := range []struct {
		body   string
		status int
		deny   string
	}{
		{`{"allow_internet_access":false,"allowOut":["1.1.1.1"]}`, 204, "[0.0.0.0/0]"},
		{`{"denyOut":["x y"]}`, 400, "[0.0.0.0/0]"},
		{`{"egressProxy":{"address":"a:1"}}`, 400, "[0.0.0.0/0]"},
		{`{"allowPublicTraffic":false}`, 400, "[0.0.0.0/0]"},
		{`{"allowOut":["example.com"]}`, 400, "[0.0.0.0/0]"},
		{`{"allowOut":["example.com"],"denyOut":["0.0.0.0/0"]}`, 204, "[0.0.0.0/0]"},
		{`{}`, 204, "[]"},
	} {
		a := w.do("PUT", path+"/network", tt.body)
		if got := fmt.Sprint(w.engine.machines[0].Network.Deny); a.status != tt.status || got != tt.deny {
			t.Errorf("PUT network %s = %d with deny %s, want %d with %s", tt.body, a.status, got, tt.status, tt.deny)
		}
	}
}

func TestLaterOperationsSayWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct{ method, path, what string }{
		{"POST", "/v3/templates", "building templates"},
		{"POST", "/templates/x", "building templates"},
		{"GET", "/templates/x/builds/y/status", "building templates"},
		{"POST", "/templates/tags", "tags"},
		{"GET", "/volumes", "volumes"},
		{"POST", "/secrets", "secrets"},
	} {
		if a := w.do(tt.method, tt.path, `{}`); a.status != http.StatusNotImplemented || !strings.Contains(a.message(t), tt.what) {
			t.Errorf("%s %s = %d %s, want 501 naming %q", tt.method, tt.path, a.status, a.body, tt.what)
		}
	}
}
