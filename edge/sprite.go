package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/observe"
	"github.com/atoll-cloud/atoll/wire"
)

const (
	// spritePort stands for the port that the sprite itself names.
	spritePort = -1
	// portLasts is how long the port that a sprite named is not asked for again.
	portLasts = 2 * time.Second
	// portWithin bounds how long a sprite may take to name it: it starts the
	// service that holds the port, and waits until that listens.
	portWithin = 30 * time.Second
)

// spriteAt returns the sprite that a host name is the URL of.
func (e *Edge) spriteAt(host string) (machine.Machine, bool) {
	label, ok := spriteLabel(host, e.domain)
	if !ok {
		return machine.Machine{}, false
	}
	m, err := e.engine.AtHost(label)
	return m, err == nil
}

// spriteLabel reads <label>.<domain> or <label>.localhost with an optional
// port of the server's own behind it.
func spriteLabel(host, domain string) (label string, ok bool) {
	if len(host) > 261 {
		return "", false
	}
	label, rest, found := strings.Cut(strings.ToLower(withoutPort(host)), ".")
	rest = strings.TrimSuffix(rest, ".")
	if !found || label == "" || rest != "localhost" && (domain == "" || rest != strings.ToLower(withoutPort(domain))) {
		return "", false
	}
	return label, true
}

func withoutPort(host string) string {
	if name, port, found := strings.Cut(host, ":"); found && allDigits(port) {
		return name
	}
	return host
}

// isStray reports whether a person looks for a sprite where none is.
func (e *Edge) isStray(r *http.Request) bool {
	label, ok := spriteLabel(r.Host, e.domain)
	return ok && !wire.ReservedLabel(label) && wantsPage(r)
}

// serveSprite carries a request for a sprite's URL to the port that the sprite
// names, if its visitor may go there.
func (e *Edge) serveSprite(w http.ResponseWriter, r *http.Request, m machine.Machine) {
	observe.SetRoute(r.Context(), "edge", "sprite")
	observe.HidePath(r.Context())
	observe.SetMachine(r.Context(), m.ID)
	t := target{id: m.ID, port: spritePort}
	if r.Method == http.MethodConnect {
		answerSprite(w, r, problemMethod(t))
		return
	}
	if p := refuseState(t, m.State); p != nil {
		answerSprite(w, r, p)
		return
	}
	if r.URL.Path == visitPath && r.Method == http.MethodPost {
		e.enterVisitor(w, r, m)
		return
	}
	if !e.visits.admit(r, m) {
		if wantsPage(r) {
			answerVisitPage(w, r, m, http.StatusUnauthorized, r.URL.RequestURI(), "")
			return
		}
		w.Header().Set("Www-Authenticate", "Bearer")
		answerSprite(w, r, problemVisitor(t))
		return
	}
	e.forward(w, r, &route{target: t, token: m.ControlToken, answer: answerSprite}, m.State.Asleep())
}

// enterVisitor takes the token of somebody who wants to visit.
func (e *Edge) enterVisitor(w http.ResponseWriter, r *http.Request, m machine.Machine) {
	r.Body = http.MaxBytesReader(w, r.Body, maxVisitForm)
	next := localPath(r.PostFormValue("next"))
	if !e.visits.wrong.mayTry(r) {
		w.Header().Set("Retry-After", strconv.Itoa(int(wrongEvery.Seconds())))
		answerVisitPage(w, r, m, http.StatusTooManyRequests, next, "Too many wrong keys came from your address. Wait a minute and try again.")
		return
	}
	if !sameOrigin(r) {
		answerVisitPage(w, r, m, http.StatusForbidden, next, "The key came from a page of another site, and was not looked at.")
		return
	}
	key := e.visits.keyFor(m, strings.TrimSpace(r.PostFormValue("token")))
	if key == "" {
		e.visits.wrong.count(r)
		answerVisitPage(w, r, m, http.StatusUnauthorized, next, "This key does not open this sprite. It must be an API key of the team that the sprite belongs to.")
		return
	}
	e.visits.remember(w, r, m, key)
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// answerVisitPage asks a person for a token, and says what was wrong with the
// one before. It does not bound where its form may lead (form-action): Chromium
// holds the pages to it that follow, and the sprite's own may lead elsewhere.
func answerVisitPage(w http.ResponseWriter, r *http.Request, m machine.Machine, status int, next, wrong string) {
	words := map[string]string{"Name": m.Name, "Action": visitPath, "Next": next, "Wrong": wrong}
	if err := answerPage(w, r, status, visitPage, words, "; frame-ancestors 'none'"); err != nil {
		http.Error(w, "this sprite is private", status)
	}
}

// answerSprite is answerProblem in the words of sprites.
func answerSprite(w http.ResponseWriter, r *http.Request, p *problem) {
	q := *p
	q.SandboxID, q.Port = "", max(p.Port, 0)
	q.Message, q.Title, q.Steps = spriteWords(p.Message), spriteWords(p.Title), nil
	for _, step := range p.Steps {
		q.Steps = append(q.Steps, spriteWords(step))
	}
	answerProblem(w, r, &q)
}

var spriteWords = strings.NewReplacer(
	"Check that the server uses the port in this page's address.",
	"Requests go to the service that has an HTTP port, or else to port 8080.",
	"sandbox", "sprite", "Sandbox", "Sprite").Replace

func problemVisitor(t target) *problem {
	return &problem{
		SandboxID: t.id, Code: http.StatusUnauthorized,
		Message: "This sprite is private: send an API key of its team as a bearer token in the header Authorization",
		Title:   "This sprite is private",
		Steps:   []string{"Its URL opens for the team that it belongs to."},
	}
}

func problemNoSprite() *problem {
	return &problem{
		Code:    http.StatusNotFound,
		Message: "There is no sprite at this address",
		Title:   "There is no sprite at this address",
		Steps:   []string{"It was destroyed, or there never was one of this name: check the address."},
	}
}

// spritePort asks the sprite which port its URL goes to. The answer is kept
// for a moment, for as long as the sprite is awake.
func (u *upstream) spritePort(ctx context.Context, token string) (int, error) {
	if known := u.port.Load(); known != nil && time.Since(known.at) < portLasts {
		return known.port, nil
	}
	ctx, cancel := context.WithTimeout(ctx, portWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://guest:"+strconv.Itoa(wire.GuestPort)+wire.SpriteURLPortPath, nil)
	if err != nil {
		return 0, fmt.Errorf("ask for the port of a URL: %w", err)
	}
	r.Header.Set(wire.ControlHeader, token)
	res, err := u.daemon.RoundTrip(r)
	if err != nil {
		return 0, fmt.Errorf("%w: ask for the port of a URL: %w", machine.ErrUnavailable, err)
	}
	defer res.Body.Close()
	var answer wire.URLPort
	body, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	if err == nil && res.StatusCode == http.StatusOK {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil || res.StatusCode != http.StatusOK || answer.Port < 1 || answer.Port > 65535 || answer.Port == wire.GuestPort {
		return 0, fmt.Errorf("%w: the sprite did not say which port its URL goes to (status %d, %v)", machine.ErrUnavailable, res.StatusCode, err)
	}
	u.port.Store(&knownPort{port: answer.Port, at: time.Now()})
	return answer.Port, nil
}

// knownPort is where a sprite's URL goes.
type knownPort struct {
	port int
	at   time.Time
}

// forgetPort has the next request ask for the port again.
func (u *upstream) forgetPort() { u.port.Store(nil) }
