// Package account knows who may use this Atoll: teams, their API keys and
// limits, and the operator's admin token.
//
// Everything is held in memory and written through to the store, so that
// authenticating a request costs a hash and a map lookup.
package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/atoll-cloud/atoll/store"
)

const (
	// DefaultMaxConcurrent is how many machines a new team may have at once.
	DefaultMaxConcurrent = 100

	maxName = 128 // characters of a team's or key's name

	// useInterval is how often uses of keys are written down.
	useInterval = time.Minute
)

// Errors that callers test with errors.Is.
var (
	ErrNotFound = errors.New("not found")
	ErrInvalid  = errors.New("invalid")
)

// Team owns machines and keys.
type Team struct {
	ID   string `json:"id"` // UUID
	Name string `json:"name"`
	// MaxConcurrent is how many machines that are not ended it may have.
	MaxConcurrent int       `json:"maxConcurrent"`
	Default       bool      `json:"default"`
	CreatedAt     time.Time `json:"createdAt"`
}

// Config is what Open needs.
type Config struct {
	Store  *store.Store
	Logger *slog.Logger     // nil discards
	Now    func() time.Time // nil is time.Now
}

// Accounts is the open set of teams and keys. It is safe for concurrent use.
type Accounts struct {
	logger *slog.Logger
	now    func() time.Time
	teamsB *store.Bucket
	keysB  *store.Bucket
	adminB *store.Bucket

	// writing is held for a whole change, so that the store and the maps see
	// changes in the same order. It is taken before mu.
	writing sync.Mutex

	mu     sync.RWMutex // guards what follows
	teams  map[string]Team
	keys   map[string]*key // by id
	byHash map[digest]*key
	admin  digest // zero: none yet

	stop context.CancelFunc
	done chan struct{}
}

// Open reads teams and keys from the store. Close must be called before the
// store is closed.
func Open(ctx context.Context, cfg Config) (*Accounts, error) {
	a := &Accounts{
		logger: cfg.Logger, now: cfg.Now,
		teams: map[string]Team{}, keys: map[string]*key{}, byHash: map[digest]*key{},
		done: make(chan struct{}),
	}
	if a.logger == nil {
		a.logger = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	if err := a.load(ctx, cfg.Store); err != nil {
		return nil, fmt.Errorf("read accounts: %w", err)
	}
	background, stop := context.WithCancel(context.Background())
	a.stop = stop
	go a.writeUses(background)
	return a, nil
}

// Close writes down the last uses of keys and ends the background work.
func (a *Accounts) Close() {
	a.stop()
	<-a.done
}

func (a *Accounts) load(ctx context.Context, s *store.Store) (err error) {
	if a.teamsB, err = s.Bucket(ctx, "teams"); err != nil {
		return err
	}
	if a.keysB, err = s.Bucket(ctx, "apikeys"); err != nil {
		return err
	}
	if a.adminB, err = s.Bucket(ctx, "admin"); err != nil {
		return err
	}
	err = a.teamsB.All(ctx, func(id string, data []byte) error {
		var t Team
		if err := json.Unmarshal(data, &t); err != nil {
			return fmt.Errorf("decode team %s: %w", id, err)
		}
		a.teams[t.ID] = t
		return nil
	})
	if err != nil {
		return err
	}
	err = a.keysB.All(ctx, func(id string, data []byte) error {
		k := &key{}
		if err := json.Unmarshal(data, &k.Key); err != nil {
			return fmt.Errorf("decode API key %s: %w", id, err)
		}
		a.keys[k.ID], a.byHash[k.Hash] = k, k
		return nil
	})
	if err != nil {
		return err
	}
	var rec adminRecord
	if _, err := a.adminB.Get(ctx, adminKey, &rec); err == nil {
		a.admin = rec.Hash
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

// Team returns one team or ErrNotFound.
func (a *Accounts) Team(id string) (Team, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	t, ok := a.teams[id]
	if !ok {
		return Team{}, fmt.Errorf("team %q: %w", clip(id), ErrNotFound)
	}
	return t, nil
}

// Teams returns all teams, oldest first.
func (a *Accounts) Teams() []Team {
	a.mu.RLock()
	defer a.mu.RUnlock()
	list := make([]Team, 0, len(a.teams))
	for _, t := range a.teams {
		list = append(list, t)
	}
	slices.SortFunc(list, func(x, y Team) int {
		if c := x.CreatedAt.Compare(y.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(x.ID, y.ID)
	})
	return list
}

// CreateTeam makes a team with the default limits.
func (a *Accounts) CreateTeam(ctx context.Context, name string) (Team, error) {
	name, err := checkName(name)
	if err != nil {
		return Team{}, err
	}
	a.writing.Lock()
	defer a.writing.Unlock()
	return a.addTeam(ctx, name, false)
}

// SetMaxConcurrent changes how many machines a team may have at once. Those it
// has beyond the limit stay.
func (a *Accounts) SetMaxConcurrent(ctx context.Context, id string, n int) (Team, error) {
	if n < 0 {
		return Team{}, fmt.Errorf("%w: a limit of %d machines; give 0 or more", ErrInvalid, n)
	}
	return a.changeTeam(ctx, id, func(t *Team) { t.MaxConcurrent = n })
}

// RenameTeam gives a team another name.
func (a *Accounts) RenameTeam(ctx context.Context, id, name string) (Team, error) {
	name, err := checkName(name)
	if err != nil {
		return Team{}, err
	}
	return a.changeTeam(ctx, id, func(t *Team) { t.Name = name })
}

func (a *Accounts) changeTeam(ctx context.Context, id string, change func(*Team)) (Team, error) {
	a.writing.Lock()
	defer a.writing.Unlock()
	t, err := a.Team(id)
	if err != nil {
		return Team{}, err
	}
	change(&t)
	return t, a.saveTeam(ctx, t)
}

// addTeam makes a team; writing is held.
func (a *Accounts) addTeam(ctx context.Context, name string, isDefault bool) (Team, error) {
	t := Team{
		ID: uuid.NewString(), Name: name, MaxConcurrent: DefaultMaxConcurrent,
		Default: isDefault, CreatedAt: a.now().UTC(),
	}
	return t, a.saveTeam(ctx, t)
}

func (a *Accounts) saveTeam(ctx context.Context, t Team) error {
	if _, err := a.teamsB.Put(ctx, t.ID, t); err != nil {
		return fmt.Errorf("save team: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.teams[t.ID] = t
	return nil
}

// checkName returns a name without the space around it.
func checkName(name string) (string, error) {
	name = strings.TrimSpace(name)
	if n := len([]rune(name)); n == 0 || n > maxName {
		return "", fmt.Errorf("%w: a name has 1 to %d characters", ErrInvalid, maxName)
	}
	for _, r := range name {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return "", fmt.Errorf("%w: a name has no control characters", ErrInvalid)
		}
	}
	return name, nil
}

// clip keeps hostile input from filling logs and error messages.
func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}
