// Package image turns references into root file systems: a Debian suite with
// packages, or an OCI image from a registry, a layout directory or an archive.
package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Errors to test for with errors.Is.
var (
	// ErrInvalid is returned for a reference or a specification that makes no sense.
	ErrInvalid = errors.New("invalid image")
	// ErrHostile is returned for an image that tries to reach outside its root.
	ErrHostile = errors.New("image refused")
	// ErrTooLarge is returned for an image beyond the limits.
	ErrTooLarge = errors.New("image too large")
)

// Progress tells how far a build is. Done and Total count units that take
// roughly the same time each.
type Progress struct {
	Step        string
	Done, Total int64
	// ETA is the time that is probably left; 0 while that cannot be told.
	ETA time.Duration
}

// recipeVersion changes whenever the steps of this package lead to other files.
const recipeVersion = 4

// Recipe is what determines the content of a built root file system.
type Recipe struct {
	Version  int      `json:"version"`
	Kind     string   `json:"kind"` // "debian", "base", "interpreter" or "sprite"
	Suite    string   `json:"suite"`
	Packages []string `json:"packages"`
	Files    string   `json:"files,omitempty"` // digest of what is put in beside packages
}

// Key identifies a recipe: a template built with another key is not current.
// It does not change with new versions of the packages.
func (r Recipe) Key() string {
	r.Packages = slices.Clone(r.Packages)
	slices.Sort(r.Packages)
	r.Packages = slices.Compact(r.Packages)
	text, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("image: recipe cannot be encoded: %v", err)) // strings and numbers can
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
