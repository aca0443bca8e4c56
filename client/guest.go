package client

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"

	"connectrpc.com/connect"

	"github.com/atoll-cloud/atoll/wire"
	"github.com/atoll-cloud/atoll/wire/filesystem/filesystemconnect"
	"github.com/atoll-cloud/atoll/wire/process/processconnect"
)

// keepalive is how often, in seconds, the guest daemon is asked to send a sign
// of life on a quiet stream, so that nothing in between closes it.
const keepalive = "50"

// Guest is the way to the daemon inside one sandbox. It is safe for use by
// many goroutines at once.
type Guest struct {
	id      string
	user    string
	token   string
	traffic string // what ports ask for whose traffic is restricted
	base    *url.URL
	via     *http.Client // without the guest's headers
	http    *http.Client // with them, to the daemon
	kernel  *http.Client // with them, to the code interpreter
	proc    processconnect.ProcessClient
	fs      filesystemconnect.FilesystemClient
}

// Guest returns the way into a sandbox as its default user. A secure sandbox
// must come from Create or Get, which know its access token.
func (c *Client) Guest(s Sandbox) *Guest {
	return newGuest(Guest{id: s.SandboxID, token: s.EnvdAccessToken, traffic: s.TrafficAccessToken, base: c.sandbox, via: c.http})
}

// As returns the same guest seen as another user of it; empty means the
// sandbox's default user.
func (g *Guest) As(user string) *Guest {
	n := *g
	n.user = user
	return newGuest(n)
}

func newGuest(g Guest) *Guest {
	base := g.via.Transport
	if base == nil {
		base = http.DefaultTransport
	}
	g.http = &http.Client{Transport: &guestTransport{base: base, headers: g.headers(wire.GuestPort)}}
	g.kernel = &http.Client{Transport: &guestTransport{base: base, headers: g.headers(wire.KernelPort)}}
	opts := []connect.ClientOption{
		// Output is often packed already, and packing costs more time than it
		// saves between neighbours.
		connect.WithAcceptCompression("gzip", nil, nil),
	}
	g.proc = processconnect.NewProcessClient(g.http, g.base.String(), opts...)
	g.fs = filesystemconnect.NewFilesystemClient(g.http, g.base.String(), opts...)
	return &g
}

// ID is the sandbox's id.
func (g *Guest) ID() string { return g.id }

// headers are what goes with every request to a port of the guest.
func (g *Guest) headers(port int) http.Header {
	h := http.Header{}
	h.Set("E2b-Sandbox-Id", g.id)
	h.Set("E2b-Sandbox-Port", strconv.Itoa(port))
	if g.token != "" {
		h.Set(wire.AccessTokenHeader, g.token)
	}
	if g.traffic != "" && port != wire.GuestPort {
		h.Set("E2b-Traffic-Access-Token", g.traffic)
	}
	if g.user != "" && port == wire.GuestPort {
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(g.user+":")))
	}
	return h
}

// guestTransport adds to every request what names the sandbox and its user.
type guestTransport struct {
	base    http.RoundTripper
	headers http.Header
}

func (t *guestTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	for k, v := range t.headers {
		req.Header[k] = v
	}
	res, err := t.base.RoundTrip(req)
	if err == nil && res.StatusCode == http.StatusBadGateway {
		// The edge's own answer: there is no such guest, or it is not listening.
		defer res.Body.Close()
		return nil, readError(res)
	}
	return res, err
}

// Health returns nil when the guest daemon answers.
func (g *Guest) Health(ctx context.Context) error {
	res, err := g.send(ctx, http.MethodGet, "/health", nil, nil, nil)
	if err != nil {
		return err
	}
	return res.Body.Close()
}
