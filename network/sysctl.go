package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// writeSysctl sets "ipv4/ip_forward=0" and the like below /proc/sys/net in the
// calling thread's namespace. IPv6 settings are passed over where the kernel
// has no IPv6, since there is nothing to close then.
func writeSysctl(setting string) error {
	name, value, _ := strings.Cut(setting, "=")
	err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(name, "ipv6/") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("setting net/%s to %s: %w", name, value, err)
	}
	return nil
}

// readSysctl reads a setting below /proc/sys/net; "" if there is none.
func readSysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/net/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
