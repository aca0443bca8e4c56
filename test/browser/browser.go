// Package browser drives a real browser without a window, for tests of what
// people see and of what browsers alone do: cookies, origins, policies.
package browser

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"testing"

	"github.com/chromedp/chromedp"
)

// names are what a browser is called, the smallest first.
var names = []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"}

// Browser is a running browser.
type Browser struct {
	ctx context.Context // chromedp keeps the browser in it
}

// Start starts a browser, which ends with the test. It knows no network but
// names under localhost, which are this host, as in every browser.
func Start(t testing.TB) *Browser {
	t.Helper()
	program, err := find()
	if err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], // without the sandbox for root, where it cannot be had
		chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost"))
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(end)
	quiet := func(string, ...any) {} // of what it does not know in a newer browser's protocol
	ctx, end := chromedp.NewContext(allocator, chromedp.WithLogf(quiet), chromedp.WithErrorf(quiet))
	t.Cleanup(end)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	return &Browser{ctx}
}

func find() (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no browser here: .ci/needs test installs one")
}

// Person opens a tab in a profile of its own: nothing is known of who uses it.
// The tab is closed with the test.
func (b *Browser) Person(t testing.TB) *Page {
	t.Helper()
	p := &Page{t: t}
	ctx, end := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.listen))
	t.Cleanup(end)
	p.ctx = ctx
	if err := p.begin(); err != nil {
		t.Fatal(fmt.Errorf("open a tab: %w", err))
	}
	return p
}
