package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	keyPrefix   = "e2b_" // the SDKs refuse keys of another form
	adminPrefix = "atoll_admin_"
	secretHex   = 40 // hexadecimal digits after the prefix: 160 random bits

	adminKey = "token"
)

// digest is the SHA-256 of a secret, all that is kept of it. A slow password
// hash would add nothing: it makes guessing of guessable secrets dear, and
// nobody guesses 160 random bits at any speed.
type digest [sha256.Size]byte

// MarshalText encodes a digest for the store.
func (d digest) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d[:])), nil }

// UnmarshalText decodes what MarshalText encoded.
func (d *digest) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(d)) {
		return fmt.Errorf("hash of a secret has %d digits", len(text))
	}
	_, err := hex.Decode(d[:], text)
	return err
}

func sum(raw string) digest { return sha256.Sum256([]byte(raw)) }

// newSecret returns a prefix followed by random hexadecimal digits.
func newSecret(prefix string) string {
	var b [secretHex / 2]byte
	rand.Read(b[:]) // ends the program rather than fail
	return prefix + hex.EncodeToString(b[:])
}

// wellFormed sorts out what cannot be a secret of ours before it is hashed.
func wellFormed(raw, prefix string) bool {
	return len(raw) == len(prefix)+secretHex && strings.HasPrefix(raw, prefix)
}

func mask(raw, prefix string) Mask {
	value := raw[len(prefix):]
	return Mask{Prefix: prefix, Length: len(value), First: value[:2], Last: value[len(value)-4:]}
}

type adminRecord struct {
	Hash digest `json:"hash"`
}

// IsAdmin reports whether raw is the operator's admin token.
func (a *Accounts) IsAdmin(raw string) bool {
	if !wellFormed(raw, adminPrefix) {
		return false
	}
	hash := sum(raw)
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.admin != digest{} && subtle.ConstantTimeCompare(hash[:], a.admin[:]) == 1
}

// FirstSecrets are the secrets made by the first start. They are told once.
type FirstSecrets struct {
	APIKey     string // of the team "default"
	AdminToken string
}

// Bootstrap makes the team "default" with one API key, and the admin token, if
// this store has none yet, and reports whether it did. save is called with the
// secrets before they become valid: if the process dies in between, the next
// start makes new ones, and none is valid that was never saved.
func (a *Accounts) Bootstrap(ctx context.Context, save func(FirstSecrets) error) (bool, error) {
	a.writing.Lock()
	defer a.writing.Unlock()
	a.mu.RLock()
	done := a.admin != digest{}
	a.mu.RUnlock()
	if done {
		return false, nil
	}
	secrets := FirstSecrets{APIKey: newSecret(keyPrefix), AdminToken: newSecret(adminPrefix)}
	if err := save(secrets); err != nil {
		return false, fmt.Errorf("save the first API key: %w", err)
	}
	team, ok := a.defaultTeam()
	if !ok {
		var err error
		if team, err = a.addTeam(ctx, "default", true); err != nil {
			return false, err
		}
	}
	if _, err := a.addKey(ctx, team.ID, "default", secrets.APIKey); err != nil {
		return false, err
	}
	// Last, because it marks the first start as done.
	return true, a.saveAdmin(ctx, secrets.AdminToken)
}

// RotateAdminToken makes a new admin token; the old one is invalid at once.
func (a *Accounts) RotateAdminToken(ctx context.Context, save func(token string) error) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	token := newSecret(adminPrefix)
	if err := save(token); err != nil {
		return fmt.Errorf("save admin token: %w", err)
	}
	return a.saveAdmin(ctx, token)
}

func (a *Accounts) saveAdmin(ctx context.Context, token string) error {
	hash := sum(token)
	if _, err := a.adminB.Put(ctx, adminKey, adminRecord{Hash: hash}); err != nil {
		return fmt.Errorf("save admin token: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.admin = hash
	return nil
}

func (a *Accounts) defaultTeam() (Team, bool) {
	for _, t := range a.Teams() {
		if t.Default {
			return t, true
		}
	}
	return Team{}, false
}
