package store

import (
	"fmt"
	"regexp"
	"strings"
)

const maxKey = 256

// A key is made of tokens joined by dots; log filters may use "*" for one
// token and a last ">" for all that follow.
var (
	nameRule   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	keyRule    = regexp.MustCompile(`^[A-Za-z0-9_=-]+(\.[A-Za-z0-9_=-]+)*$`)
	filterRule = regexp.MustCompile(`^(([A-Za-z0-9_=-]+|\*)\.)*([A-Za-z0-9_=-]+|\*|>)$`)
)

func checkName(name string) error {
	if !nameRule.MatchString(name) {
		return fmt.Errorf("%w: name %q must be 1 to 64 letters, digits, '_' or '-'", ErrInvalid, name)
	}
	return nil
}

func checkKey(key string) error {
	if len(key) > maxKey || !keyRule.MatchString(key) {
		return fmt.Errorf("%w: key %q must be 1 to %d letters, digits, '_', '-' or '=', in parts joined by single dots",
			ErrInvalid, clip(key), maxKey)
	}
	return nil
}

func checkFilter(filter string) error {
	if filter == "" {
		return nil
	}
	if len(filter) > maxKey || !filterRule.MatchString(filter) {
		return fmt.Errorf("%w: filter %q", ErrInvalid, clip(filter))
	}
	return nil
}

// clip keeps hostile input from filling logs and error messages.
func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
