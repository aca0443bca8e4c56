package guest

import (
	"maps"
	"sync/atomic"
)

// settings holds what init may change. Readers take an immutable copy without
// a lock; init is the only writer and serializes itself.
type settings struct {
	current atomic.Pointer[settingsCopy]
}

// settingsCopy is one immutable state of the settings.
type settingsCopy struct {
	envs         map[string]string
	accessToken  string
	controlToken string
	user         string
	workdir      string
	// hostname and nameservers are those that init gave last.
	hostname    string
	nameservers []string
	// settled is closed when the files that init writes are on disk.
	settled chan struct{}
}

func newSettings(user string) *settings {
	settled := make(chan struct{})
	close(settled)
	s := new(settings)
	s.current.Store(&settingsCopy{envs: map[string]string{}, user: user, settled: settled})
	return s
}

func (s *settings) get() *settingsCopy { return s.current.Load() }

// wait blocks until the last init has written its files.
func (c *settingsCopy) wait() { <-c.settled }

func (c *settingsCopy) clone() *settingsCopy {
	next := *c
	next.envs = maps.Clone(c.envs)
	return &next
}
