package e2b

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/machine"
)

func (w *world) request(method, path string) *http.Request {
	r := httptest.NewRequest(method, path, nil)
	r.Header.Set("X-API-Key", w.key)
	return r
}

func TestMetrics(t *testing.T) {
	w := newWorld(t)
	id := w.create(`{"templateID":"base"}`).SandboxID
	for i := range 3 {
		w.engine.samples = append(w.engine.samples, machine.Sample{Time: w.clock().Add(time.Duration(i) * 5 * time.Second), CPUs: 2, CPUPercent: 12.5, MemUsed: int64(i), MemTotal: 512 << 20, DiskTotal: 1 << 30})
	}
	w.advance(time.Minute)
	var got []sandboxMetricText
	w.get("/sandboxes/"+id+"/metrics", &got)
	if len(got) != 3 || got[2].MemUsed != 2 || got[0].CPUUsedPct != 12.5 || got[0].TimestampUnix != w.engine.samples[0].Time.Unix() {
		t.Errorf("metrics %+v", got)
	}
	w.get(fmt.Sprintf("/sandboxes/%s/metrics?start=%d&end=%d", id, w.engine.samples[0].Time.Unix()+4, w.engine.samples[1].Time.Unix()+1), &got)
	if len(got) != 1 {
		t.Errorf("%d metrics in a span that holds one", len(got))
	}
	var many struct{ Sandboxes map[string]sandboxMetricText }
	w.get("/sandboxes/metrics?sandbox_ids=nothing,"+id, &many)
	if len(many.Sandboxes) != 1 || many.Sandboxes[id].MemUsed != 2 {
		t.Errorf("metrics of many: %+v", many)
	}
	for _, path := range []string{"/sandboxes/" + id + "/metrics?start=x", "/sandboxes/" + id + "/metrics?start=9&end=8",
		"/sandboxes/" + id + "/metrics?start=1700000000000000", "/sandboxes/metrics", "/sandboxes/metrics?sandbox_ids=" + strings.Repeat("a,", 101)} {
		if a := w.do("GET", path, ""); a.status != 400 {
			t.Errorf("GET %s = %d, want 400", path, a.status)
		}
	}
}

// sandboxMetricText reads a metric back.
type sandboxMetricText struct {
	Timestamp     time.Time
	TimestampUnix int64
	CPUUsedPct    float64
	MemUsed       int64
}

func TestShareOfProcessorHasTwoDecimals(t *testing.T) {
	if got := metricOf(machine.Sample{CPUPercent: 12.345678}).CPUUsedPct; got != 12.35 {
		t.Errorf("12.345678 %% of a processor is shown as %v", got)
	}
}

func TestLogs(t *testing.T) {
	w := newWorld(t)
	id := w.create(`{"templateID":"base"}`).SandboxID
	at := w.clock()
	w.engine.logs = []machine.LogEntry{{Time: at, Level: "info", Message: "hello", Fields: map[string]string{"a": "b"}}, {Time: at, Level: "warn", Message: "bye"}}
	var v1 struct {
		Logs       []struct{ Line string }
		LogEntries []struct{ Message, Level string }
	}
	w.get("/sandboxes/"+id+"/logs?limit=1", &v1)
	if len(v1.Logs) != 1 || v1.Logs[0].Line != `{"a":"b","level":"info","logger":"envd","message":"hello"}` || v1.LogEntries[0].Level != "info" {
		t.Errorf("v1 logs %+v", v1)
	}
	var v2 struct {
		Logs []struct {
			Message string
			Fields  map[string]string
		}
	}
	w.get(fmt.Sprintf("/v2/sandboxes/%s/logs?cursor=%d&direction=backward&level=warn&search=b", id, at.UnixMilli()), &v2)
	if len(v2.Logs) != 2 || v2.Logs[0].Fields["a"] != "b" || v2.Logs[1].Fields == nil {
		t.Errorf("v2 logs %+v", v2)
	}
	if q := w.engine.query; !q.Backward || q.MinLevel != "warn" || q.Search != "b" || q.Limit != 1000 || !q.Before.Equal(time.UnixMilli(at.UnixMilli()+1)) {
		t.Errorf("the engine was asked %+v", q)
	}
	for _, query := range []string{"direction=up", "level=loud", "limit=-1", "cursor=x", "search=" + strings.Repeat("x", 257)} {
		if a := w.do("GET", "/v2/sandboxes/"+id+"/logs?"+query, ""); a.status != 400 {
			t.Errorf("?%s = %d, want 400", query, a.status)
		}
	}
}

func TestAPIKeys(t *testing.T) {
	w := newWorld(t)
	a := w.do("POST", "/api-keys", `{"name":"ci"}`)
	var made struct{ ID, Key string }
	if err := json.Unmarshal(a.body, &made); a.status != 201 || err != nil || made.Key == "" {
		t.Fatalf("create = %d %s", a.status, a.body)
	}
	if a := w.do("GET", "/teams", "", "X-API-Key", made.Key); a.status != 200 || !strings.Contains(string(a.body), w.team) {
		t.Errorf("the new key = %d %s", a.status, a.body)
	}
	if a := w.do("GET", "/api-keys", ""); strings.Contains(string(a.body), made.Key) || !strings.Contains(string(a.body), `"maskedValueSuffix":"`+made.Key[40:]) {
		t.Errorf("the list shows a key or no mask: %s", a.body)
	}
	if a := w.do("PATCH", "/api-keys/"+made.ID, `{"name":"build"}`); a.status != 200 {
		t.Errorf("rename = %d %s", a.status, a.body)
	}
	if a := w.do("PATCH", "/api-keys/"+made.ID, `{"name":""}`); a.status != 400 {
		t.Errorf("rename to nothing = %d", a.status)
	}
	if a := w.do("DELETE", "/api-keys/"+made.ID, "", "X-API-Key", w.otherKey); a.status != 404 {
		t.Errorf("another team deletes = %d", a.status)
	}
	if a := w.do("DELETE", "/api-keys/"+made.ID, ""); a.status != 204 {
		t.Errorf("delete = %d %s", a.status, a.body)
	}
	if a := w.do("GET", "/teams", "", "X-API-Key", made.Key); a.status != 401 {
		t.Errorf("the deleted key = %d", a.status)
	}
	if a := w.do("POST", "/access-tokens", `{"name":"x"}`); a.status != 410 {
		t.Errorf("access token = %d", a.status)
	}
}

func TestAdmin(t *testing.T) {
	w := newWorld(t)
	w.create(`{"templateID":"base"}`)
	admin := []string{"X-Admin-Token", w.admin}
	if a := w.do("GET", "/admin/sandboxes/running-counts", "", admin...); string(a.body) != `{"`+w.team+`":1}` {
		t.Errorf("counts = %s", a.body)
	}
	a := w.do("POST", "/admin/teams/"+w.other+"/api-keys", `{"name":"x"}`, admin...)
	var made struct{ ID, Key string }
	if err := json.Unmarshal(a.body, &made); a.status != 201 || err != nil {
		t.Fatalf("create key = %d %s", a.status, a.body)
	}
	if a := w.do("DELETE", "/admin/teams/"+w.team+"/api-keys/"+made.ID, "", admin...); a.status != 404 {
		t.Errorf("delete under another team = %d", a.status)
	}
	if a := w.do("DELETE", "/admin/teams/"+w.other+"/api-keys/"+made.ID, "", admin...); a.status != 204 {
		t.Errorf("delete = %d", a.status)
	}
	if a := w.do("POST", "/admin/teams/"+w.team+"/sandboxes/kill", "", admin...); string(a.body) != `{"failedCount":0,"killedCount":1}` {
		t.Errorf("kill = %s", a.body)
	}
	if a := w.do("GET", "/nodes/node-1", "", admin...); a.status != 200 || !strings.Contains(string(a.body), `"status":"ready"`) {
		t.Errorf("node = %d %s", a.status, a.body)
	}
	if a := w.do("GET", "/nodes/x", "", admin...); a.status != 404 {
		t.Errorf("unknown node = %d", a.status)
	}
	if a := w.do("GET", "/teams", "", append(admin, "X-API-Key", "")...); !strings.Contains(string(a.body), w.other) {
		t.Errorf("teams for the admin = %s", a.body)
	}
	if a := w.do("POST", "/admin/teams/"+w.team+"/sandboxes/kill", ""); a.status != 401 {
		t.Errorf("kill with an API key = %d", a.status)
	}
}

func TestTemplates(t *testing.T) {
	w := newWorld(t)
	w.engine.templates = append(w.engine.templates, machine.Template{ID: "py", Names: []string{"python"}, CreatedAt: w.now.Add(time.Second)})
	var list []struct {
		TemplateID, BuildID, BuildStatus string
		CreatedBy                        *string
	}
	w.get("/templates", &list)
	if len(list) != 2 || list[0].TemplateID != "base" || list[0].BuildStatus != "ready" || len(list[0].BuildID) != 36 {
		t.Errorf("templates %+v", list)
	}
	a := w.get("/v2/templates?limit=1", &list)
	if len(list) != 1 || a.header.Get("X-Next-Token") == "" {
		t.Errorf("first page %+v, %v", list, a.header)
	}
	a = w.get("/v2/templates?limit=1&nextToken="+a.header.Get("X-Next-Token"), &list)
	if len(list) != 1 || list[0].TemplateID != "py" || a.header.Get("X-Next-Token") != "" {
		t.Errorf("second page %+v, %v", list, a.header)
	}
	for path, want := range map[string]int{
		"/templates/base": 200, "/templates/none": 404, "/templates/aliases/python": 200, "/templates/aliases/none": 404,
		"/templates/base/tags": 200, "/templates/base/nothing": 404, "/templates?teamID=x": 403, "/templates/aliases/tags": 404,
	} {
		if a := w.do("GET", path, ""); a.status != want {
			t.Errorf("GET %s = %d %s, want %d", path, a.status, a.body, want)
		}
	}
	if a := w.do("DELETE", "/templates/base", ""); a.status != 403 {
		t.Errorf("delete of a built-in template = %d", a.status)
	}
	if a := w.do("DELETE", "/templates/none", ""); a.status != 404 {
		t.Errorf("delete of no template = %d", a.status)
	}
}

func TestTeamMetrics(t *testing.T) {
	w := newWorld(t)
	w.create(`{"templateID":"base"}`)
	path := "/teams/" + w.team + "/metrics"
	w.door.history.count(machine.Event{Team: w.team, From: machine.Creating, To: machine.Running})
	w.door.history.step(w.clock(), map[string]int{w.team: 1})
	w.advance(historyStep)
	w.create(`{"templateID":"base"}`)
	var got []struct {
		ConcurrentSandboxes int
		SandboxStartRate    float64
	}
	w.get(path, &got)
	if len(got) != 2 || got[0].ConcurrentSandboxes != 1 || got[0].SandboxStartRate != 1/historyStep.Seconds() || got[1].ConcurrentSandboxes != 2 {
		t.Errorf("team metrics %+v", got)
	}
	var most struct{ Value float64 }
	if w.get(path+"/max?metric=concurrent_sandboxes", &most); most.Value != 2 {
		t.Errorf("most at once: %v, want 2", most.Value)
	}
	for p, want := range map[string]int{path + "/max": 400, path + "/max?metric=x": 400, "/teams/" + w.other + "/metrics": 403} {
		if a := w.do("GET", p, ""); a.status != want {
			t.Errorf("GET %s = %d, want %d", p, a.status, want)
		}
	}
}

func TestHistoryForgets(t *testing.T) {
	h := newHistory()
	now := time.Now()
	for i := range historyLen + 10 {
		h.step(now.Add(time.Duration(i)*historyStep), map[string]int{"a": 1})
	}
	if n := len(h.teams["a"].steps); n > historyLen+1 {
		t.Errorf("%d steps are kept", n)
	}
	h.step(now.Add(3*historyLen*historyStep), nil)
	h.step(now.Add(5*historyLen*historyStep), nil)
	if len(h.teams) != 0 {
		t.Error("a team without sandboxes is never forgotten")
	}
}

func TestRunFollowsTheEngine(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.door.Run(ctx) }()
	w.engine.events <- machine.Event{Team: w.team, From: machine.Creating, To: machine.Running}
	w.engine.events <- machine.Event{Team: w.team, From: machine.Running, To: machine.Ending}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := w.door.history.teams[w.team].starts; n != 1 {
		t.Errorf("%d starts were counted, want 1", n)
	}
}

// BenchmarkCreate measures what the door adds to a create, without a network.
func BenchmarkCreate(b *testing.B) {
	w := newWorld(b)
	body := `{"templateID":"base","timeout":300,"metadata":{"user":"ann"},"envVars":{"A":"1"}}`
	for b.Loop() {
		r := httptest.NewRequest("POST", "/v2/sandboxes", strings.NewReader(body))
		r.Header.Set("X-API-Key", w.key)
		rec := httptest.NewRecorder()
		w.door.ServeHTTP(rec, r)
		if rec.Code != 201 {
			b.Fatalf("%d %s", rec.Code, rec.Body)
		}
		w.engine.machines = w.engine.machines[:0]
		w.engine.specs = w.engine.specs[:0]
	}
}
