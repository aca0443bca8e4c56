package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/atoll-cloud/atoll/client"
)

// target finds the server that E2B's variables name.
func (a *app) target() (credentials, error) {
	t := credentials{SandboxURL: a.sandboxURL}
	// E2B_SANDBOX_URL belongs to E2B_API_URL, not to an address given by flag.
	if t.SandboxURL == "" && a.apiURL == "" {
		t.SandboxURL = a.env("E2B_SANDBOX_URL")
	}
	return a.find(t, "E2B_API_URL", "E2B_API_KEY")
}

// targetOf finds the server of clients with variables of their own, which go
// before E2B's. A pair of variables is not mixed with another.
func (a *app) targetOf(urlVar, keyVar string) (credentials, error) {
	if a.env(urlVar) == "" && a.env(keyVar) == "" {
		return a.target()
	}
	return a.find(credentials{}, urlVar, keyVar)
}

// find completes t: flags first, then the environment, then the credentials
// file. The file's secrets are never sent to another address than the file's.
func (a *app) find(t credentials, urlVar, keyVar string) (credentials, error) {
	t.APIURL = strings.TrimRight(first(a.apiURL, a.env(urlVar)), "/")
	t.APIKey = first(a.apiKey, a.env(keyVar))
	file, err := readCredentials(a.dataDir())
	if err != nil {
		if t.APIURL != "" && t.APIKey != "" {
			return t, nil
		}
		if t.APIURL != "" {
			return t, (&failure{err: fmt.Errorf("no API key for %s", t.APIURL), code: codeFailed}).
				hinted("set " + keyVar)
		}
		return t, noCredentials(a.dataDir(), err)
	}
	if t.APIURL != "" && t.APIURL != strings.TrimRight(file.APIURL, "/") {
		if t.APIKey == "" {
			return t, (&failure{err: fmt.Errorf("no API key for %s", t.APIURL), code: codeFailed}).
				hinted("set " + keyVar + "; the key in " + a.dataDir() + " belongs to " + file.APIURL)
		}
		return t, nil
	}
	if t.APIKey == "" {
		t.APIKey = file.APIKey
	}
	t.APIURL = file.APIURL
	t.SandboxURL = first(t.SandboxURL, file.SandboxURL)
	t.Domain = file.Domain
	return t, nil
}

// client connects to the server that target finds.
func (a *app) client() (*client.Client, error) {
	t, err := a.target()
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Config{
		APIURL: t.APIURL, SandboxURL: t.SandboxURL,
		APIKey:    t.APIKey,
		UserAgent: "atoll/" + version(),
	})
	if err != nil {
		return nil, usage("%v", err)
	}
	return c, nil
}

// find returns the sandbox with an id or with a unique beginning of one.
func find(ctx context.Context, c *client.Client, id string) (client.Sandbox, error) {
	if id == "" {
		return client.Sandbox{}, usage("the sandbox id is empty")
	}
	s, err := c.Get(ctx, id)
	if st := client.Status(err); err == nil || (st != http.StatusNotFound && st != http.StatusBadRequest) {
		return s, err
	}
	all, listErr := c.List(ctx, client.ListFilter{})
	if listErr != nil {
		return s, listErr
	}
	full, err := expand(id, all)
	if err != nil {
		return s, err
	}
	return c.Get(ctx, full)
}

// expand turns a unique beginning of an id into the whole id.
func expand(id string, all []client.Sandbox) (string, error) {
	var match []string
	for _, s := range all {
		if s.SandboxID == id {
			return id, nil
		}
		if strings.HasPrefix(s.SandboxID, id) {
			match = append(match, s.SandboxID)
		}
	}
	switch len(match) {
	case 0:
		return "", (&failure{err: fmt.Errorf("there is no sandbox %q", id), code: codeFailed}).
			hinted("\"atoll ls\" shows the sandboxes")
	case 1:
		return match[0], nil
	}
	return "", (&failure{err: fmt.Errorf("%d sandboxes begin with %q", len(match), id), code: codeFailed}).
		hinted("write more of the id: " + strings.Join(match[:min(len(match), 4)], ", "))
}

// guest finds a sandbox and returns the way into it, as a guest user (empty:
// the sandbox's default user).
func (a *app) guest(ctx context.Context, id, user string) (*client.Guest, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	s, err := find(ctx, c, id)
	if err != nil {
		return nil, err
	}
	if s.State == client.StatePaused && (s.Lifecycle == nil || !s.Lifecycle.AutoResume) {
		return nil, pausedError(s.SandboxID)
	}
	return c.Guest(s).As(user), nil
}

// findRunning connects and finds a sandbox for what needs one that runs.
func (a *app) findRunning(ctx context.Context, id string) (*client.Client, client.Sandbox, error) {
	c, err := a.client()
	if err != nil {
		return nil, client.Sandbox{}, err
	}
	s, err := find(ctx, c, id)
	if err == nil && s.State == client.StatePaused {
		err = pausedError(s.SandboxID)
	}
	return c, s, err
}

// whole is the whole id of a sandbox that may have ended: what the server keeps
// of those is found under nothing less.
func whole(ctx context.Context, c *client.Client, id string) (string, error) {
	s, err := find(ctx, c, id)
	if err == nil {
		return s.SandboxID, nil
	}
	if !client.IsNotFound(err) && len(id) < 16 {
		return "", err
	}
	return id, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// pairs reads K=V flags. A K alone takes its value from the environment where
// env is given, as docker run -e does.
func pairs(flag string, in []string, env func(string) string) (map[string]string, error) {
	if len(in) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(in))
	for _, s := range in {
		k, v, ok := strings.Cut(s, "=")
		if !ok && env != nil {
			v, ok = env(k), true
		}
		if !ok || k == "" {
			return nil, usage("%s %q must look like KEY=VALUE", flag, s)
		}
		m[k] = v
	}
	return m, nil
}

var errNoCommand = errors.New("say what to run, after --")
