package sprites

import (
	"math"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

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

	mu    sync.Mutex
	teams map[string]*rate.Limiter
}

// take counts one create, or returns what the client is told instead.
func (l *rates) take(team account.Team) error {
	if l.limit == 0 {
		return nil
	}
	now := l.now()
	create := l.team(team).ReserveN(now, 1)
	wait := create.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	create.CancelAt(now)
	// What follows is in whole seconds, for that is what clients read.
	p := fail(http.StatusTooManyRequests, codeTooFast,
		"this team makes sprites faster than %d a minute, which is its limit: try again later", l.limit)
	p.Limit, p.Current, p.Window = l.limit, l.limit, int(limitWindow.Seconds())
	p.RetryAfter = int(math.Ceil(wait.Seconds()))
	return p
}

func (l *rates) team(team account.Team) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.teams[team.ID]
	if limiter == nil {
		limiter = rate.NewLimiter(rate.Every(limitWindow/time.Duration(l.limit)), l.limit)
		if l.teams == nil {
			l.teams = map[string]*rate.Limiter{}
		}
		l.teams[team.ID] = limiter
	}
	return limiter
}
