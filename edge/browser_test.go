package edge

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/test/browser"
	"github.com/atoll-cloud/atoll/wire"
)

// A harness for browsers: the sprites "web" and "other", of one site, for both
// are below one domain, and "far", which is of another.
type browserHarness struct {
	*spriteHarness
	*browser.Browser
	answered chan string // the paths for which the sprite "web" was asked
}

const browserDomain = "sprites.localhost"

func newBrowserHarness(t *testing.T) *browserHarness {
	h := &browserHarness{newSpriteHarness(t, "sprite"), browser.Start(t), make(chan string, 1000)}
	h.edge.domain = browserDomain
	site := listen(t, &http.Server{Handler: http.HandlerFunc(serveSite)})
	h.serve(8080, func(w http.ResponseWriter, r *http.Request) {
		select {
		case h.answered <- r.URL.Path:
		default: // who waits for something else asks again and again
		}
		serveSite(w, r)
	})
	daemon := h.engine.ports[fmt.Sprintf("%s:%d", spriteID, wire.GuestPort)]
	for i, name := range []string{"other", "far"} {
		id := fmt.Sprintf("ineighbourneighbour%d", i)
		h.engine.add(machine.Machine{
			ID: id, Kind: machine.KindSprite, Name: name, Host: name, State: machine.Running,
			ControlToken: spriteToken, Door: map[string]string{"auth": "public"},
		})
		h.engine.mu.Lock()
		h.engine.ports[id+":8080"] = site
		h.engine.ports[fmt.Sprintf("%s:%d", id, wire.GuestPort)] = daemon
		h.engine.mu.Unlock()
	}
	return h
}

// port is that of the edge, with its colon.
func (h *browserHarness) port() string { return h.addr[strings.LastIndexByte(h.addr, ':'):] }

// at is an address at a sprite.
func (h *browserHarness) at(name, path string) string {
	domain := browserDomain
	if name == "far" {
		domain = "localhost"
	}
	return "http://" + name + "." + domain + h.port() + path
}

// serveSite is what runs in the sprites: a page that tells which it is, a
// WebSocket that says all again, events.
func serveSite(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ws":
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer c.CloseNow()
		if kind, b, err := c.Read(r.Context()); err == nil && c.Write(r.Context(), kind, b) == nil {
			c.Close(websocket.StatusNormalClosure, "")
		}
	case "/events":
		w.Header().Set("Content-Type", "text/event-stream")
		for n := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", n)
			http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	case "/away":
		http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
	default:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!doctype html><html lang="en"><title>%s</title><link rel="icon" href="data:,"><p id="site">%s %s`,
			r.Host, r.Method, html.EscapeString(r.URL.RequestURI()))
	}
}

const (
	isSite  = `!!document.querySelector("#site")`
	isLogin = `!!document.querySelector("input#token[type=password]")`
)

func quietPage(t *testing.T, p *browser.Page) {
	t.Helper()
	if c := p.Complaints(); len(c) > 0 {
		t.Errorf("the browser complains: %q", c)
	}
}

// visitWeb shows the token of "web" to its page.
func (h *browserHarness) visitWeb(t *testing.T, p *browser.Page) {
	t.Helper()
	if status := p.Open(h.at("web", "/")); status != 401 || !p.Is(isLogin) {
		t.Fatalf("the private page: %d", status)
	}
	if status := p.Enter("secret-of-us"); status != 200 || !p.Is(isSite) {
		t.Fatalf("the right token: %d", status)
	}
}

func TestBrowser(t *testing.T) {
	h := newBrowserHarness(t)
	t.Run("shows its token once", h.showsItsTokenOnce)
	t.Run("keeps its cookie to itself", h.keepsItsCookie)
	t.Run("has streams", h.hasStreams)
	t.Run("is not led by other sites", h.isNotLed)
	t.Run("is led on to other sites", h.isLedOn)
	t.Run("wakes a sprite", h.wakes)
	t.Run("needs nothing for a public sprite", h.visitsPublic)
	t.Run("has looks", h.looks)
	t.Run("reads what went wrong", h.readsProblems)
}

func (h *browserHarness) showsItsTokenOnce(t *testing.T) {
	p := h.Person(t)
	asked := h.at("web", "/deep%2Fer/page?q=a%20b&x=%3C1%3E&y=+&long="+strings.Repeat("x", 4000))
	if status := p.Open(asked); status != 401 {
		t.Errorf("status %d", status)
	}
	p.Await(`document.activeElement.id === "token"`)
	for what, holds := range map[string]string{
		"the title is its name":          `document.title === "web is private"`,
		"the field has a label":          `document.querySelector("#token").labels[0].textContent === "API key"`,
		"nothing is wrong yet":           `!document.querySelector("[role=alert]") && !document.querySelector("[aria-invalid]")`,
		"the style is ours":              `getComputedStyle(document.querySelector("main")).borderRadius === "10px"`,
		"scripts cannot read the cookie": `document.cookie === ""`,
	} {
		if !p.Is(holds) {
			t.Errorf("it does not hold that %s", what)
		}
	}
	for _, wrong := range []string{"wrong", "secret-of-others"} {
		if status := p.Enter(wrong); status != 401 || !p.Is(isLogin) {
			t.Fatalf("the token %q: status %d", wrong, status)
		}
		p.Await(`document.activeElement.id === "token"`)
		if !p.Is(`(() => { const f = document.activeElement, e = document.querySelector("[role=alert]");
			return f.value === "" && f.getAttribute("aria-invalid") === "true" && f.getAttribute("aria-describedby") === e.id &&
				e.textContent.includes("does not open this sprite") && e.getBoundingClientRect().top - f.getBoundingClientRect().bottom < 20 })()`) {
			t.Error("the error is not said where the mistake was made")
		}
	}
	if status := p.Enter("secret-of-us"); status != 200 || p.Text("location.href") != asked || !p.Is(isSite) {
		t.Errorf("the right token led to %s, %d", p.Text("location.href"), status)
	}
	if path := strings.TrimPrefix(asked, h.at("web", "")); p.Text(`document.querySelector("#site").textContent`) != "GET "+path {
		t.Errorf("the sprite was asked for %s", p.Text(`document.querySelector("#site").textContent`))
	}
	if status := p.Reload(); status != 200 || !p.Is(isSite) {
		t.Errorf("a reload: %d", status)
	}
	if !p.Is(`document.cookie === ""`) {
		t.Error("scripts can read the cookie")
	}
	quietPage(t, p)

	p = h.Person(t)
	p.WithoutScripts()
	h.visitWeb(t, p)
}

func (h *browserHarness) keepsItsCookie(t *testing.T) {
	p := h.Person(t)
	h.visitWeb(t, p)
	cookies := p.Cookies(h.at("web", "/"))
	if len(cookies) != 1 || !cookies[0].HTTPOnly || cookies[0].SameSite != "Lax" || cookies[0].Domain != "web."+browserDomain || cookies[0].Session {
		t.Fatalf("cookies %+v", cookies)
	}
	h.change("other", "sprite")
	defer h.change("other", "public")
	if len(p.Cookies(h.at("other", "/"))) > 0 {
		t.Error("another sprite gets the cookie")
	}
	p.SetCookie(h.at("other", "/"), visitCookie, cookies[0].Value)
	if status := p.Open(h.at("other", "/")); status != 401 || !p.Is(isLogin) {
		t.Errorf("the cookie opens another sprite: %d", status)
	}
	quietPage(t, p)
}

// change says who may visit a sprite.
func (h *browserHarness) change(host, auth string) {
	m, err := h.engine.AtHost(host)
	if err != nil {
		h.t.Fatal(err)
	}
	m.Door = map[string]string{"auth": auth}
	h.engine.add(m)
}

func (h *browserHarness) hasStreams(t *testing.T) {
	p := h.Person(t)
	h.visitWeb(t, p)
	if got := p.Text(socket("")); got != "hello" {
		t.Errorf("the WebSocket said %q", got)
	}
	if got := p.Text(events("")); got != "0,1,2" {
		t.Errorf("the events were %s", got)
	}
	quietPage(t, p)
}

func socket(host string) string {
	return fmt.Sprintf(`new Promise((done) => {
		const s = new WebSocket("ws://" + (%q || location.host) + "/ws");
		s.onopen = () => s.send("hello");
		s.onmessage = (e) => done(e.data);
		s.onerror = () => done("refused");
	})`, host)
}

func events(origin string) string {
	return fmt.Sprintf(`new Promise((done) => {
		const s = new EventSource(%q + "/events", { withCredentials: true }), got = [];
		s.onmessage = (e) => { got.push(e.data); if (got.length === 3) { s.close(); done(got.join()); } };
		s.onerror = () => { s.close(); done("refused"); };
	})`, origin)
}

// A page of another sprite, of the same site or of another one, may link to a
// sprite, and no more.
func (h *browserHarness) isNotLed(t *testing.T) {
	for _, from := range []string{"other", "far"} {
		t.Run(from, func(t *testing.T) {
			p := h.Person(t)
			here, web := h.at(from, "/"), h.at("web", "")
			for len(h.answered) > 0 {
				<-h.answered
			}
			form := func(path, token string) int {
				p.Open(here)
				return p.Follow(fmt.Sprintf(`(() => {
					const f = document.createElement("form");
					f.method = "post"; f.action = %q;
					for (const [name, value] of [["token", %q], ["next", "/"]]) {
						const i = document.createElement("input");
						i.name = name; i.value = value; f.append(i);
					}
					document.body.append(f); f.submit();
				})()`, web+path, token))
			}
			if status := form(visitPath, "secret-of-us"); status != 403 || len(p.Cookies(web)) > 0 {
				t.Errorf("another page logged the visitor in: %d", status)
			}
			h.visitWeb(t, p)
			if form(visitPath, "wrong"); len(p.Cookies(web)) != 1 {
				t.Error("another page logged the visitor out")
			}
			if status := form("/delete", "x"); status != 401 || !p.Is(isLogin) {
				t.Errorf("a form of another page rides the cookie: %d", status)
			}
			p.Open(here)
			if got := p.Text(socket(strings.TrimPrefix(web, "http://"))); got != "refused" {
				t.Errorf("a WebSocket of another page rides the cookie: %s", got)
			}
			if got := p.Text(events(web)); got != "refused" {
				t.Errorf("events of another page ride the cookie: %s", got)
			}
			if status := p.Text(fmt.Sprintf(`fetch(%q, { mode: "no-cors", credentials: "include" }).then((r) => r.type)`, web+"/secret")); status != "opaque" {
				t.Errorf("fetch: %s", status)
			}
			p.Is(fmt.Sprintf(`new Promise((done) => {
				const f = document.createElement("iframe");
				f.onload = () => done(true); f.src = %q;
				document.body.append(f);
			})`, web+"/framed"))
			for len(h.answered) > 0 {
				if path := <-h.answered; path != "/" {
					t.Errorf("another page had the sprite answer %s", path)
				}
			}
			if status := p.Follow(fmt.Sprintf("location.href = %q", web+"/linked")); status != 200 || !p.Is(isSite) {
				t.Errorf("a link to the sprite: %d", status)
			}
		})
	}
}

// The page that was asked for may lead on, to where people log in to it.
func (h *browserHarness) isLedOn(t *testing.T) {
	p := h.Person(t)
	far := h.at("far", "/login")
	p.Open(h.at("web", "/away?to="+url.QueryEscape(far)))
	if status := p.Enter("secret-of-us"); status != 200 || p.Text("location.href") != far {
		t.Errorf("led to %s, %d", p.Text("location.href"), status)
	}
	quietPage(t, p)
}

func (h *browserHarness) wakes(t *testing.T) {
	p := h.Person(t)
	before := h.engine.wakes.Load()
	h.engine.freeze(spriteID)
	h.visitWeb(t, p)
	h.engine.freeze(spriteID)
	if status := p.Reload(); status != 200 || !p.Is(isSite) {
		t.Errorf("a sleeping sprite: %d", status)
	}
	if n := h.engine.wakes.Load() - before; n != 2 {
		t.Errorf("it woke %d times", n)
	}
	quietPage(t, p)
}

func (h *browserHarness) visitsPublic(t *testing.T) {
	p := h.Person(t)
	if status := p.Open(h.at("other", "/any?x=1")); status != 200 || !p.Is(isSite) {
		t.Errorf("status %d", status)
	}
	if got := p.Text(socket("")) + " " + p.Text(events("")); got != "hello 0,1,2" {
		t.Errorf("streams: %s", got)
	}
	if c := p.Cookies(h.at("other", "/")); len(c) > 0 {
		t.Errorf("cookies %v", c)
	}
	quietPage(t, p)
}

// lookAt checks a page on both screens in both colour schemes. Where
// ATOLL_TEST_PICTURES names a folder, pictures are left there.
func lookAt(t *testing.T, p *browser.Page, name string) {
	t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		for _, screen := range [][2]int{{360, 640}, {1280, 800}} {
			p.Scheme(scheme)
			p.Screen(screen[0], screen[1])
			for _, fault := range p.Faults() {
				t.Errorf("%s, %s, %d wide: %s", name, scheme, screen[0], fault)
			}
			if dir := os.Getenv("ATOLL_TEST_PICTURES"); dir != "" {
				p.Picture(filepath.Join(dir, fmt.Sprintf("%s-%s-%d.png", name, scheme, screen[0])))
			}
		}
	}
}

func (h *browserHarness) looks(t *testing.T) {
	h.change("other", "sprite")
	defer h.change("other", "public")
	m, _ := h.engine.AtHost("other")
	m.Name = strings.Repeat("a-very-long-name", 4)[:63]
	h.engine.add(m)
	for host, name := range map[string]string{"web": "login", "other": "login-long"} {
		p := h.Person(t)
		p.Open(h.at(host, "/"))
		lookAt(t, p, name)
		p.Enter("wrong")
		lookAt(t, p, name+"-wrong")
		p.Await(`document.activeElement.id === "token"`)
		p.Type("\t")
		if !p.Is(`document.activeElement.localName === "button"`) {
			t.Error("the key that leads on does not lead to the button")
		}
		quietPage(t, p)
	}
}

func (h *browserHarness) readsProblems(t *testing.T) {
	h.engine.add(machine.Machine{ID: "ipausedpaused0", State: machine.Running})
	h.engine.pause("ipausedpaused0")
	h.engine.add(machine.Machine{ID: "iprivateprivate0", State: machine.Running, TrafficToken: "secret"})
	h.change("web", "public")
	h.answer.Store(&wire.URLPort{Port: 3000})
	await(t, "the port has changed", func() bool { res, _ := h.get(h.at("web", "/")); return res.StatusCode == 502 })
	for name, c := range map[string]struct {
		host, heading string
		status        int
	}{
		"gone":      {"3000-igonegonegone0.localhost", "This sandbox is not running", 502},
		"paused":    {"3000-ipausedpaused0.localhost", "This sandbox is paused", 502},
		"closed":    {"3000-" + testID + ".localhost", "Nothing listens on port 3000", 502},
		"private":   {"3000-iprivateprivate0.localhost", "This sandbox is private", 403},
		"daemon":    {"49983-" + testID + ".localhost", "There is nothing here", 404},
		"sprite":    {"web.localhost", "Nothing listens on port 3000", 502},
		"no-sprite": {"nobody.localhost", "There is no sprite at this address", 404},
	} {
		t.Run(name, func(t *testing.T) {
			p := h.Person(t)
			p.WithoutScripts()
			if status := p.Open("http://" + c.host + h.port() + "/?q=1"); status != c.status {
				t.Errorf("status %d, not %d", status, c.status)
			}
			if got := p.Text(`document.querySelector("h1").textContent`); got != c.heading {
				t.Errorf("it says %q", got)
			}
			lookAt(t, p, name)
			quietPage(t, p)
		})
	}
	h.answer.Store(&wire.URLPort{Port: 8080})
	await(t, "the port is open", func() bool { res, _ := h.get(h.at("far", "/")); return res.StatusCode == 200 })
	// What is asked for in a frame says there what went wrong.
	p := h.Person(t)
	p.Open(h.at("far", "/"))
	p.Is(fmt.Sprintf(`new Promise((done) => {
		const f = document.createElement("iframe");
		f.onload = () => done(true); f.src = %q;
		document.body.append(f);
	})`, "http://3000-"+testID+".localhost"+h.port()+"/"))
	quietPage(t, p)
}
