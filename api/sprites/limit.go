package sprites

import (
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/atoll-cloud/atoll/account"
)

// limitWindow is what a limit on creates is counted over.
const limitWindow = time.Minute

// codeTooFast is what clients know the limit on creates by.
const codeTooFast = "sprite_creation_rate_limited"

// rates counts the creates of each team. A team may make as many at once as its
// limit says, and makes room for another with each part of the window that passes.
type rates struct {
	limit int // creates in a window; 0 is no limit
	now   func() time.Time

	mu   sync.Mutex
	used map[string]bucket // by team
}

// bucket is how many of a team's creates still count, at a moment.
type bucket struct {
	count float64
	at    time.Time
}

// take counts one create, or returns what the client is told instead.
func (l *rates) take(team account.Team) error {
	if l.limit == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now, each := l.now(), limitWindow.Seconds()/float64(l.limit)
	b := l.used[team.ID]
	if passed := now.Sub(b.at).Seconds(); passed > 0 { // not so where the clock was set back
		b.count = max(b.count-passed/each, 0)
	}
	if free := float64(l.limit) - b.count; free < 1 {
		// What follows is in whole seconds, for that is what clients read.
		p := fail(http.StatusTooManyRequests, codeTooFast,
			"this team makes sprites faster than %d a minute, which is its limit: try again later", l.limit)
		p.Limit, p.Current, p.Window = l.limit, l.limit, int(limitWindow.Seconds())
		p.RetryAfter = max(int(math.Ceil((1-free)*each)), 1)
		return p
	}
	if l.used == nil {
		l.used = map[string]bucket{}
	}
	l.used[team.ID] = bucket{count: b.count + 1, at: now}
	return nil
}
