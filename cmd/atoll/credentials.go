package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	credentialsName = "credentials.json"
	defaultDataHelp = "/var/lib/atoll or ~/.local/share/atoll"
)

// credentials is the file that the server leaves in its data directory for
// the commands of the same host. Its mode is 0600.
type credentials struct {
	APIKey     string `json:"apiKey"`
	AdminToken string `json:"adminToken"`
	APIURL     string `json:"apiURL"`
	SandboxURL string `json:"sandboxURL"`
	Domain     string `json:"domain,omitempty"`
}

// dataDir is the data directory that flags and environment ask for.
func (a *app) dataDir() string {
	if a.data != "" {
		return a.data
	}
	if d := a.env("ATOLL_DATA"); d != "" {
		return d
	}
	if os.Geteuid() == 0 {
		return "/var/lib/atoll"
	}
	return filepath.Join(a.env("HOME"), ".local", "share", "atoll")
}

// readCredentials reads the file of a data directory. Where there is none the
// error is fs.ErrNotExist.
func readCredentials(dir string) (credentials, error) {
	var c credentials
	path := filepath.Join(dir, credentialsName)
	b, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("read %s: %w", path, err)
	}
	if c.APIURL == "" || c.APIKey == "" {
		return c, fmt.Errorf("read %s: apiURL or apiKey is missing; restart \"atoll up\" to write it anew", path)
	}
	return c, nil
}

// writeCredentials replaces the file of a data directory in one step, so that
// a reader never sees half of it.
func writeCredentials(dir string, c credentials) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("encode credentials: %w", err)
	}
	path := filepath.Join(dir, credentialsName)
	tmp, err := os.CreateTemp(dir, credentialsName+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(b, '\n'))
	if err = errors.Join(err, tmp.Close()); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("write credentials: %w", err)
	}
	return nil
}

// noCredentials explains why the file of a data directory was of no use.
func noCredentials(dir string, err error) error {
	path := filepath.Join(dir, credentialsName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return (&failure{err: fmt.Errorf("found no Atoll to talk to: there is no %s", path), code: codeFailed}).
			hinted("start one with \"atoll up\", name its data directory with --data, or set E2B_API_URL and E2B_API_KEY")
	case errors.Is(err, fs.ErrPermission):
		return (&failure{err: fmt.Errorf("may not read %s", path), code: codeFailed}).
			hinted("run as the user that runs \"atoll up\", or set E2B_API_URL and E2B_API_KEY")
	}
	return err
}
