package edge

import (
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/wire"
)

func TestGuestPaths(t *testing.T) {
	for _, c := range []struct {
		uri     string
		allowed bool
	}{
		{"/health", true},
		{"/files?path=/etc/../x&signature=%2F", true},
		{"/files/compose", true},
		{"/process.Process/Start", true},
		{"/filesystem.Filesystem/ListDir", true},
		{"/init", false},
		{"//init", false},
		{"/./init", false},
		{"/health/../init", false},
		{"/%69nit", false},
		{"/%2569nit", false},
		{"/health%2f..%2finit", false},
		{"/process.Process/../init", false},
		{"/process.Process/%2e%2e/init", false},
		{"/process.Process/..%2finit", false},
		{`/process.Process/..%5cinit`, false},
		{"/process.Process//Start", false},
		{"/process.Process/", false},
		{"/%66iles", false},
		{"/health/", false},
		{"/Health", false},
		{"/health;x", false},
		{"/health%00", false},
		{"/atoll/tunnel?port=22", false},
		{"/", false},
		{"*", false},
	} {
		u, err := url.ParseRequestURI(c.uri)
		if c.uri == "*" {
			u, err = &url.URL{Path: "*"}, nil
		}
		if err != nil {
			t.Fatal(c.uri, err)
		}
		if got := allowedGuestPath(u); got != c.allowed {
			t.Errorf("%s allowed is %v, want %v", c.uri, got, c.allowed)
		}
	}
}

// What reaches the guest is seen through a daemon that answers everything.
func TestControlRoutesAreOutOfReach(t *testing.T) {
	h := newHarness(t)
	h.guest(wire.GuestPort, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Saw", r.RequestURI)
		w.Header().Set("X-Control", r.Header.Get(wire.ControlHeader))
	}))
	host := "49983-" + testID + ".localhost"
	for _, line := range []string{
		"POST /init HTTP/1.1", "POST //init HTTP/1.1", "POST /./init HTTP/1.1", "POST /%69nit HTTP/1.1",
		"POST /health/../init HTTP/1.1", "POST /process.Process/../init HTTP/1.1",
		"POST http://" + host + "/init HTTP/1.1", "POST http://elsewhere/init HTTP/1.1",
		"POST /health%2f..%2finit HTTP/1.1", `POST /process.Process/..\init HTTP/1.1`,
		"GET /atoll/tunnel?port=22 HTTP/1.1", "OPTIONS * HTTP/1.1", "GET /init/ HTTP/1.1",
		"CONNECT /init HTTP/1.1", "CONNECT " + host + ":49983 HTTP/1.1",
	} {
		for _, by := range []string{
			"Host: " + host,
			"Host: localhost\ne2b-sandbox-id: " + testID + "\nE2B-SANDBOX-PORT: 49983",
		} {
			got := h.raw(line + "\n" + by + "\n" + wire.ControlHeader + ": x\nConnection: close\nContent-Length: 0\n\n")
			if strings.Contains(got, "X-Saw") || !strings.HasPrefix(got, "HTTP/1.1 ") {
				t.Errorf("%s (%s) reached the guest:\n%s", line, by, got)
			}
		}
	}
	for _, name := range []string{wire.ControlHeader, strings.ToLower(wire.ControlHeader), strings.ToUpper(wire.ControlHeader)} {
		got := h.raw("GET /health HTTP/1.1\nHost: " + host + "\n" + name + ": x\n" + name + ": y\nConnection: close\n\n")
		if !strings.Contains(got, "X-Saw: /health") || !strings.Contains(got, "X-Control: \r\n") {
			t.Errorf("with %s the guest was not reached, or saw it:\n%s", name, got)
		}
	}
}

func TestUpgradeToH2CIsNotPassedOn(t *testing.T) {
	h := newHarness(t)
	saw := make(chan http.Header, 4)
	note := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { saw <- r.Header.Clone() })
	h.guest(wire.GuestPort, note)
	h.guest(3000, note)
	for _, c := range []struct{ host, path string }{
		{"49983-" + testID + ".localhost", "/health"}, {"3000-" + testID + ".localhost", "/"},
	} {
		h.raw("GET " + c.path + " HTTP/1.1\nHost: " + c.host + "\nConnection: Upgrade, HTTP2-Settings, close\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__\n\n")
		got := <-saw
		if got.Get("Upgrade") != "" || got.Get("Http2-Settings") != "" {
			t.Errorf("%s saw %v", c.host, got)
		}
	}
}

func TestTrafficToken(t *testing.T) {
	h := newHarness(t)
	h.engine.add(machine.Machine{ID: testID, State: machine.Running, TrafficToken: "right-token"})
	var saw http.Header
	note := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { saw = r.Header.Clone() })
	h.guest(3000, note)
	h.guest(wire.GuestPort, note)
	for _, c := range []struct {
		name, token string
		port, want  int
	}{
		{"none", "", 3000, 403},
		{"wrong", "wrong-token", 3000, 403},
		{"part", "right", 3000, 403},
		{"right", "right-token", 3000, 200},
		{"the daemon has its own", "", wire.GuestPort, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			saw = nil
			res, body := h.get("http://localhost/health", "e2b-sandbox-id", testID, "e2b-sandbox-port", strconv.Itoa(c.port), "e2b-traffic-access-token", c.token)
			if res.StatusCode != c.want {
				t.Fatalf("answered %d %s, want %d", res.StatusCode, body, c.want)
			}
			if c.want == 403 && (saw != nil || !strings.Contains(body, "e2b-traffic-access-token") || strings.Contains(body, "right-token")) {
				t.Errorf("the refusal reads %s; guest saw %v", body, saw)
			}
			for _, name := range []string{headerTrafficToken, headerSandboxID, headerSandboxPort} {
				if saw.Get(name) != "" {
					t.Errorf("the guest saw %s", name)
				}
			}
		})
	}
}

func FuzzGuestPath(f *testing.F) {
	for _, s := range []string{"/health", "//init", "/%69nit", "/process.Process/..%2f..", "http://x/init", "/files?x=%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		u, err := url.ParseRequestURI(uri)
		if err != nil || !allowedGuestPath(u) {
			return
		}
		// However the daemon decodes and cleans what it gets, it is a public path.
		sent := (&url.URL{Scheme: "http", Host: "guest", Path: u.Path, RawPath: u.RawPath}).RequestURI()
		for range 3 {
			if !wire.PublicPath(sent) || path.Clean(sent) != sent {
				t.Fatalf("%q passes and is sent as %q", uri, sent)
			}
			if sent, err = url.PathUnescape(sent); err != nil {
				t.Fatal(err)
			}
		}
	})
}
