// Package client speaks to a running Atoll: to its E2B-compatible control API
// and, through the edge, to the daemon inside each sandbox. The command line
// and the tests are written on top of it.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxBody bounds what is read of one JSON answer.
const maxBody = 64 << 20

// Config says where an Atoll is and who is asking.
type Config struct {
	// APIURL is the base address of the control API, such as http://127.0.0.1:3000.
	APIURL string
	// SandboxURL is the base address of the edge; empty means APIURL, because
	// Atoll serves both on one port.
	SandboxURL string
	// APIKey is a team's key, sent as X-API-Key.
	APIKey string
	// AdminToken is the operator's, sent as X-Admin-Token where there is no APIKey.
	AdminToken string
	// UserAgent is sent on every request; empty means "atoll-client".
	UserAgent string
	// HTTP is the client used for all requests; nil makes one of our own.
	HTTP *http.Client
}

// Client is safe for use by many goroutines at once.
type Client struct {
	cfg     Config
	api     *url.URL
	sandbox *url.URL
	http    *http.Client
}

// New checks cfg and returns a client. It does not connect.
func New(cfg Config) (*Client, error) {
	api, err := baseURL(cfg.APIURL)
	if err != nil {
		return nil, fmt.Errorf("read API address: %w", err)
	}
	sandbox := api
	if cfg.SandboxURL != "" {
		if sandbox, err = baseURL(cfg.SandboxURL); err != nil {
			return nil, fmt.Errorf("read sandbox address: %w", err)
		}
	}
	if strings.ContainsAny(cfg.APIKey+cfg.AdminToken, "\r\n") {
		return nil, errors.New("the API key contains a line break")
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "atoll-client"
	}
	c := &Client{cfg: cfg, api: api, sandbox: sandbox, http: cfg.HTTP}
	if c.http == nil {
		c.http = &http.Client{Transport: newTransport()}
	}
	return c, nil
}

// newTransport returns a transport for both short calls and streams that stay
// open for hours, so it bounds only how long connecting may take.
func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64
	t.IdleConnTimeout = 90 * time.Second
	// Answers are passed on as they come; unpacking is for whoever asked for it.
	t.DisableCompression = true
	return t
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// APIURL is the base address in use, without a trailing slash.
func (c *Client) APIURL() string { return c.api.String() }

// SandboxURL is the edge's base address in use, without a trailing slash.
func (c *Client) SandboxURL() string { return c.sandbox.String() }

func baseURL(s string) (*url.URL, error) {
	if s == "" {
		return nil, errors.New("it is empty")
	}
	u, err := url.Parse(strings.TrimRight(s, "/"))
	if err != nil {
		return nil, err
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("%q must look like http://host:port", s)
	}
	return u, nil
}

// call is one request to the control API.
type call struct {
	method string
	path   []string // segments, not yet escaped
	query  url.Values
	in     any       // sent as JSON unless nil
	body   io.Reader // sent as it is, where in is nil
	out    any       // filled from JSON unless nil
	// sprites asks the Sprites door, which takes the key as a bearer token.
	sprites bool
	accept  string // media type asked for; empty: any
}

// answer is what is told beside the body of a success.
type answer struct {
	status int
	header http.Header
}

// do sends a call and returns what the answer says beside its body. Answers
// outside 2xx become an *Error.
func (c *Client) do(ctx context.Context, k call) (answer, error) {
	res, err := c.open(ctx, k)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	told := answer{status: res.StatusCode, header: res.Header}
	if k.out == nil {
		return told, nil
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxBody)).Decode(k.out); err != nil {
		return told, fmt.Errorf("read answer of %s /%s: %w", k.method, strings.Join(k.path, "/"), err)
	}
	return told, nil
}

// fetch sends a call and returns what it is answered with.
func fetch[T any](ctx context.Context, c *Client, k call) (T, error) {
	var out T
	k.out = &out
	_, err := c.do(ctx, k)
	return out, err
}

// open sends a call and returns the answer, whose body the caller closes.
// Answers outside 2xx become an *Error.
func (c *Client) open(ctx context.Context, k call) (*http.Response, error) {
	body, contentType := k.body, "application/octet-stream"
	if k.in != nil {
		b, err := json.Marshal(k.in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body, contentType = bytes.NewReader(b), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, k.method, c.address(k), body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	c.identify(req.Header, k)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(c.api, err)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		defer res.Body.Close()
		return nil, readError(res)
	}
	return res, nil
}

// address is where a call goes.
func (c *Client) address(k call) string {
	u := *c.api
	u.RawPath, u.Path = joinPath(c.api.EscapedPath(), k.path), c.api.Path+"/"+strings.Join(k.path, "/")
	u.RawQuery = k.query.Encode()
	return u.String()
}

// identify says who is asking.
func (c *Client) identify(h http.Header, k call) {
	h.Set("User-Agent", c.cfg.UserAgent)
	if k.accept != "" {
		h.Set("Accept", k.accept)
	}
	switch {
	case c.cfg.APIKey != "" && k.sprites:
		h.Set("Authorization", "Bearer "+c.cfg.APIKey)
	case c.cfg.APIKey != "":
		h.Set("X-API-Key", c.cfg.APIKey)
	case c.cfg.AdminToken != "":
		h.Set("X-Admin-Token", c.cfg.AdminToken)
	}
}

// pages gets a listing page by page. The query must not be used afterwards.
func pages[T any](ctx context.Context, c *Client, path []string, q url.Values) ([]T, error) {
	q.Set("limit", "100")
	var all []T
	for {
		var page []T
		a, err := c.do(ctx, call{method: http.MethodGet, path: path, query: q, out: &page})
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		next := a.header.Get("X-Next-Token")
		if next == "" {
			return all, nil
		}
		if next == q.Get("nextToken") {
			return nil, fmt.Errorf("list %s: the server repeats page %q", path[len(path)-1], next)
		}
		q.Set("nextToken", next)
	}
}

func joinPath(base string, segments []string) string {
	var b strings.Builder
	b.WriteString(base)
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// Health returns nil when the server answers that it is well.
func (c *Client) Health(ctx context.Context) error {
	_, err := c.do(ctx, call{method: http.MethodGet, path: []string{"health"}})
	return err
}
