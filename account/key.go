package account

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// Key is an API key as it is kept: without its value.
type Key struct {
	ID        string    `json:"id"` // UUID
	Team      string    `json:"team"`
	Name      string    `json:"name"`
	Hash      digest    `json:"hash"`
	Mask      Mask      `json:"mask"`
	CreatedAt time.Time `json:"createdAt"`
	LastUsed  time.Time `json:"lastUsed"` // zero: never; exact to a minute
}

// Mask is what may be shown of a secret so that people recognise it.
type Mask struct {
	Prefix string `json:"prefix"`
	Length int    `json:"length"` // of what follows the prefix
	First  string `json:"first"`
	Last   string `json:"last"`
}

// key is a Key with the time of its last use, which requests write to without
// a lock.
type key struct {
	Key
	used atomic.Int64 // Unix nanoseconds; 0: not since the start
}

// copy returns what may be handed out; mu is held.
func (k *key) copy() Key {
	c := k.Key
	if n := k.used.Load(); n != 0 {
		c.LastUsed = time.Unix(0, n).UTC()
	}
	return c
}

// Identity is who sent a request.
type Identity struct {
	Team  Team
	KeyID string
}

// Authenticate finds the team that an API key belongs to.
//
// The lookup is by the key's SHA-256. What the time of a map lookup tells is
// about the hash, and nobody can choose a key to have a given hash, so nothing
// can be learnt from it.
func (a *Accounts) Authenticate(raw string) (Identity, bool) {
	if !wellFormed(raw, keyPrefix) {
		return Identity{}, false
	}
	hash := sum(raw)
	a.mu.RLock()
	k, ok := a.byHash[hash]
	if !ok {
		a.mu.RUnlock()
		return Identity{}, false
	}
	team, ok := a.teams[k.Team]
	a.mu.RUnlock()
	if !ok {
		return Identity{}, false
	}
	k.used.Store(a.now().UnixNano())
	return Identity{Team: team, KeyID: k.ID}, true
}

// CreateKey makes an API key for a team and returns its value, which cannot be
// had again.
func (a *Accounts) CreateKey(ctx context.Context, team, name string) (Key, string, error) {
	name, err := checkName(name)
	if err != nil {
		return Key{}, "", err
	}
	a.writing.Lock()
	defer a.writing.Unlock()
	if _, err := a.Team(team); err != nil {
		return Key{}, "", err
	}
	raw := newSecret(keyPrefix)
	k, err := a.addKey(ctx, team, name, raw)
	return k, raw, err
}

// Keys returns the API keys of a team, oldest first.
func (a *Accounts) Keys(team string) []Key {
	a.mu.RLock()
	defer a.mu.RUnlock()
	var list []Key
	for _, k := range a.keys {
		if k.Team == team {
			list = append(list, k.copy())
		}
	}
	slices.SortFunc(list, func(x, y Key) int {
		if c := x.CreatedAt.Compare(y.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(x.ID, y.ID)
	})
	return list
}

// HasKey reports whether a team has the API key with this id.
func (a *Accounts) HasKey(team, id string) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	k, ok := a.keys[id]
	return ok && k.Team == team
}

// RenameKey gives a team's key another name.
func (a *Accounts) RenameKey(ctx context.Context, team, id, name string) (Key, error) {
	name, err := checkName(name)
	if err != nil {
		return Key{}, err
	}
	a.writing.Lock()
	defer a.writing.Unlock()
	k, err := a.find(team, id)
	if err != nil {
		return Key{}, err
	}
	a.mu.RLock()
	rec := k.copy()
	a.mu.RUnlock()
	rec.Name = name
	if _, err := a.keysB.Put(ctx, rec.ID, rec); err != nil {
		return Key{}, fmt.Errorf("rename API key: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	k.Key = rec
	return rec, nil
}

// DeleteKey makes a team's key invalid at once.
func (a *Accounts) DeleteKey(ctx context.Context, team, id string) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	k, err := a.find(team, id)
	if err != nil {
		return err
	}
	if err := a.keysB.Delete(ctx, id); err != nil {
		return fmt.Errorf("delete API key: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.keys, id)
	delete(a.byHash, k.Hash)
	return nil
}

// find returns a team's key; writing is held.
func (a *Accounts) find(team, id string) (*key, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	k, ok := a.keys[id]
	if !ok || k.Team != team {
		return nil, fmt.Errorf("API key %q: %w", clip(id), ErrNotFound)
	}
	return k, nil
}

// addKey stores a key with a given value; writing is held.
func (a *Accounts) addKey(ctx context.Context, team, name, raw string) (Key, error) {
	k := &key{Key: Key{
		ID: uuid.NewString(), Team: team, Name: name,
		Hash: sum(raw), Mask: mask(raw, keyPrefix), CreatedAt: a.now().UTC(),
	}}
	if _, err := a.keysB.Put(ctx, k.ID, k.Key); err != nil {
		return Key{}, fmt.Errorf("save API key: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys[k.ID], a.byHash[k.Hash] = k, k
	return k.Key, nil
}

// writeUses writes down, once in a while and outside of any request, when keys
// were last used.
func (a *Accounts) writeUses(ctx context.Context) {
	defer close(a.done)
	tick := time.NewTicker(useInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.flushUses(ctx)
		case <-ctx.Done():
			final, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			a.flushUses(final)
			return
		}
	}
}

func (a *Accounts) flushUses(ctx context.Context) {
	a.writing.Lock()
	defer a.writing.Unlock()
	var changed []Key
	a.mu.RLock()
	for _, k := range a.keys {
		if c := k.copy(); c.LastUsed.After(k.LastUsed) {
			changed = append(changed, c)
		}
	}
	a.mu.RUnlock()
	for _, c := range changed {
		if _, err := a.keysB.Put(ctx, c.ID, c); err != nil {
			a.logger.Warn("cannot write down when an API key was last used", "key", c.ID, "error", err)
			return
		}
		a.mu.Lock()
		if k, ok := a.keys[c.ID]; ok {
			k.LastUsed = c.LastUsed
		}
		a.mu.Unlock()
	}
}
