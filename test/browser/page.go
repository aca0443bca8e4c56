package browser

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience bounds what a browser may take for one step.
const patience = 30 * time.Second

// Page is a tab. What cannot be done with it ends the test.
type Page struct {
	t   testing.TB
	ctx context.Context

	mu         sync.Mutex
	complaints []string
}

func (p *Page) begin() error {
	return chromedp.Do(p.ctx, command(audits.Enable, cdp.Empty{}))
}

func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// listen keeps what a developer would see in red or yellow.
func (p *Page) listen(event any) {
	complaint := ""
	switch e := event.(type) {
	case *log.EventEntryAdded:
		// A status of 400 or more is said here as well, of the page itself too.
		if e.Entry.Source != log.EntrySourceNetwork && e.Entry.Level != log.EntryLevelVerbose && e.Entry.Level != log.EntryLevelInfo {
			complaint = fmt.Sprintf("%s: %s", e.Entry.Source, e.Entry.Text)
		}
	case *runtime.EventExceptionThrown:
		complaint = "exception: " + e.ExceptionDetails.Text
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			complaint = "console: " + string(e.Type)
		}
	case *audits.EventIssueAdded:
		if e.Issue.Code != audits.InspectorIssueCodePerformanceIssue { // such as that a test reads document.cookie
			complaint = "issue: " + string(e.Issue.Code)
		}
	}
	if complaint != "" {
		p.mu.Lock()
		p.complaints = append(p.complaints, complaint)
		p.mu.Unlock()
	}
}

// Complaints are the errors, warnings and issues of all pages that the tab has
// shown, violations of a policy among them.
func (p *Page) Complaints() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.complaints)
}

func (p *Page) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
}

// load waits for the page to which steps lead, and returns its status.
func (p *Page) load(what string, steps ...chromedp.Action[chromedp.Void]) int {
	p.t.Helper()
	status, err := p.try(steps...)
	if err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
	return status
}

func (p *Page) try(steps ...chromedp.Action[chromedp.Void]) (status int, err error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	res, err := chromedp.RunResponse(ctx, steps...)
	if err != nil {
		return 0, err
	}
	return int(res.Status), nil
}

// Open goes to an address as if it were typed, and returns the status. Chromium
// gives a page up when links of the host come or go, as they do while other tests
// run; then it goes there again.
func (p *Page) Open(address string) int {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		status, err := p.try(chromedp.Navigate(address))
		if err == nil {
			return status
		}
		if !strings.Contains(err.Error(), "ERR_NETWORK_CHANGED") || time.Now().After(deadline) {
			p.t.Fatalf("open %s: %v", address, err)
		}
	}
}

// Reload loads the page again, and returns the status.
func (p *Page) Reload() int {
	p.t.Helper()
	return p.load("reload", chromedp.Reload())
}

// Type presses keys where the focus is.
func (p *Page) Type(keys string) {
	p.t.Helper()
	p.do("type", chromedp.KeyEvent(keys))
}

// Enter presses keys when the focus is in a field, and then the one that sends
// a form. It returns the status of the page that this leads to.
func (p *Page) Enter(keys string) int {
	p.t.Helper()
	p.Await(`document.activeElement.localName === "input"`)
	return p.load("send a form", chromedp.KeyEvent(keys+"\r"))
}

// Follow runs a script that leads to another page, and returns its status.
func (p *Page) Follow(script string) int {
	p.t.Helper()
	return p.load(script, chromedp.Evaluate[chromedp.Void](script))
}

// Text is what an expression of JavaScript is, or what its promise comes to be.
func (p *Page) Text(expression string) string {
	p.t.Helper()
	return value[string](p, expression)
}

// Is reports whether an expression of JavaScript holds.
func (p *Page) Is(expression string) bool {
	p.t.Helper()
	return value[bool](p, expression)
}

// Await waits until an expression of JavaScript holds.
func (p *Page) Await(expression string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !p.Is(expression); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("waited in vain for %s", expression)
		}
	}
}

func value[T any](p *Page, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// Cookies are those that the browser would send to an address.
func (p *Page) Cookies(address string) (cookies []*network.Cookie) {
	p.t.Helper()
	p.do("read cookies", chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		res, err := cdp.Call(ctx, t, network.GetCookies, network.GetCookiesParams{URLs: []string{address}})
		if err == nil {
			cookies = res.Cookies
		}
		return err
	}))
	return cookies
}

// SetCookie gives the browser a cookie for an address.
func (p *Page) SetCookie(address, name, value string) {
	p.t.Helper()
	p.do("set a cookie", command(network.SetCookie, network.SetCookieParams{URL: address, Name: name, Value: value}))
}

// Screen makes the page as large as a phone's or a desk's screen.
func (p *Page) Screen(width, height int) {
	p.t.Helper()
	p.do("change the screen", chromedp.EmulateViewport(int64(width), int64(height)))
}

// Scheme asks for "light" or "dark" colours.
func (p *Page) Scheme(scheme string) {
	p.t.Helper()
	p.do("change the colours", command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	}))
}

// WithoutScripts runs no script of pages any more.
func (p *Page) WithoutScripts() {
	p.t.Helper()
	p.do("turn scripts off", command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
}

// Picture writes a picture of the page to a file.
func (p *Page) Picture(file string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(file, picture, 0o644)
	}
	if err != nil {
		p.t.Fatalf("take a picture: %v", err)
	}
}
