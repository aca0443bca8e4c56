package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
)

// state is what a later process must know to take over. It lives beside the
// mounted namespaces and dies with them at a reboot, as the links do.
type state struct {
	Range netip.Prefix `json:"range"`
	// Forwarding are the interfaces on which this instance turned packet
	// forwarding on, and must turn it off in the end.
	Forwarding []string `json:"forwarding,omitempty"`
}

func readState(path string) (state, error) {
	var s state
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("reading the network's state: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return state{}, fmt.Errorf("reading the network's state in %s: %w", path, err)
	}
	return s, nil
}

func (s state) write(path string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encoding the network's state: %w", err)
	}
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("writing the network's state: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("replacing the network's state: %w", err)
	}
	return nil
}
