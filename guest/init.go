package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/wire"
)

const (
	// maxInit bounds the body of an init request, in bytes.
	maxInit = 1 << 20
	// patienceCopy is how long the answer to a copy's init waits for new seeds in
	// running processes: some milliseconds for each that has any, where nothing
	// else wants the processor.
	patienceCopy = reseedRound + 50*time.Millisecond
	// clockTolerance is how far the clock may be from the host's.
	clockTolerance = 2 * time.Second
)

// takeSettings applies the host's settings for this copy of the snapshot. It lies in
// the path of every create, so files are written after the answer and clients'
// requests wait for them instead.
func (s *Server) takeSettings(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxInit))
	if err != nil {
		writeError(w, fmt.Errorf("read init: %w", err))
		return
	}
	in, err := parseInit(body)
	if err != nil {
		writeError(w, withStatus(http.StatusBadRequest, err))
		return
	}
	if err := s.apply(in, r.Header.Get(wire.ControlHeader)); err != nil {
		writeError(w, err)
		return
	}
	if in.Restored || in.Copy {
		s.connections.end(requestConnection(r))
	}
	if in.Copy {
		s.watchers.closeAll()
		select {
		case <-s.settings.get().settled:
		case <-time.After(patienceCopy):
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
}

// parseInit decodes and checks the body of an init request; an empty body asks
// for nothing.
func parseInit(body []byte) (*wire.Init, error) {
	in := new(wire.Init)
	if len(body) > 0 {
		if err := json.Unmarshal(body, in); err != nil {
			return nil, fmt.Errorf("decode init: %w", err)
		}
	}
	for key, value := range in.EnvVars {
		if !validEnv(key, value) {
			return nil, fmt.Errorf("environment variable %q: names may not be empty or hold '=' or NUL, values may not hold NUL", key)
		}
	}
	if in.Hostname != "" && !validHostname(in.Hostname) {
		return nil, fmt.Errorf("host name %q: use at most 63 letters, digits and '-'", in.Hostname)
	}
	if in.MachineID != "" && !validMachineID(in.MachineID) {
		return nil, errors.New("machine id: want 32 lower-case hexadecimal digits")
	}
	for _, server := range in.Nameservers {
		if net.ParseIP(server) == nil {
			return nil, fmt.Errorf("name server %q is not an IP address", server)
		}
	}
	if in.DefaultUser != "" && !validUserName(in.DefaultUser) {
		return nil, fmt.Errorf("default user %q is not a user name", in.DefaultUser)
	}
	if in.Timestamp != "" {
		if _, err := time.Parse(time.RFC3339, in.Timestamp); err != nil {
			return nil, fmt.Errorf("timestamp: %w", err)
		}
	}
	if in.Copy && in.ControlToken == "" {
		return nil, errors.New("a copy needs a control token of its own")
	}
	if in.DefaultWorkdir != "" && strings.ContainsRune(in.DefaultWorkdir, 0) {
		return nil, errors.New("default working directory holds a NUL byte")
	}
	return in, nil
}

// apply makes the settings current and leaves the slow part to a goroutine
// that ends on its own.
func (s *Server) apply(in *wire.Init, control string) error {
	s.settingsMu.Lock()
	defer s.settingsMu.Unlock()
	current := s.settings.get()
	if current.controlToken != "" && !sameSecret(control, current.controlToken) {
		return withStatus(http.StatusUnauthorized, errors.New("this route belongs to the host"))
	}
	if in.Copy && sameSecret(in.ControlToken, current.controlToken) {
		return withStatus(http.StatusBadRequest, errors.New("a copy needs another control token than the machine it was copied of"))
	}
	current.wait()
	next := current.clone()
	for key, value := range in.EnvVars {
		next.envs[key] = value
	}
	setIfGiven(&next.accessToken, in.AccessToken)
	if in.Copy {
		next.accessToken = in.AccessToken
	}
	setIfGiven(&next.controlToken, in.ControlToken)
	setIfGiven(&next.user, in.DefaultUser)
	setIfGiven(&next.workdir, in.DefaultWorkdir)
	if s.config.SystemSettings {
		if in.Hostname != "" {
			if err := unix.Sethostname([]byte(in.Hostname)); err != nil {
				return fmt.Errorf("set host name: %w", err)
			}
		}
		setIfGiven(&next.hostname, in.Hostname)
		if len(in.Nameservers) > 0 {
			next.nameservers = in.Nameservers
		}
	}
	slow := s.config.SystemSettings || in.Sprite != nil
	if slow {
		next.settled = make(chan struct{})
	}
	s.settings.current.Store(next)
	if slow {
		go s.settle(in, current, next)
	}
	return nil
}

// settle does what init asks for and its answer does not wait for. before is
// what held until then.
func (s *Server) settle(in *wire.Init, before, now *settingsCopy) {
	defer close(now.settled)
	if s.config.SystemSettings {
		s.writeSystemFiles(in, before)
	}
	if in.Sprite != nil {
		s.services.Begin(in.Sprite)
	}
	if in.Copy && s.config.SystemSettings {
		s.reseed()
	}
}

func setIfGiven(field *string, value string) {
	if value != "" {
		*field = value
	}
}

func validEnv(key, value string) bool {
	return key != "" && !strings.ContainsAny(key, "=\x00") && !strings.ContainsRune(value, 0)
}

func validHostname(name string) bool {
	if len(name) > 63 || name[0] == '-' {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

func validMachineID(id string) bool {
	return len(id) == 32 && strings.Trim(id, "0123456789abcdef") == ""
}
