package test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/atoll-cloud/atoll/test/browser"
)

// site is a page, a WebSocket that says all again, and three events, in
// Python's standard library alone.
const site = `cat > site.py <<'P'
import base64, hashlib, html, http.server
class Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/ws":
            return self.socket()
        kind, body = "text/html", "<!doctype html><html lang=en><title>site</title><link rel=icon href=data:,><p id=site>" + html.escape(self.path)
        if self.path == "/events":
            kind, body = "text/event-stream", "data: 0\n\ndata: 1\n\ndata: 2\n\n"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
    def socket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        head = self.rfile.read(6)  # a short text, masked
        said = bytes(b ^ head[2 + i % 4] for i, b in enumerate(self.rfile.read(head[1] & 127)))
        self.wfile.write(bytes([0x81, len(said)]) + said)
        self.close_connection = True
http.server.ThreadingHTTPServer(("", 8080), Site).serve_forever()
P
setsid python3 site.py >/dev/null 2>&1 &`

// TestBrowserVisitsASprite does with the whole what edge's tests do with each
// part: a browser, a server, a sprite that sleeps.
func TestBrowserVisitsASprite(t *testing.T) {
	s := upSprites(t, "--sprite-freeze", "500ms", "--sprite-store", "500ms")
	sprite := s.newSprite("seen")
	s.inSprite("seen", site)
	until(t, "the URL", func() bool { status, _ := s.visit(sprite); return status == 200 })
	p := browser.Start(t).Person(t)
	u, err := url.Parse(sprite.URL)
	if err != nil {
		t.Fatal(err)
	}
	asked := u.Scheme + "://" + u.Host + "/a%2Fb?q=a%20b&x=%3C1%3E"

	if status := p.Open(asked); status != 401 || p.Text("document.title") != "seen is private" {
		t.Fatalf("the private page: %d", status)
	}
	if status := p.Enter("e2b_" + strings.Repeat("0", 40)); status != 401 || !p.Is(`!!document.querySelector("input ~ [role=alert]")`) {
		t.Fatalf("a wrong key: %d", status)
	}
	s.awaitStatus("seen", "cold")
	if status := p.Enter(s.APIKey); status != 200 || p.Text("location.href") != asked {
		t.Fatalf("the right key led to %s: %d", p.Text("location.href"), status)
	}
	if got := p.Text(`document.querySelector("#site").textContent`); got != "/a%2Fb?q=a%20b&x=%3C1%3E" {
		t.Errorf("the sprite was asked for %s", got)
	}
	if got := p.Text(`new Promise((done) => {
		const s = new WebSocket("ws://" + location.host + "/ws");
		s.onopen = () => s.send("hello");
		s.onmessage = (e) => done(e.data);
		s.onerror = () => done("refused");
	})`); got != "hello" {
		t.Errorf("the WebSocket said %q", got)
	}
	if got := p.Text(`new Promise((done) => {
		const s = new EventSource("/events"), got = [];
		s.onmessage = (e) => { got.push(e.data); if (got.length === 3) { s.close(); done(got.join()); } };
		s.onerror = () => { s.close(); done("refused"); };
	})`); got != "0,1,2" {
		t.Errorf("the events were %s", got)
	}
	s.awaitStatus("seen", "cold")
	if status := p.Reload(); status != 200 || p.Text("document.title") != "site" {
		t.Errorf("a reload of a cold sprite: %d", status)
	}
	if c := p.Complaints(); len(c) > 0 {
		t.Errorf("the browser complains: %q", c)
	}
}
