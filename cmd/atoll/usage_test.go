package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/atoll-cloud/atoll/client"
)

// usageServer answers for two machines and remembers what it was asked.
func usageServer(t *testing.T) (url string, asked *http.Request) {
	asked = &http.Request{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = *r.Clone(r.Context())
		if r.URL.Path == "/usage/plans" {
			json.NewEncoder(w).Encode(client.Prices{Currency: "EUR", Default: "flat", Plans: map[string]client.Plan{
				"flat": {Basis: "used", CPU: client.Price{Price: 0.01, Per: "vCPU-hour"}},
			}})
			return
		}
		web := client.UsageRow{Machine: "i1", Name: "web", Cost: client.Cost{Total: 1.5},
			Usage: client.Usage{AwakeSeconds: 7200, CPUSeconds: 90, MemoryGiBSeconds: 1800, DiskGiBSeconds: 36000}}
		json.NewEncoder(w).Encode(client.UsageReport{
			By: []string{"machine"}, Plan: "flat", Basis: "used", Currency: "USD",
			Rows: []client.UsageRow{web, {Machine: "i2", Cost: client.Cost{Total: 0.00001}}}, Total: web,
		})
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func TestUsageTable(t *testing.T) {
	url, asked := usageServer(t)
	c := cli{env: map[string]string{"E2B_API_URL": url, "E2B_API_KEY": "e2b_k", "ATOLL_DATA": t.TempDir()}}
	got := c.run("usage", "--from", "2026-01-01", "--to", "2026-01-31", "--plan", "flat")
	for _, want := range []string{"MACHINE", "web", "2h 0m", "1m 30s", "0.5 GiB·h", "10.0 GiB·h", "$1.5000", "<$0.0001", "total"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("the table lacks %q:\n%s%s", want, got.out, got.err)
		}
	}
	if q := asked.URL.Query(); q.Get("from") != "2026-01-01T00:00:00Z" || q.Get("to") != "2026-02-01T00:00:00Z" || q.Get("by") != "machine" ||
		q.Get("plan") != "flat" || asked.Header.Get("X-API-Key") != "e2b_k" {
		t.Errorf("asked for %s with %v", asked.URL, asked.Header)
	}
	got = c.run("usage", "--csv")
	if rows, err := csv.NewReader(strings.NewReader(got.out)).ReadAll(); err != nil || len(rows) != 3 || rows[1][4] != "web" || rows[1][6] != "90.000" {
		t.Errorf("--csv: %v %v", rows, err)
	}
	var report client.UsageReport
	if got := c.run("usage", "--json"); json.Unmarshal([]byte(got.out), &report) != nil || len(report.Rows) != 2 {
		t.Errorf("--json: %+v", got)
	}
	if got := c.run("usage", "plans"); !strings.Contains(got.out, "flat (default)") || !strings.Contains(got.out, "0.01 / vCPU-hour") {
		t.Errorf("plans: %+v", got)
	}
}

// A table for people has a screen's worth of rows, and still adds up.
func TestUsageOfManyMachines(t *testing.T) {
	report := client.UsageReport{By: []string{"machine"}, Plan: "flat", Basis: "used", Currency: "USD"}
	for i := range 30 {
		report.Rows = append(report.Rows, client.UsageRow{Machine: fmt.Sprintf("i%02d", i), Cost: client.Cost{Total: float64(i%10) + 1},
			Usage: client.Usage{CPUSeconds: 1}})
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { json.NewEncoder(w).Encode(report) }))
	t.Cleanup(s.Close)
	c := cli{env: map[string]string{"E2B_API_URL": s.URL, "E2B_API_KEY": "e2b_k", "ATOLL_DATA": t.TempDir()}}
	got := c.run("usage", "--top", "4")
	for _, want := range []string{"i08", "i09", "i19", "i29", "… and 26 more", "26.0s", "$126.0000", "total"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("the table lacks %q:\n%s", want, got.out)
		}
	}
	if strings.Contains(got.out, "i18") || strings.Index(got.out, "i08") > strings.Index(got.out, "i09") || !strings.Contains(got.err, "--top 0 shows all 30") {
		t.Errorf("%s%s", got.out, got.err)
	}
	for _, args := range [][]string{{"usage"}, {"usage", "--top", "0"}, {"usage", "--csv", "--top", "1"}} {
		if got := c.run(args...); !strings.Contains(got.out, "i00") || !strings.Contains(got.out, "i29") || strings.Contains(got.out, "more") {
			t.Errorf("%v:\n%s", args, got.out)
		}
	}
}

// The admin token of a data directory goes to the server of that directory alone.
func TestUsageOfAllTeams(t *testing.T) {
	url, asked := usageServer(t)
	dir := t.TempDir()
	if err := writeCredentials(dir, credentials{APIKey: "e2b_file", AdminToken: "atoll_admin_1", APIURL: url}); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"usage", "--all"}, {"usage", "--by", "team"}} {
		if got := (cli{env: map[string]string{"ATOLL_DATA": dir}}).run(args...); got.code != 0 || asked.Header.Get("X-Admin-Token") != "atoll_admin_1" {
			t.Errorf("%v: %+v, sent %v", args, got, asked.Header)
		}
	}
	other, sent := usageServer(t)
	away := cli{env: map[string]string{"ATOLL_DATA": dir, "E2B_API_URL": other, "E2B_API_KEY": "e2b_k"}}
	if got := away.run("usage", "--all"); got.code != 1 || !strings.Contains(got.err, "no admin token for "+other) {
		t.Errorf("%+v", got)
	}
	if got := away.run("usage", "--by", "team"); got.code != 0 || sent.Header.Get("X-Admin-Token") != "" || sent.Header.Get("X-API-Key") != "e2b_k" {
		t.Errorf("%+v, sent %v", got, sent.Header)
	}
	away.env["ATOLL_ADMIN_TOKEN"] = "atoll_admin_2"
	if got := away.run("usage", "--all"); got.code != 0 || sent.Header.Get("X-Admin-Token") != "atoll_admin_2" {
		t.Errorf("%+v, sent %v", got, sent.Header)
	}
}

func TestWrongUseOfUsage(t *testing.T) {
	url, _ := usageServer(t)
	c := cli{env: map[string]string{"E2B_API_URL": url, "E2B_API_KEY": "e2b_k", "ATOLL_DATA": t.TempDir()}}
	for _, args := range [][]string{
		{"--from", "yesterday"}, {"--to", "2026-02-30"}, {"--by", "week"}, {"--json", "--csv"}, {"--top", "-1"}, {"extra"},
	} {
		if got := c.run(append([]string{"usage"}, args...)...); got.code != codeUsage || got.out != "" {
			t.Errorf("%v: %+v", args, got)
		}
	}
}
