package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/wire"
)

// The published SDKs tell a sandbox that is gone from one that cannot be
// reached by the status 502 and by these words.
func TestProblemsAreThoseThatSDKsRead(t *testing.T) {
	h := newHarness(t)
	h.engine.add(machine.Machine{ID: "icreating0", State: machine.Creating})
	h.engine.add(machine.Machine{ID: "iending000", State: machine.Ending})
	h.rawGuest(4000, func(c net.Conn) {
		c.Read(make([]byte, 4096))
		fmt.Fprint(c, "this is not HTTP\r\n\r\n")
	})
	h.rawGuest(4001, func(c net.Conn) { c.Read(make([]byte, 4096)) })
	for _, c := range []struct {
		name, id, port string
		code           int
		words          string
		hasPort        bool
	}{
		{"unknown", "iunknown00", "49983", 502, "was not found", false},
		{"ending", "iending000", "49983", 502, "was not found", false},
		{"creating", "icreating0", "49983", 503, "try again", false},
		{"closed port of the daemon", testID, "49983", 502, "port is not open", true},
		{"closed port", testID, "3000", 502, "port is not open", true},
		{"not HTTP", testID, "4000", 502, "did not answer with HTTP", true},
		{"closed at once", testID, "4001", 502, "closed the connection", true},
		{"bad id", "Nope", "3000", 400, "sandbox id", false},
		{"bad port", testID, "0", 400, "1 to 65535", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, body := h.get("http://localhost/health", headerSandboxID, c.id, headerSandboxPort, c.port)
			var got map[string]any
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatalf("%v in %s", err, body)
			}
			if res.StatusCode != c.code || got["code"] != float64(c.code) || !strings.Contains(got["message"].(string), c.words) {
				t.Errorf("answered %d %s, want %d with %q", res.StatusCode, body, c.code, c.words)
			}
			if c.code >= 500 && got["sandboxId"] != c.id {
				t.Errorf("sandboxId is %v", got["sandboxId"])
			}
			if port, ok := got["port"]; ok != c.hasPort || (ok && fmt.Sprint(port) != c.port) {
				t.Errorf("port is %v", port)
			}
			if res.Header.Get("Access-Control-Allow-Origin") != "*" || res.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("headers %v", res.Header)
			}
		})
	}
}

// Why a guest was not reached is told apart by what the engine says.
func TestFailedDials(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   error
		code  int
		words string
	}{
		{"closed", fmt.Errorf("x: %w", machine.ErrPortClosed), 502, "port is not open"},
		{"refused", fmt.Errorf("%w: %w", machine.ErrUnavailable, syscall.ECONNREFUSED), 502, "port is not open"},
		{"timed out", fmt.Errorf("%w: %w", machine.ErrUnavailable, context.DeadlineExceeded), 502, "in time"},
		{"unavailable", fmt.Errorf("x: %w", machine.ErrUnavailable), 503, "try again"},
	} {
		h := newHarness(t)
		h.engine.failDials(c.err)
		if res, body := h.get(guestURL(wire.GuestPort, "/health")); res.StatusCode != c.code || !strings.Contains(body, c.words) {
			t.Errorf("%s: %d %s, want %d with %q", c.name, res.StatusCode, body, c.code, c.words)
		}
	}
}

// A guest that is being ended drops its connections before its end is known.
func TestRequestCutByTheEndSaysSo(t *testing.T) {
	h := newHarness(t)
	h.rawGuest(3000, func(c net.Conn) {
		c.Read(make([]byte, 4096))
		h.engine.add(machine.Machine{ID: testID, State: machine.Ending})
	})
	r, _ := http.NewRequest("POST", guestURL(3000, "/"), strings.NewReader("x"))
	if res, body := h.do(r); res.StatusCode != 502 || !strings.Contains(body, "was not found") {
		t.Errorf("answered %d %s", res.StatusCode, body)
	}
}

func TestClosedEdgeAnswersAndHoldsNothing(t *testing.T) {
	h := newHarness(t)
	started := make(chan struct{})
	h.guest(3000, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { close(started); <-r.Context().Done() }))
	go func() { <-started; h.edge.Close() }()
	for range 2 { // one in flight, one after
		if res, body := h.get(guestURL(3000, "/")); res.StatusCode != 503 {
			t.Errorf("answered %d %s", res.StatusCode, body)
		}
	}
	await(t, "no connection to the guest is open", func() bool { return h.engine.open.Load() == 0 })
}

func TestWhoGetsThePage(t *testing.T) {
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for _, c := range []struct {
		name, accept, mode string
		page               bool
	}{
		{"a program", "", "", false},
		{"an SDK", "*/*", "", false},
		{"a browser", browser, "navigate", true},
		{"an old browser", browser, "", true},
		{"fetch in a page", "*/*", "cors", false},
		{"fetch that asks for HTML", "text/html", "cors", false},
		{"a program that prefers JSON", "application/json, text/html", "", false},
		{"in capitals", "Text/HTML;q=1", "", true},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept", c.accept)
		if c.mode != "" {
			r.Header.Set("Sec-Fetch-Mode", c.mode)
		}
		w := httptest.NewRecorder()
		answerProblem(w, r, problemNotFound(target{testID, 80}))
		if got := strings.HasPrefix(w.Header().Get("Content-Type"), "text/html"); got != c.page {
			t.Errorf("%s gets a page: %v, want %v", c.name, got, c.page)
		}
	}
}

func TestThePageIsEscapedAndSelfContained(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept", "text/html")
	w := httptest.NewRecorder()
	answerProblem(w, r, &problem{Code: 502, Title: "<script>alert(1)</script>", SandboxID: `"><img src=x>`, Steps: []string{"<b>"}})
	body := w.Body.String()
	for _, bad := range []string{"<script", "<img", "<b>", "http://", "https://", "url("} {
		if strings.Contains(body, bad) {
			t.Errorf("the page contains %s", bad)
		}
	}
}

func TestCORS(t *testing.T) {
	h := newHarness(t)
	h.guest(wire.GuestPort, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://other")
		if r.Method == http.MethodOptions {
			t.Error("a preflight reached the daemon")
		}
	}))
	var asked int
	h.guest(3000, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked++; w.WriteHeader(418) }))
	preflight := func(url, headers string) *http.Response {
		r := httptest.NewRequest("OPTIONS", url, nil)
		r.RequestURI = ""
		r.Header.Set("Origin", "https://app.example")
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Access-Control-Request-Headers", headers)
		res, _ := h.do(r)
		return res
	}
	const sdk = "connect-protocol-version,content-type,e2b-sandbox-id,e2b-sandbox-port,x-access-token"
	for name, url := range map[string]string{
		"by host":      guestURL(wire.GuestPort, "/process.Process/Start"),
		"by headers":   "http://localhost/process.Process/Start",
		"gone machine": "http://49983-iunknown00.localhost/health",
	} {
		res := preflight(url, sdk)
		if res.StatusCode != 204 || res.Header.Get("Access-Control-Allow-Origin") != "*" || res.Header.Get("Access-Control-Allow-Headers") != sdk {
			t.Errorf("%s: %d %v", name, res.StatusCode, res.Header)
		}
	}
	if res, _ := h.get(guestURL(wire.GuestPort, "/health"), "Origin", "https://app.example"); len(res.Header["Access-Control-Allow-Origin"]) != 1 || res.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("the daemon's answer has %v", res.Header)
	}
	if res := preflight(guestURL(3000, "/"), "content-type"); res.StatusCode != 418 || asked != 1 {
		t.Errorf("a program in the guest does not answer its own preflight: %d", res.StatusCode)
	}
	if res := preflight("http://localhost/sandboxes", "content-type"); res.StatusCode != 200 {
		t.Errorf("the APIs do not answer their own preflight: %d", res.StatusCode)
	}
	h.engine.add(machine.Machine{ID: testID, State: machine.Running, TrafficToken: "right-token"})
	if res := preflight(guestURL(3000, "/"), "E2B-Traffic-Access-Token"); res.StatusCode != 204 {
		t.Errorf("a preflight that announces the token: %d", res.StatusCode)
	}
	if res := preflight(guestURL(3000, "/"), "content-type"); res.StatusCode != 403 {
		t.Errorf("a preflight without the token: %d", res.StatusCode)
	}
}
