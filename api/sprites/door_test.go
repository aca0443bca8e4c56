package sprites

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/network"
)

func TestCreateAnswersTheWholeSprite(t *testing.T) {
	w := newWorld(t)
	var v spriteView
	w.must(201, &v, "POST", "/v1/sprites", `{"name":"my-sprite","environment":{"A":"b"},"labels":["x","y"],
		"url_settings":{"auth":"public","private_access":"admins"},"config":{"ram_mb":64,"region":"ord"},"runtime":"dev","unknown":1}`)
	if v.Name != "my-sprite" || v.Status != "running" || v.Organization != "default" || v.URL != "https://my-sprite.atoll.test" ||
		v.Environment["A"] != "b" || !reflect.DeepEqual(v.Labels, []string{"x", "y"}) ||
		v.URLSettings != (urlSettings{Auth: "public", PrivateAccess: "admins"}) || v.Config.RAMMB != 2048 || v.Config.StorageGB != 100 ||
		!strings.HasPrefix(v.ID, "sprite-") || v.CreatedAt.IsZero() || v.LastRunningAt == nil || v.LastWarmingAt != nil {
		t.Errorf("the sprite is %+v", v)
	}
	spec := w.engine.specs[0]
	if spec.Template != "sprite" || spec.Kind != machine.KindSprite || !spec.Lifecycle.Lasting || spec.Timeout != 0 ||
		spec.Lifecycle.Idle == nil || !spec.Lifecycle.Idle.IgnoreCPU {
		t.Errorf("the engine was asked for %+v", spec)
	}
}

func TestCreateRefusesBadRequests(t *testing.T) {
	w := newWorld(t)
	w.create("taken")
	long := strings.Repeat("a", 64)
	for _, c := range []struct {
		body   string
		status int
		want   string
	}{
		{``, 400, "name is required"},
		{`{}`, 400, "name is required"},
		{`[]`, 400, "must be a JSON object"},
		{`{"name":`, 400, "not valid JSON"},
		{`{"name":7}`, 400, "name must be a string, not a JSON number"},
		{`{"name":"` + long + `"}`, 400, "64 characters"},
		{`{"name":"Big"}`, 400, "lower-case"},
		{`{"name":"a.b"}`, 400, "lower-case"},
		{`{"name":"a/../b"}`, 400, "lower-case"},
		{`{"name":"-a"}`, 400, "begin and end"},
		{`{"name":"a-"}`, 400, "begin and end"},
		{`{"name":"80-abc"}`, 400, "number and a hyphen"},
		{`{"name":"xn--p1ai"}`, 400, "xn--"},
		{`{"name":"api"}`, 400, "reserved"},
		{`{"name":"a","url_settings":{"auth":"open"}}`, 400, "url_settings.auth"},
		{`{"name":"a","url_settings":{"private_access":"x"}}`, 400, "private_access"},
		{`{"name":"a","runtime":"windows"}`, 400, "runtime"},
		{`{"name":"a","config":{"cpus":-1}}`, 400, "negative"},
		{`{"name":"a","labels":[""]}`, 400, "labels"},
		{`{"name":"a","environment":{"A=B":"c"}}`, 400, "environment"},
		{`{"name":"a","from_checkpoint":{"sprite":"taken"}}`, 400, "from_checkpoint"},
		{`{"name":"a","from_checkpoint":{"sprite":"nope","checkpoint":"v1"}}`, 404, "nope"},
		{`{"name":"taken"}`, 409, "already exists"},
		{`{"name":"a","environment":{"A":"` + strings.Repeat("x", 70_000) + `"}}`, 400, "environment has"},
		{strings.Repeat(" ", door.MaxBody+1), 413, "larger than"},
	} {
		a := w.do("POST", "/v1/sprites", c.body)
		var p problem
		if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.status != c.status || p.Code == "" || !strings.Contains(p.Message, c.want) {
			t.Errorf("%.80s = %d %s, want %d and %q", c.body, a.status, a.body, c.status, c.want)
		}
	}
	if n := len(w.engine.specs); n != 1 {
		t.Errorf("%d machines were made", n)
	}
}

func TestLimitIsTold(t *testing.T) {
	w := newWorld(t)
	w.create("one")
	w.engine.mu.Lock()
	w.engine.limit = 1
	w.engine.mu.Unlock()
	var p problem
	a := w.must(429, &p, "POST", "/v1/sprites", `{"name":"two"}`)
	if p.Code != "concurrent_sprite_limit_exceeded" || p.Limit != w.team.MaxConcurrent || p.Current == 0 || p.Message == "" || a.header.Get("X-RateLimit-Limit") == "" {
		t.Errorf("the answer is %s %v", a.body, a.header)
	}
	done := make(chan answer)
	go func() { done <- w.do("POST", "/v1/sprites", `{"name":"two","wait_for_capacity":true}`) }()
	w.must(204, nil, "DELETE", "/v1/sprites/one", "")
	if a := <-done; a.status != 201 {
		t.Errorf("who waited got %d %s", a.status, a.body)
	}
}

func TestNamesAreATeamsOwn(t *testing.T) {
	w := newWorld(t)
	mine := w.create("web")
	other := w.create("web", "Authorization", "Bearer "+w.otherKey)
	if mine.URL == other.URL || !strings.HasPrefix(other.URL, "https://web-") || other.Organization != "other-ones" {
		t.Errorf("the two are %+v and %+v", mine, other)
	}
	w.create("secret", "Authorization", "Bearer "+w.otherKey)
	for _, path := range []string{"", "/check", "/checkpoints", "/exec", "/policy/network"} {
		w.must(404, nil, "GET", "/v1/sprites/secret"+path, "")
	}
	w.must(404, nil, "DELETE", "/v1/sprites/secret", "")
	w.must(404, nil, "PUT", "/v1/sprites/secret", "{}")
}

func TestAuthorisation(t *testing.T) {
	w := newWorld(t)
	for _, header := range []string{"", "Bearer", "Bearer ", "Bearer nonsense", "Basic " + w.key, "Bearer a/b/c/d", "Bearer " + strings.Repeat("x", 100_000)} {
		var p problem
		if w.must(401, &p, "GET", "/v1/sprites", "", "Authorization", header); p.Code != "unauthorized" || p.Message == "" {
			t.Errorf("%.20s: %+v", header, p)
		}
	}
	w.must(200, nil, "GET", "/v1/sprites", "", "Authorization", "bearer "+w.key)
	w.must(404, nil, "GET", "/v1/nothing", "")
	if a := w.must(405, nil, "PATCH", "/v1/sprites/x", ""); len(a.header["Allow"]) == 0 {
		t.Error("no methods are allowed")
	}
	w.must(405, nil, "POST", "/v1/sprites/x/fs/write", "")
}

func TestListPages(t *testing.T) {
	w := newWorld(t)
	for i := range 7 {
		w.create(fmt.Sprintf("s%d", i))
	}
	w.create("other")
	w.engine.edit("i1", func(m *machine.Machine) { m.State = machine.Frozen })
	w.engine.edit("i2", func(m *machine.Machine) { m.State = machine.Stored })
	var names []string
	token := ""
	for {
		var page struct {
			listView
			Running int `json:"running"`
		}
		w.must(200, &page, "GET", "/v1/sprites?prefix=s&max_results=3&continuation_token="+token, "")
		if page.Running != 6 || page.Org.Warm != 1 || page.Org.Cold != 1 || page.Org.RunningLimit == 0 || page.Org.Name != "default" {
			t.Fatalf("the totals are %+v", page.Org)
		}
		for _, s := range page.Sprites {
			names = append(names, s.Name)
		}
		if !page.HasMore {
			break
		}
		token = page.Next
	}
	if fmt.Sprint(names) != "[s0 s1 s2 s3 s4 s5 s6]" {
		t.Errorf("the pages have %v", names)
	}
	for _, q := range []string{"max_results=0", "max_results=x", "continuation_token=%25"} {
		w.must(400, nil, "GET", "/v1/sprites?"+q, "")
	}
	var all listView
	if w.must(200, &all, "GET", "/v1/sprites?max_results=1000", ""); len(all.Sprites) != 8 || all.Sprites[1].Status != "warm" || all.Sprites[2].Status != "cold" {
		t.Errorf("all are %+v", all.Sprites)
	}
}

func TestWatchTellsOfChanges(t *testing.T) {
	w := newWorld(t)
	w.create("first")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", w.server.URL+"/v1/sprites?prefix=f", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.key)
	r.Header.Set("Accept", "application/x-ndjson")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	next := func(name, status string) {
		t.Helper()
		var line changeView
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &line) != nil || line.Name != name || line.Status != status || line.Org.Name != "default" {
			t.Fatalf("got %s, want %s %s (%v)", lines.Bytes(), name, status, lines.Err())
		}
	}
	next("first", "running")
	w.engine.edit("i1", func(m *machine.Machine) { m.State = machine.Frozen })
	next("first", "warm")
	w.create("unseen")
	w.create("fresh")
	next("fresh", "running")
	w.must(204, nil, "DELETE", "/v1/sprites/first", "")
	next("first", "destroyed")
}

func TestUpdateChangesWhatItNames(t *testing.T) {
	w := newWorld(t)
	w.create("a")
	update := func(body string) (v spriteView) {
		w.must(200, &v, "PUT", "/v1/sprites/a", body)
		return v
	}
	if v := update(`{"labels":["x"]}`); fmt.Sprint(v.Labels) != "[x]" || v.URLSettings.Auth != "sprite" || !v.UpdatedAt.After(v.CreatedAt) {
		t.Errorf("after labels: %+v", v)
	}
	if v := update(`{"url_settings":{"auth":"public"}}`); fmt.Sprint(v.Labels) != "[x]" || v.URLSettings.Auth != "public" {
		t.Errorf("after the URL: %+v", v)
	}
	if v := update(`{"url_settings":{"auth":"default"}}`); v.URLSettings.Auth != "sprite" {
		t.Errorf("after the older word: %+v", v)
	}
	if v := update(`{"clear_labels":true}`); len(v.Labels) != 0 {
		t.Errorf("after clearing: %+v", v)
	}
	w.must(400, nil, "PUT", "/v1/sprites/a", `{"labels":["y"],"url_settings":{"auth":"x"}}`)
	var v spriteView
	if w.must(200, &v, "GET", "/v1/sprites/a", ""); len(v.Labels) != 0 {
		t.Errorf("a refused update changed something: %+v", v)
	}
}

func TestUpgradeRestartCheckLogs(t *testing.T) {
	w := newWorld(t)
	w.create("a")
	w.must(204, nil, "POST", "/v1/sprites/a/upgrade", "")
	if len(w.engine.restarts) != 0 {
		t.Error("an upgrade to the version it has restarted it")
	}
	w.engine.edit("i1", func(m *machine.Machine) { m.Bundle = "old" })
	w.must(204, nil, "POST", "/v1/sprites/a/upgrade", "")
	var restarted map[string]string
	w.must(200, &restarted, "POST", "/v1/sprites/a/restart", "")
	if len(w.engine.restarts) != 2 || restarted["sprite_name"] != "a" || restarted["machine_id"] != "i1" || restarted["message"] == "" {
		t.Errorf("restarts %v, answer %v", w.engine.restarts, restarted)
	}
	var check struct {
		Name   string  `json:"sprite_name"`
		ID     string  `json:"sprite_id"`
		Status string  `json:"status"`
		Reason *string `json:"reason"`
	}
	if w.must(200, &check, "GET", "/v1/sprites/a/check", ""); check.Status != "unhealthy" || check.Reason == nil || check.ID == "" {
		t.Errorf("one that does not answer: %+v", check)
	}
	w.engine.edit("i1", func(m *machine.Machine) { m.State = machine.Stored })
	check.Reason = nil
	if w.must(200, &check, "GET", "/v1/sprites/a/check", ""); check.Status != "healthy" || check.Reason != nil {
		t.Errorf("one that sleeps: %+v", check)
	}
	var logs []struct{ Time, Level, Msg string }
	if w.must(200, &logs, "GET", "/v1/sprites/a/logs?limit=5", ""); len(logs) != 2 || logs[0].Msg != "first" {
		t.Errorf("logs %+v", logs)
	}
	w.must(400, nil, "GET", "/v1/sprites/a/logs?limit=x", "")
}

func TestCheckpoints(t *testing.T) {
	w := newWorld(t)
	w.create("a")
	stream := func(path, body string) []progress {
		a := w.must(200, nil, "POST", path, body)
		if a.header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("%s has type %s", path, a.header.Get("Content-Type"))
		}
		var all []progress
		for line := range strings.Lines(a.body) {
			var p progress
			if err := json.Unmarshal([]byte(line), &p); err != nil || p.Time.IsZero() {
				t.Fatalf("%s: %q: %v", path, line, err)
			}
			all = append(all, p)
		}
		return all
	}
	all := stream("/v1/sprites/a/checkpoint", `{"comment":"before","id":"mine"}`)
	if last := all[len(all)-1]; last.Type != "complete" || last.Data != "Checkpoint v1 created" {
		t.Errorf("the stream ends with %+v", last)
	}
	stream("/v1/sprites/a/checkpoint", `{"memory":true}`)
	all = stream("/v1/sprites/a/checkpoints/v1/restore", "")
	if last := all[len(all)-1]; last.Type != "complete" || !strings.Contains(last.Data, "v1") || <-w.engine.restored != "v1" {
		t.Errorf("the restore ends with %+v", last)
	}
	var list []checkpointView
	if w.must(200, &list, "GET", "/v1/sprites/a/checkpoints", ""); len(list) != 2 || list[0].ID != "v2" || !list[0].Memory || list[1].Comment != "before" || list[0].SourceID != "v1" || list[0].SizeBytes != 7 {
		t.Errorf("the list is %+v", list)
	}
	if w.must(200, &list, "GET", "/v1/sprites/a/checkpoints?includeAuto=true", ""); len(list) != 3 || !list[0].IsAuto {
		t.Errorf("with automatic ones it is %+v", list)
	}
	if w.must(200, &list, "GET", "/v1/sprites/a/checkpoints?history=v2", ""); len(list) != 1 || list[0].ID != "v2" {
		t.Errorf("the history is %+v", list)
	}
	var one checkpointView
	if w.must(200, &one, "GET", "/v1/sprites/a/checkpoints/v2", ""); fmt.Sprint(one.History) != "[v1]" {
		t.Errorf("one is %+v", one)
	}
	for _, c := range [][2]string{{"GET", "/v9"}, {"DELETE", "/v9"}, {"POST", "/v9/restore"}} {
		if a := w.must(404, nil, c[0], "/v1/sprites/a/checkpoints"+c[1], ""); strings.HasPrefix(a.body, "{") || !strings.Contains(a.body, "v9") {
			t.Errorf("%v: %s", c, a.body)
		}
	}
	w.must(204, nil, "DELETE", "/v1/sprites/a/checkpoints/v1", "")
	w.engine.keepWith = errors.New("disk on fire at /secret/path")
	all = stream("/v1/sprites/a/checkpoint", "")
	if last := all[len(all)-1]; last.Type != "error" || last.Error == "" || strings.Contains(last.Error, "secret") {
		t.Errorf("a failure ends with %+v", last)
	}
	w.engine.keepWith = fmt.Errorf("%w: the disk is full", machine.ErrUnavailable)
	all = stream("/v1/sprites/a/checkpoint", "")
	if last := all[len(all)-1]; last.Type != "error" || last.Error != "the disk is full" {
		t.Errorf("a full disk ends with %+v", last)
	}
}

func TestSpriteOfACheckpoint(t *testing.T) {
	w := newWorld(t)
	w.create("a")
	w.must(201, nil, "POST", "/v1/sprites", `{"name":"b","from_checkpoint":{"sprite":"a","checkpoint":"v3"}}`)
	if from := w.engine.specs[1].From; from == nil || *from != (machine.CheckpointRef{Machine: "i1", ID: "v3"}) {
		t.Errorf("the engine was asked for %+v", from)
	}
}

func TestNetworkPolicy(t *testing.T) {
	w := newWorld(t)
	w.create("a")
	path := "/v1/sprites/a/policy/network"
	if a := w.must(200, nil, "GET", path, ""); a.body != `{"rules":[]}` {
		t.Errorf("a new sprite has %s", a.body)
	}
	rules := `{"rules":[{"domain":"Example.com","action":"allow"},{"include":"defaults"},{"domain":"*","action":"deny"}]}`
	w.must(204, nil, "POST", path, rules)
	if a := w.must(200, nil, "GET", path, ""); a.body != rules {
		t.Errorf("got back %s", a.body)
	}
	m, _ := w.engine.Get("i1")
	if len(m.Network.Names) < 3 || m.Network.Names[0] != (network.NameRule{Domain: "example.com", Action: network.AllowName}) || m.Door[machine.DoorPolicy] != rules {
		t.Errorf("the machine has %+v", m.Network)
	}
	for _, body := range []string{``, `{}`, `{"rules":{}}`, `{"rules":[{}]}`, `{"rules":[{"domain":"a.b","action":"maybe"}]}`,
		`{"rules":[{"domain":"a b","action":"allow"}]}`, `{"rules":[{"domain":"10.0.0.1","action":"allow"}]}`, `{"rules":[{"include":"all"}]}`,
		`{"rules":[{"include":"defaults","domain":"a.b"}]}`} {
		if a := w.must(400, nil, "POST", path, body); strings.HasPrefix(a.body, "{") {
			t.Errorf("%s: %s", body, a.body)
		}
	}
	w.must(204, nil, "POST", path, `{"rules":[]}`)
	if m, _ := w.engine.Get("i1"); m.Network.Names != nil {
		t.Errorf("without rules the machine has %+v", m.Network)
	}
}

func TestOtherPoliciesAreKeptOrRefused(t *testing.T) {
	w := newWorld(t)
	w.create("a")
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"privileges", `{"profile":"standard"}`, 204},
		{"privileges", `{"profile":""}`, 204},
		{"privileges", `{"profile":"privileged"}`, 400},
		{"privileges", `{"devices":["/dev/kvm"]}`, 400},
		{"privileges", `{"noNewPrivileges":true}`, 400},
		{"resources", `{"memory":{"limit_mb":2048}}`, 204},
		{"resources", `{"memory":{"limit_mb":512}}`, 400},
		{"resources", `{"memory":{"autoscale":true}}`, 400},
	} {
		if a := w.do("POST", "/v1/sprites/a/policy/"+c.path, c.body); a.status != c.status {
			t.Errorf("%s %s = %d %s", c.path, c.body, a.status, a.body)
		}
	}
	for _, path := range []string{"privileges", "resources"} {
		w.must(200, nil, "GET", "/v1/sprites/a/policy/"+path, "")
		w.must(204, nil, "DELETE", "/v1/sprites/a/policy/"+path, "")
	}
}

func TestDaemonGetsWhatIsForTheInside(t *testing.T) {
	w := newWorld(t)
	w.create("a")
	for _, c := range []struct{ method, path, want string }{
		{"POST", "/exec?cmd=echo&cmd=a%20b", "POST /sprite/exec?cmd=echo&cmd=a%20b of a"},
		{"GET", "/exec", "GET /sprite/exec of a"},
		{"GET", "/exec/12?stdin=true", "GET /sprite/exec/12?stdin=true of a"},
		{"POST", "/exec/12/kill?signal=TERM", "POST /sprite/exec/12/kill?signal=TERM of a"},
		{"PUT", "/fs/write?path=/a%2Fb", "PUT /sprite/fs/write?path=/a%2Fb of a"},
		{"PUT", "/services/my%20web?duration=1s", "PUT /sprite/services/my%20web?duration=1s of a"},
		{"POST", "/services/signal", "POST /sprite/services/signal of a"},
		{"GET", "/ports/watch", "GET /sprite/ports/watch of a"},
	} {
		if a := w.must(200, nil, c.method, "/v1/sprites/a"+c.path, ""); a.body != c.want {
			t.Errorf("%s %s: the daemon got %q", c.method, c.path, a.body)
		}
	}
	for _, path := range []string{"/services/..%2finit", "/services/%2e%2e", "/exec/..%2f..%2finit", "/exec/a%2fb", "/exec/a%00", "/fs/nothing", "/url-port"} {
		if a := w.do("GET", "/v1/sprites/a"+path, ""); a.status == 200 {
			t.Errorf("%s reached the daemon: %s", path, a.body)
		}
	}
	w.engine.edit("i1", func(m *machine.Machine) { m.State = machine.Stored })
	w.must(200, nil, "HEAD", "/v1/sprites/a/exec", "")
	var p problem
	if w.must(503, &p, "GET", "/v1/sprites/a/exec", ""); p.Message != "it is not awake" {
		t.Errorf("the refusal is %+v", p)
	}
}

func TestTokens(t *testing.T) {
	w := newWorld(t)
	var made struct{ Token string }
	body := `{"description":"Sprite SDK Token"}`
	w.must(201, &made, "POST", "/v1/organizations/default/tokens", body, "Authorization", "FlyV1 "+w.key)
	w.must(200, nil, "GET", "/v1/sprites", "", "Authorization", "Bearer "+made.Token)
	w.must(404, nil, "POST", "/v1/organizations/other-ones/tokens", body, "Authorization", "FlyV1 "+w.key)
	w.must(401, nil, "POST", "/v1/organizations/default/tokens", body, "Authorization", "FlyV1 nonsense")
	var list struct{ Organizations []organizationView }
	if w.must(200, &list, "GET", "/v1/organizations", ""); len(list.Organizations) != 1 || list.Organizations[0].Slug != "default" {
		t.Errorf("the organizations are %+v", list)
	}
}

func TestSandboxesAreNoSprites(t *testing.T) {
	w := newWorld(t)
	w.engine.mu.Lock()
	w.engine.machines = append(w.engine.machines, machine.Machine{ID: "box", Team: w.team.ID, Name: "box", State: machine.Running, CreatedAt: time.Now()})
	w.engine.mu.Unlock()
	w.must(404, nil, "GET", "/v1/sprites/box", "")
	var list listView
	if w.must(200, &list, "GET", "/v1/sprites", ""); len(list.Sprites) != 0 {
		t.Errorf("the list has %+v", list.Sprites)
	}
}

func TestSpritesSleepAsTheServerSays(t *testing.T) {
	w := newWorld(t)
	w.create("old")
	ctx, cancel := context.WithCancel(context.Background())
	next := New(Config{
		Engine: w.engine, Daemon: fakeDaemon{}, Accounts: w.accounts, Idle: machine.IdlePolicy{Freeze: time.Second},
		URL: func(label string) string { return label },
	})
	next.settleIdle(ctx)
	cancel()
	if m, _ := w.engine.Get("i1"); *m.Lifecycle.Idle != (machine.IdlePolicy{Freeze: time.Second, IgnoreCPU: true}) {
		t.Errorf("it sleeps by %+v", m.Lifecycle.Idle)
	}
}
