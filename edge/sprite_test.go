package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/wire"
)

const (
	spriteID    = "ispritespritesprite1"
	spriteToken = "control-token-of-the-sprite"
)

// fakeVisitors know one key of the sprite's team and one of another's.
type fakeVisitors struct{ gone atomic.Bool }

func (v *fakeVisitors) Public(m machine.Machine) bool { return m.Door["auth"] == "public" }

func (v *fakeVisitors) Key(token string) string {
	return map[string]string{"secret-of-us": "key-us", "secret-of-others": "key-others"}[token]
}

func (v *fakeVisitors) Member(_ machine.Machine, key string) bool {
	return key == "key-us" && !v.gone.Load()
}

// spriteHarness is an edge with one private sprite whose URL goes to port 8080.
type spriteHarness struct {
	*harness
	visitors *fakeVisitors
	asked    atomic.Int64 // how often its daemon was asked for the port
	answer   atomic.Pointer[wire.URLPort]
}

func newSpriteHarness(t *testing.T, auth string) *spriteHarness {
	h := &spriteHarness{harness: newHarness(t), visitors: &fakeVisitors{}}
	h.edge.visits.Visitors = h.visitors
	h.engine.add(machine.Machine{
		ID: spriteID, Kind: machine.KindSprite, Name: "web", Host: "web", State: machine.Running,
		ControlToken: spriteToken, Door: map[string]string{"auth": auth},
	})
	h.answer.Store(&wire.URLPort{Port: 8080})
	h.serve(wire.GuestPort, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get(wire.ControlHeader) != spriteToken:
			http.Error(w, "not the host", http.StatusUnauthorized)
		case r.URL.Path == wire.SpriteURLPortPath:
			h.asked.Add(1)
			json.NewEncoder(w).Encode(h.answer.Load())
		default:
			echo(w, r)
		}
	})
	h.serve(8080, echo)
	return h
}

func (h *spriteHarness) serve(port int, f http.HandlerFunc) {
	addr := listen(h.t, &http.Server{Handler: f})
	h.engine.mu.Lock()
	defer h.engine.mu.Unlock()
	h.engine.ports[fmt.Sprintf("%s:%d", spriteID, port)] = addr
}

// echo answers with what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "" {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer c.CloseNow()
		kind, b, err := c.Read(r.Context())
		if err == nil && c.Write(r.Context(), kind, b) == nil {
			c.Close(websocket.StatusNormalClosure, "")
		}
		return
	}
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s host=%s auth=%q cookie=%q control=%q body=%s",
		r.Method, r.URL.RequestURI(), r.Host, r.Header.Get("Authorization"), r.Header.Get("Cookie"), r.Header.Get(wire.ControlHeader), body)
}

func TestSpriteURLNeedsAMember(t *testing.T) {
	h := newSpriteHarness(t, "sprite")
	for name, c := range map[string]struct {
		header []string
		status int
	}{
		"nobody":                  {nil, 401},
		"a wrong token":           {[]string{"Authorization", "Bearer nonsense"}, 401},
		"another team":            {[]string{"Authorization", "Bearer secret-of-others"}, 401},
		"a made-up cookie":        {[]string{"Cookie", visitCookie + "=key-us.9999999999.AAAA"}, 401},
		"a member":                {[]string{"Authorization", "Bearer secret-of-us"}, 200},
		"a member's browser":      {[]string{"Cookie", visitCookie + "=" + h.cookie(h.sprite(), "key-us")}, 200},
		"another sprite's cookie": {[]string{"Cookie", visitCookie + "=" + h.cookie(machine.Machine{ID: testID}, "key-us")}, 401},
		"a link":                  {[]string{"Cookie", visitCookie + "=" + h.cookie(h.sprite(), "key-us"), "Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200},
		"a frame of another page": {[]string{"Cookie", visitCookie + "=" + h.cookie(h.sprite(), "key-us"), "Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, 401},
		"a page of another site":  {[]string{"Cookie", visitCookie + "=" + h.cookie(h.sprite(), "key-us"), "Origin", "http://evil.atoll.test"}, 401},
	} {
		t.Run(name, func(t *testing.T) {
			for _, host := range []string{"web.atoll.test", "WEB.localhost:3000"} {
				res, body := h.get("http://"+host+"/path?q=1", c.header...)
				if res.StatusCode != c.status {
					t.Errorf("%s: status %d, %s", host, res.StatusCode, body)
				}
			}
		})
	}
	if res, _ := h.get("http://web.atoll.test/", "Authorization", "Bearer secret-of-us"); res.StatusCode != 200 {
		t.Fatal("a member is refused")
	}
	h.visitors.gone.Store(true)
	if res, _ := h.get("http://web.atoll.test/", "Cookie", visitCookie+"="+h.cookie(h.sprite(), "key-us")); res.StatusCode != 401 {
		t.Errorf("a cookie outlives its key: %d", res.StatusCode)
	}
}

func (h *spriteHarness) sprite() machine.Machine {
	m, _ := h.engine.Get(spriteID)
	return m
}

func (h *spriteHarness) cookie(m machine.Machine, key string) string {
	w := httptest.NewRecorder()
	h.edge.visits.remember(w, httptest.NewRequest("GET", "/", nil), m, key)
	return w.Result().Cookies()[0].Value
}

func TestOurSecretsDoNotReachTheSprite(t *testing.T) {
	for _, auth := range []string{"sprite", "public"} {
		t.Run(auth, func(t *testing.T) {
			h := newSpriteHarness(t, auth)
			_, body := h.get("http://web.atoll.test/x", "Authorization", "Bearer secret-of-us",
				"Cookie", "a=1; "+visitCookie+"="+h.cookie(h.sprite(), "key-us")+"; b=2", wire.ControlHeader, "guess")
			if want := `GET /x host=web.atoll.test auth="" cookie="a=1; b=2" control="" body=`; body != want {
				t.Errorf("the sprite saw\n%s\nwant\n%s", body, want)
			}
		})
	}
	h := newSpriteHarness(t, "public")
	if _, body := h.get("http://web.atoll.test/", "Authorization", "Basic of-its-own"); !strings.Contains(body, `auth="Basic of-its-own"`) {
		t.Errorf("a public sprite did not get its own authorization: %s", body)
	}
}

func TestPeopleShowTheirTokenOnce(t *testing.T) {
	h := newSpriteHarness(t, "sprite")
	browser := []string{"Accept", "text/html", "Sec-Fetch-Mode", "navigate"}
	res, page := h.get("http://web.atoll.test/deep/page?x=<1>", browser...)
	if res.StatusCode != 401 || !strings.Contains(page, `action="/.atoll/visit"`) || !strings.Contains(page, `value="/deep/page?x=&lt;1&gt;"`) && !strings.Contains(page, "/deep/page?x=%3C1%3E") {
		t.Fatalf("status %d, page %s", res.StatusCode, page)
	}
	if policy := res.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") ||
		res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Referrer-Policy") == "" {
		t.Errorf("headers %v", res.Header)
	}
	show := func(token, next string) *http.Response {
		form := url.Values{"token": {token}, "next": {next}}.Encode()
		r, err := http.NewRequest("POST", "http://web.atoll.test"+visitPath, strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "http://web.atoll.test")
		res, _ := h.do(r)
		return res
	}
	for _, token := range []string{"", "wrong", "secret-of-others", strings.Repeat("x", 5000)} {
		if res := show(token, "/"); res.StatusCode != 401 || len(res.Cookies()) > 0 {
			t.Errorf("the token %.20q: status %d, cookies %v", token, res.StatusCode, res.Cookies())
		}
	}
	for next, want := range map[string]string{"/deep?x=1": "/deep?x=1", "//evil.test/": "/", "https://evil.test/": "/", "/\\evil.test": "/", "": "/"} {
		if res := show("secret-of-us", next); res.StatusCode != 303 || res.Header.Get("Location") != want {
			t.Errorf("next %q: status %d, to %q", next, res.StatusCode, res.Header.Get("Location"))
		}
	}
	c := show("secret-of-us", "/").Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Domain != "" {
		t.Errorf("the cookie is %v", c)
	}
	if res, body := h.get("http://web.atoll.test/", "Cookie", c.Name+"="+c.Value); res.StatusCode != 200 {
		t.Errorf("with the cookie: %d %s", res.StatusCode, body)
	}
}

func TestSpriteNamesItsPort(t *testing.T) {
	h := newSpriteHarness(t, "public")
	h.serve(3000, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "service") })
	for range 3 {
		h.get("http://web.atoll.test/")
	}
	if n := h.asked.Load(); n != 1 {
		t.Errorf("the sprite was asked %d times for its port", n)
	}
	h.answer.Store(&wire.URLPort{Port: 3000, Service: "web"})
	await(t, "the new port is used", func() bool {
		_, body := h.get("http://web.atoll.test/")
		return body == "service"
	})
}

func TestClosedPortOfASprite(t *testing.T) {
	h := newSpriteHarness(t, "public")
	h.answer.Store(&wire.URLPort{Port: 9999})
	res, body := h.get("http://web.atoll.test/")
	if res.StatusCode != 502 || !strings.Contains(body, "The sprite is running but port is not open") {
		t.Errorf("status %d, %s", res.StatusCode, body)
	}
}

func TestSpriteIsAskedAgainWhenItsPortClosed(t *testing.T) {
	h := newSpriteHarness(t, "public")
	h.serve(3000, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		echo(w, r)
	})
	h.answer.Store(&wire.URLPort{Port: 3000})
	if _, body := h.get("http://web.atoll.test/"); !strings.HasPrefix(body, "GET /") {
		t.Fatal(body)
	}
	h.engine.mu.Lock()
	delete(h.engine.ports, spriteID+":3000")
	h.engine.mu.Unlock()
	h.answer.Store(&wire.URLPort{Port: 8080})
	if res, body := h.get("http://web.atoll.test/"); res.StatusCode != http.StatusOK {
		t.Errorf("the service that took over is not asked: %s", body)
	}
}

func TestSpriteWakesForItsURL(t *testing.T) {
	h := newSpriteHarness(t, "sprite")
	h.engine.freeze(spriteID)
	if res, _ := h.get("http://web.atoll.test/"); res.StatusCode != 401 || h.engine.wakes.Load() != 0 {
		t.Errorf("who is refused woke it: status %d, %d wakes", res.StatusCode, h.engine.wakes.Load())
	}
	if res, _ := h.get("http://web.atoll.test/", "Authorization", "Bearer secret-of-us"); res.StatusCode != 200 || h.engine.wakes.Load() != 1 {
		t.Errorf("status %d, %d wakes", res.StatusCode, h.engine.wakes.Load())
	}
}

func TestWebSocketThroughSpriteURL(t *testing.T) {
	h := newSpriteHarness(t, "sprite")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://web.atoll.test/ws", &websocket.DialOptions{
		HTTPClient: h.client, HTTPHeader: http.Header{"Authorization": {"Bearer secret-of-us"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := c.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, b, err := c.Read(ctx); err != nil || string(b) != "hello" {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestSpriteIsNotReachedAsASandbox(t *testing.T) {
	h := newSpriteHarness(t, "sprite")
	for _, port := range []int{8080, wire.GuestPort} {
		if res, body := h.get(fmt.Sprintf("http://%d-%s.atoll.test/health", port, spriteID)); res.StatusCode != 502 {
			t.Errorf("port %d: status %d, %s", port, res.StatusCode, body)
		}
	}
}

func TestHostsOfNoSprite(t *testing.T) {
	h := newSpriteHarness(t, "sprite")
	for host, want := range map[string]string{
		"nope.atoll.test":    "api /x", // programs speak to the API by any name
		"api.atoll.test":     "api /x",
		"web.elsewhere.test": "api /x",
		"atoll.test":         "api /x",
		"a.web.atoll.test":   "api /x",
	} {
		if _, body := h.get("http://" + host + "/x"); body != want {
			t.Errorf("%s: %s", host, body)
		}
	}
	if res, body := h.get("http://nope.atoll.test/", "Accept", "text/html"); res.StatusCode != 404 || !strings.Contains(body, "There is no sprite") {
		t.Errorf("a person at a wrong address: %d %s", res.StatusCode, body)
	}
	if _, body := h.get("http://api.atoll.test/", "Accept", "text/html"); body != "api /" {
		t.Errorf("a person at the API: %s", body)
	}
}

func TestDoorsReachTheDaemon(t *testing.T) {
	h := newSpriteHarness(t, "sprite")
	door := listen(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Sprite-Version", "1")
		m := h.sprite()
		h.edge.Daemon(w, r, m, func(status int, message string) { http.Error(w, message, status) })
	})})
	r, err := http.NewRequest("POST", "http://"+door+"/sprite/exec?cmd=a&cmd=b%20c", strings.NewReader("in"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer secret-of-us")
	r.Header.Set("Cookie", "a=1")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	want := fmt.Sprintf(`POST /sprite/exec?cmd=a&cmd=b%%20c host=%s auth="" cookie="" control=%q body=in`, door, spriteToken)
	if string(body) != want || res.Header.Get("Sprite-Version") != "1" {
		t.Errorf("the daemon saw\n%s\nwant\n%s", body, want)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, up, err := websocket.Dial(ctx, "ws://"+door+"/sprite/exec", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if up.Header.Get("Sprite-Version") != "1" {
		t.Error("an upgrade has no version")
	}
	if err := c.Write(ctx, websocket.MessageBinary, []byte{1, 2}); err != nil {
		t.Fatal(err)
	}
	if _, b, err := c.Read(ctx); err != nil || len(b) != 2 {
		t.Errorf("read %v, %v", b, err)
	}
	h.engine.end(spriteID)
	if res, err := http.Get("http://" + door + "/sprite/exec"); err != nil || res.StatusCode < 500 {
		t.Errorf("a sprite that is gone: %v, %v", res, err)
	}
}

func FuzzVisitCookie(f *testing.F) {
	v := newVisits(&fakeVisitors{}, []byte("key"))
	m := machine.Machine{ID: spriteID}
	f.Add("key-us.1.x")
	f.Add("..")
	f.Fuzz(func(t *testing.T, value string) {
		if v.remembers(m, value) {
			t.Errorf("%q was accepted", value)
		}
	})
}

func TestVisitsEnd(t *testing.T) {
	h := newSpriteHarness(t, "sprite")
	value := h.cookie(h.sprite(), "key-us")
	h.edge.visits.now = func() time.Time { return time.Now().Add(visitLasts + time.Minute) }
	if h.edge.visits.remembers(h.sprite(), value) {
		t.Error("a cookie is good for ever")
	}
}
