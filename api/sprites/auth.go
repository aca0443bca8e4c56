package sprites

import (
	"net/http"

	"github.com/atoll-cloud/atoll/account"
	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
)

// caller is who sent a request.
type caller struct {
	team account.Team
	// inside is the machine that the request comes from, if it comes from a
	// sprite's inside.
	inside string
}

// maxToken bounds what is taken for a token.
const maxToken = 512

// authorise finds out who sends a request: tokens are API keys. A sprite that
// uses this API from its inside needs none.
func (d *Door) authorise(r *http.Request) (caller, error) {
	if c, ok := r.Context().Value(insideKey{}).(caller); ok {
		return c, nil
	}
	token := door.Bearer(r)
	if token == "" {
		return caller{}, fail(http.StatusUnauthorized, "unauthorized",
			`no token in the request: send "Authorization: Bearer" with the API key that "atoll env" prints as SPRITE_TOKEN`)
	}
	return d.callerOf(token)
}

func (d *Door) callerOf(token string) (caller, error) {
	if len(token) <= maxToken {
		if id, ok := d.accounts.Authenticate(token); ok {
			return caller{team: id.Team}, nil
		}
	}
	return caller{}, fail(http.StatusUnauthorized, "unauthorized",
		`this token is not known here: check SPRITE_TOKEN and that SPRITES_API_URL names the server that made it ("atoll env" prints both)`)
}

// Visitors decides who may visit the URLs of sprites: whoever may use the API
// for their team, or everybody where a sprite's URL is public.
type Visitors struct{ Accounts *account.Accounts }

// Public reports whether everybody may visit.
func (v Visitors) Public(m machine.Machine) bool { return m.Door[doorAuth] == authPublic }

// Key returns the id of the API key that a token is, or "".
func (v Visitors) Key(token string) string {
	id, ok := v.Accounts.Authenticate(token)
	if !ok {
		return ""
	}
	return id.KeyID
}

// Member reports whether the key with this id is of the machine's team.
func (v Visitors) Member(m machine.Machine, key string) bool { return v.Accounts.HasKey(m.Team, key) }
