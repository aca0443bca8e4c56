package edge

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/machine"
)

// Visitors decides who may visit a sprite's URL.
type Visitors interface {
	// Public reports whether everybody may.
	Public(m machine.Machine) bool
	// Key returns the id of the API key that a token is; "" if it is none.
	Key(token string) string
	// Member reports whether whoever has the key with this id may.
	Member(m machine.Machine, key string) bool
}

const (
	// visitCookie holds, for one sprite, that its visitor has shown a token.
	visitCookie = "atoll_visit"
	// visitLasts is for how long; a key that is deleted ends it at once.
	visitLasts = 30 * 24 * time.Hour
	// visitPath is where the page on which people show their token sends it.
	visitPath = "/.atoll/visit"
	// maxVisitForm bounds what that page sends, in bytes.
	maxVisitForm = 32 << 10
	// maxToken bounds what is taken for a token.
	maxToken = 512
	// maxNext bounds the path to which a visitor is led; it may be three times
	// as long in the form.
	maxNext = 8 << 10
)

// visits tells who may visit sprites, and remembers people by a cookie.
type visits struct {
	Visitors
	key   []byte
	now   func() time.Time
	wrong *wrongTokens
}

func newVisits(v Visitors, key []byte) visits {
	if len(key) == 0 {
		key = make([]byte, 32)
		rand.Read(key) // ends the program rather than fail
	}
	return visits{Visitors: v, key: key, now: time.Now, wrong: &wrongTokens{now: time.Now}}
}

// admit reports whether the request may go to the sprite, and takes from it
// what showed that: it is not for the guest to see. A token of ours is taken
// from every request, for a public sprite has no business with it either.
func (v visits) admit(r *http.Request, m machine.Machine) bool {
	if v.Visitors == nil {
		return false
	}
	may := v.Public(m)
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") && len(token) <= maxToken {
		if key := v.Key(strings.TrimSpace(token)); key != "" {
			may = may || v.Member(m, key)
			r.Header.Del("Authorization")
		}
	}
	for _, value := range takeCookies(r, visitCookie) {
		// Another site's page may send the cookie along, but not speak for the visitor.
		may = may || sameOrigin(r) && v.remembers(m, value)
	}
	return may
}

// keyFor returns the id of the API key that a token is, if it opens the sprite.
func (v visits) keyFor(m machine.Machine, token string) string {
	if v.Visitors == nil || len(token) > maxToken {
		return ""
	}
	key := v.Key(token)
	if key == "" || !v.Member(m, key) {
		return ""
	}
	return key
}

// remember gives the visitor a cookie for this sprite's host alone.
func (v visits) remember(w http.ResponseWriter, r *http.Request, m machine.Machine, key string) {
	until := v.now().Add(visitLasts)
	text := key + "." + strconv.FormatInt(until.Unix(), 10)
	http.SetCookie(w, &http.Cookie{
		Name: visitCookie, Value: text + "." + v.sign(m, text), Path: "/", MaxAge: int(visitLasts.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: overTLS(r),
	})
}

// remembers reports whether a cookie's value is one that remember made for
// this sprite, whose key is still good for it.
func (v visits) remembers(m machine.Machine, value string) bool {
	i := strings.LastIndexByte(value, '.')
	if i < 0 || len(value) > maxToken {
		return false
	}
	text, signature := value[:i], value[i+1:]
	if subtle.ConstantTimeCompare([]byte(signature), []byte(v.sign(m, text))) != 1 {
		return false
	}
	key, seconds, _ := strings.Cut(text, ".")
	until, err := strconv.ParseInt(seconds, 10, 64)
	return err == nil && v.now().Unix() < until && v.Member(m, key)
}

func (v visits) sign(m machine.Machine, text string) string {
	mac := hmac.New(sha256.New, v.key)
	mac.Write([]byte("visit " + m.ID + " " + text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// takeCookies returns the values of a cookie and removes it from the request.
func takeCookies(r *http.Request, name string) (values []string) {
	cookies := r.Header["Cookie"]
	if !slices.ContainsFunc(cookies, func(line string) bool { return strings.Contains(line, name) }) {
		return nil
	}
	var kept []string
	for _, line := range cookies {
		var rest []string
		for part := range strings.SplitSeq(line, ";") {
			part = strings.TrimSpace(part)
			if n, value, _ := strings.Cut(part, "="); strings.TrimSpace(n) == name {
				values = append(values, strings.Trim(value, `"`))
			} else if part != "" {
				rest = append(rest, part)
			}
		}
		if len(rest) > 0 {
			kept = append(kept, strings.Join(rest, "; "))
		}
	}
	if r.Header.Del("Cookie"); len(kept) > 0 {
		r.Header["Cookie"] = kept
	}
	return values
}

// sameOrigin reports whether a request comes from a page of the host that it
// is for, or from no page, or is somebody's who follows a link to it. What
// another page shows in a frame is that page's request.
func sameOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		site := r.Header.Get("Sec-Fetch-Site")
		return site == "" || site == "same-origin" || site == "none" ||
			r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// overTLS reports whether the client speaks TLS, to us or to a proxy before us.
func overTLS(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// localPath is where on the same host a visitor wanted to go.
func localPath(s string) string {
	if len(s) > maxNext || !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") || strings.ContainsAny(s, "\\\r\n\t") {
		return "/"
	}
	return s
}
