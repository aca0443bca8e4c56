package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/client/doortest"
)

func TestSandboxLife(t *testing.T) {
	d := doortest.New(t, "")
	c, ctx := d.Client(t), t.Context()
	if err := c.Health(ctx); err != nil {
		t.Fatal(err)
	}
	ttl := 60
	s, err := c.Create(ctx, client.NewSandbox{TemplateID: "base", Timeout: &ttl, Secure: true, Metadata: map[string]string{"a": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	if s.EnvdAccessToken == "" {
		t.Error("a secure sandbox came without its access token")
	}
	if err := c.SetTimeout(ctx, s.SandboxID, 90*time.Minute+time.Millisecond); err != nil {
		t.Fatal(err)
	}
	got, err := c.Get(ctx, s.SandboxID)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(got.EndAt); left < 89*time.Minute {
		t.Errorf("after SetTimeout %v are left", left)
	}
	if _, err := c.Metrics(ctx, s.SandboxID, time.Now().Add(-time.Hour), time.Time{}); err != nil {
		t.Error(err)
	}
	if err := c.Kill(ctx, s.SandboxID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, s.SandboxID); !client.IsNotFound(err) {
		t.Errorf("after Kill, Get says %v", err)
	}
}

func TestListWalksThroughPagesAndFilters(t *testing.T) {
	d := doortest.New(t, "")
	d.PageSize = 3
	for i := range 10 {
		d.Add(client.Sandbox{SandboxID: fmt.Sprintf("i%d", i), Metadata: map[string]string{"n&=": fmt.Sprint(i % 2)}})
	}
	c := d.Client(t)
	for _, tc := range []struct {
		filter client.ListFilter
		want   int
	}{
		{client.ListFilter{}, 10},
		{client.ListFilter{Metadata: map[string]string{"n&=": "1"}}, 5},
		{client.ListFilter{States: []string{"paused"}}, 0},
		{client.ListFilter{States: []string{"paused", "running"}}, 10},
	} {
		all, err := c.List(t.Context(), tc.filter)
		if err != nil || len(all) != tc.want {
			t.Errorf("List(%+v): %d sandboxes, %v; want %d", tc.filter, len(all), err, tc.want)
		}
	}
}

func TestErrorsSayWhatTheServerSaid(t *testing.T) {
	for _, tc := range []struct {
		status            int
		contentType, body string
		want              string
	}{
		{404, "application/json", `{"code":404,"message":"no such sandbox"}`, "no such sandbox"},
		{429, "application/json", `{"code":429,"message":"too many","error_code":"limit"}`, "too many"},
		{502, "text/plain; charset=utf-8", "nobody home\n", "nobody home"},
		{500, "text/html", "<html>secret</html>", "the server answered 500 Internal Server Error"},
		{400, "application/json", `{"message":`, "the server answered 400 Bad Request"},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", tc.contentType)
			w.WriteHeader(tc.status)
			fmt.Fprint(w, tc.body)
		}))
		c, err := client.New(client.Config{APIURL: s.URL})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Get(t.Context(), "x")
		if err == nil || err.Error() != tc.want || client.Status(err) != tc.status {
			t.Errorf("%d %s: got %v (status %d), want %q", tc.status, tc.body, err, client.Status(err), tc.want)
		}
		s.Close()
	}
}

func TestPathsCannotEscape(t *testing.T) {
	var asked string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.EscapedPath()
		w.WriteHeader(404)
	}))
	defer s.Close()
	c, err := client.New(client.Config{APIURL: s.URL + "/base/"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "../keys?x=1#y"); err == nil {
		t.Error("no error")
	}
	if want := "/base/sandboxes/..%2Fkeys%3Fx=1%23y"; asked != want {
		t.Errorf("asked for %s, want %s", asked, want)
	}
}

func TestUnreachableIsToldApart(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	c, err := client.New(client.Config{APIURL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Health(t.Context()); !errors.Is(err, client.ErrUnreachable) || strings.Contains(err.Error(), "Get \"") {
		t.Errorf("got %v", err)
	}
	if _, err := c.Guest(client.Sandbox{SandboxID: "x"}).Stat(t.Context(), "/"); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("through the edge: got %v", err)
	}
}

func TestAddressesAreChecked(t *testing.T) {
	for _, u := range []string{"", "localhost:3000", "ftp://x", "http://", "://"} {
		if _, err := client.New(client.Config{APIURL: u}); err == nil {
			t.Errorf("New accepts API address %q", u)
		}
	}
	if _, err := client.New(client.Config{APIURL: "http://x", APIKey: "a\r\nb"}); err == nil {
		t.Error("New accepts a key with a line break")
	}
}

func TestFollowLogsShowsEachLineOnce(t *testing.T) {
	d := doortest.New(t, "")
	d.Add(client.Sandbox{SandboxID: "i1"})
	at := time.UnixMilli(1700000000000)
	// Three in one millisecond, two of them alike: all must be shown.
	for _, m := range []string{"a", "a", "b"} {
		d.Log("i1", client.LogEntry{Timestamp: at, Level: "info", Message: m})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := d.Client(t)
	var got []string
	err := c.FollowLogs(ctx, "i1", client.LogQuery{}, true, func(e client.LogEntry) error {
		got = append(got, e.Message)
		switch e.Message {
		case "b":
			d.Log("i1", client.LogEntry{Timestamp: at, Level: "info", Message: "a"}) // late, same millisecond
			d.Log("i1", client.LogEntry{Timestamp: at.Add(time.Millisecond), Level: "info", Message: "c"})
		case "c":
			return c.Kill(ctx, "i1") // following ends by itself
		}
		return nil
	})
	if err != nil || strings.Join(got, "") != "aabac" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestFollowLogsReadsMoreThanOnePage(t *testing.T) {
	d := doortest.New(t, "")
	d.Add(client.Sandbox{SandboxID: "i1"})
	for i := range 2500 {
		d.Log("i1", client.LogEntry{Timestamp: time.UnixMilli(1700000000000 + int64(i/10)), Message: fmt.Sprint(i)})
	}
	n := 0
	err := d.Client(t).FollowLogs(t.Context(), "i1", client.LogQuery{}, false, func(e client.LogEntry) error {
		if e.Message != fmt.Sprint(n) {
			return fmt.Errorf("line %d is %q", n, e.Message)
		}
		n++
		return nil
	})
	if err != nil || n != 2500 {
		t.Errorf("%d lines, %v", n, err)
	}
}

func TestKeys(t *testing.T) {
	c := doortest.New(t, "").Client(t)
	k, err := c.CreateKey(t.Context(), "ci")
	if err != nil || k.Key == "" {
		t.Fatalf("%+v, %v", k, err)
	}
	all, err := c.Keys(t.Context())
	if err != nil || len(all) != 1 || all[0].Key != "" {
		t.Errorf("%+v, %v", all, err)
	}
	if err := c.DeleteKey(t.Context(), k.ID); err != nil {
		t.Error(err)
	}
	if err := c.DeleteKey(t.Context(), k.ID); !client.IsNotFound(err) {
		t.Errorf("second delete: %v", err)
	}
}
