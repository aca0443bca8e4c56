package account

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/store"
)

// house is a store with accounts that can be closed and opened again.
type house struct {
	t   testing.TB
	dir string
	now time.Time
	s   *store.Store
	*Accounts
}

func open(t testing.TB) *house {
	h := &house{t: t, dir: t.TempDir(), now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	h.open()
	t.Cleanup(h.close)
	return h
}

func (h *house) open() {
	h.t.Helper()
	var err error
	if h.s, err = store.Open(context.Background(), store.Config{Dir: h.dir}); err != nil {
		h.t.Fatal(err)
	}
	if h.Accounts, err = Open(context.Background(), Config{Store: h.s, Now: func() time.Time { return h.now }}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) close() {
	h.Accounts.Close()
	h.s.Close()
}

func (h *house) reopen() { h.close(); h.open() }

func (h *house) bootstrap() FirstSecrets {
	h.t.Helper()
	var got FirstSecrets
	made, err := h.Bootstrap(context.Background(), func(s FirstSecrets) error { got = s; return nil })
	if err != nil || !made {
		h.t.Fatalf("Bootstrap = %v, %v", made, err)
	}
	return got
}

func TestFirstStart(t *testing.T) {
	ctx := context.Background()
	h := open(t)
	failed := errors.New("disk full")
	if _, err := h.Bootstrap(ctx, func(FirstSecrets) error { return failed }); !errors.Is(err, failed) {
		t.Fatalf("Bootstrap whose secrets cannot be saved = %v", err)
	}
	if len(h.Teams()) != 0 {
		t.Error("a first start that failed left a team")
	}
	got := h.bootstrap()
	if !regexp.MustCompile(`^e2b_[0-9a-f]{40}$`).MatchString(got.APIKey) {
		t.Errorf("API key has another form than the SDKs accept: %d characters", len(got.APIKey))
	}
	check := func() {
		t.Helper()
		id, ok := h.Authenticate(got.APIKey)
		if !ok || id.Team.Name != "default" || id.Team.MaxConcurrent != 100 || !id.Team.Default {
			t.Errorf("Authenticate(first key) = %+v, %v", id, ok)
		}
		if !h.IsAdmin(got.AdminToken) || h.IsAdmin(got.APIKey) || h.IsAdmin("") {
			t.Error("IsAdmin does not tell the admin token from others")
		}
	}
	check()
	h.reopen()
	check()
	made, err := h.Bootstrap(ctx, func(FirstSecrets) error { t.Error("second start saved secrets"); return nil })
	if made || err != nil {
		t.Errorf("second Bootstrap = %v, %v", made, err)
	}
}

func TestSecretsAreNotOnTheDisk(t *testing.T) {
	h := open(t)
	got := h.bootstrap()
	h.close()
	defer h.open()
	err := filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, s := range []string{got.APIKey, got.AdminToken, got.APIKey[len(keyPrefix):]} {
			if bytes.Contains(data, []byte(s)) {
				t.Errorf("%s holds a secret in clear", d.Name())
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestKeys(t *testing.T) {
	ctx := context.Background()
	h := open(t)
	h.bootstrap()
	mine, other := h.Teams()[0], mustTeam(t, h, "other")
	k, raw, err := h.CreateKey(ctx, mine.ID, "  laptop ")
	if err != nil {
		t.Fatal(err)
	}
	if want := (Mask{Prefix: "e2b_", Length: 40, First: raw[4:6], Last: raw[40:]}); k.Name != "laptop" || k.Mask != want {
		t.Errorf("key %q has mask %+v, want laptop with %+v", k.Name, k.Mask, want)
	}
	if len(h.Keys(mine.ID)) != 2 || len(h.Keys(other.ID)) != 0 {
		t.Errorf("teams have %d and %d keys, want 2 and 0", len(h.Keys(mine.ID)), len(h.Keys(other.ID)))
	}
	if _, err := h.RenameKey(ctx, other.ID, k.ID, "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("renaming another team's key = %v, want ErrNotFound", err)
	}
	if err := h.DeleteKey(ctx, other.ID, k.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleting another team's key = %v, want ErrNotFound", err)
	}
	if _, err := h.RenameKey(ctx, mine.ID, k.ID, "desktop"); err != nil {
		t.Fatal(err)
	}
	h.reopen()
	if id, ok := h.Authenticate(raw); !ok || id.KeyID != k.ID {
		t.Errorf("Authenticate after reopening = %+v, %v", id, ok)
	}
	if keys := h.Keys(mine.ID); len(keys) != 2 || keys[0].Name != "desktop" && keys[1].Name != "desktop" {
		t.Errorf("keys after renaming: %+v", keys)
	}
	if err := h.DeleteKey(ctx, mine.ID, k.ID); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.Authenticate(raw); ok {
		t.Error("a deleted key is still valid")
	}
	h.reopen()
	if _, ok := h.Authenticate(raw); ok {
		t.Error("a deleted key is valid again after a restart")
	}
	if _, _, err := h.CreateKey(ctx, "no-such-team", "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("key for an unknown team = %v, want ErrNotFound", err)
	}
}

func TestWrongKeysAreRefused(t *testing.T) {
	h := open(t)
	raw := h.bootstrap().APIKey
	for _, bad := range []string{"", "e2b_", raw[:43], raw + "0", "E2B_" + raw[4:], strings.ToUpper(raw), "e2b_" + strings.Repeat("0", 40), strings.Repeat("x", 1<<20)} {
		if _, ok := h.Authenticate(bad); ok {
			t.Errorf("Authenticate accepts a key of %d characters that was never made", len(bad))
		}
	}
}

func TestNames(t *testing.T) {
	h := open(t)
	for _, tt := range []struct {
		name string
		ok   bool
	}{
		{"a", true}, {"Ünïcode 团队", true}, {strings.Repeat("é", 128), true},
		{"", false}, {"   ", false}, {strings.Repeat("x", 129), false}, {"a\nb", false}, {"a\x00", false}, {"\xff", false},
	} {
		if _, err := h.CreateTeam(context.Background(), tt.name); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("CreateTeam(%q) = %v, want ok %v", clip(tt.name), err, tt.ok)
		}
	}
}

func TestTeamLimits(t *testing.T) {
	ctx := context.Background()
	h := open(t)
	team := mustTeam(t, h, "lab")
	if _, err := h.SetMaxConcurrent(ctx, team.ID, -1); !errors.Is(err, ErrInvalid) {
		t.Errorf("negative limit = %v, want ErrInvalid", err)
	}
	if _, err := h.SetMaxConcurrent(ctx, "missing", 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("limit of a missing team = %v, want ErrNotFound", err)
	}
	if _, err := h.SetMaxConcurrent(ctx, team.ID, 7); err != nil {
		t.Fatal(err)
	}
	if _, err := h.RenameTeam(ctx, team.ID, "workshop"); err != nil {
		t.Fatal(err)
	}
	h.reopen()
	if got, err := h.Team(team.ID); err != nil || got.MaxConcurrent != 7 || got.Name != "workshop" {
		t.Errorf("team after reopening = %+v, %v", got, err)
	}
}

func TestLastUseIsRemembered(t *testing.T) {
	h := open(t)
	raw := h.bootstrap().APIKey
	team := h.Teams()[0].ID
	if used := h.Keys(team)[0].LastUsed; !used.IsZero() {
		t.Errorf("a new key was last used at %v", used)
	}
	h.now = h.now.Add(time.Hour)
	h.Authenticate(raw)
	if used := h.Keys(team)[0].LastUsed; !used.Equal(h.now) {
		t.Errorf("last used %v, want %v", used, h.now)
	}
	h.reopen()
	if used := h.Keys(team)[0].LastUsed; !used.Equal(h.now) {
		t.Errorf("last used %v after a restart, want %v", used, h.now)
	}
}

func TestRotatedAdminToken(t *testing.T) {
	h := open(t)
	old := h.bootstrap().AdminToken
	var token string
	if err := h.RotateAdminToken(context.Background(), func(s string) error { token = s; return nil }); err != nil {
		t.Fatal(err)
	}
	h.reopen()
	if h.IsAdmin(old) || !h.IsAdmin(token) {
		t.Error("rotation did not replace the admin token")
	}
}

func TestConcurrentUse(t *testing.T) {
	ctx := context.Background()
	h := open(t)
	raw := h.bootstrap().APIKey
	team := h.Teams()[0].ID
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				k, _, err := h.CreateKey(ctx, team, "k")
				if err != nil {
					t.Error(err)
					return
				}
				if _, ok := h.Authenticate(raw); !ok {
					t.Error("a valid key was refused")
				}
				h.Keys(team)
				h.flushUses(ctx)
				if _, err := h.RenameKey(ctx, team, k.ID, "r"); err != nil {
					t.Error(err)
				}
				if err := h.DeleteKey(ctx, team, k.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(h.Keys(team)); n != 1 {
		t.Errorf("%d keys left, want 1", n)
	}
}

func mustTeam(t *testing.T, h *house, name string) Team {
	t.Helper()
	team, err := h.CreateTeam(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return team
}

func BenchmarkAuthenticate(b *testing.B) {
	h := open(b)
	raw := h.bootstrap().APIKey
	for b.Loop() {
		if _, ok := h.Authenticate(raw); !ok {
			b.Fatal("refused")
		}
	}
}
