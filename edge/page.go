package edge

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
)

//go:embed page.css page.html problem.html visit.html
var pageFiles embed.FS

var (
	pageStyle, pageSafety = styleAndSafety()

	problemPage = pageOf("problem.html")
	visitPage   = pageOf("visit.html")
)

// styleAndSafety returns the style of every page, and the policy under which
// browsers show them: this style, and nothing else from anywhere.
func styleAndSafety() (template.CSS, string) {
	css, err := pageFiles.ReadFile("page.css")
	if err != nil {
		panic(err) // embedded
	}
	hash := sha256.Sum256(css)
	return template.CSS(css), "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) +
		"'; img-src data:; base-uri 'none'"
}

// pageOf is the page whose title and main part are defined in a file.
func pageOf(file string) *template.Template {
	t := template.New("page.html").Funcs(template.FuncMap{"style": func() template.CSS { return pageStyle }})
	return template.Must(t.ParseFS(pageFiles, "page.html", file))
}

// answerPage sends a page to a person. policy is what it adds to the policy of
// all pages.
func answerPage(w http.ResponseWriter, r *http.Request, status int, page *template.Template, data any, policy string) error {
	var body bytes.Buffer
	if err := page.Execute(&body, data); err != nil {
		return fmt.Errorf("write a page: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pageSafety+policy)
	// Without an origin a browser would send none with the form either.
	h.Set("Referrer-Policy", "same-origin")
	answerBody(w, r, status, body.Bytes())
	return nil
}

// answerBody sends what is said once and to nobody else.
func answerBody(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if h.Get("Retry-After") == "" && (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that is gone has no use for it
	}
}
