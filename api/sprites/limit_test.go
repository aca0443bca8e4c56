package sprites

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/account"
)

func TestCreatesAreLimited(t *testing.T) {
	now := time.Unix(1000, 0)
	l := rates{limit: 4, now: func() time.Time { return now }}
	mine, other := account.Team{ID: "a"}, account.Team{ID: "b"}
	step := func(after time.Duration, team account.Team, made bool, retry int) {
		t.Helper()
		now = now.Add(after)
		err := l.take(team)
		if made != (err == nil) {
			t.Fatalf("after %v: %v", after, err)
		}
		if p, ok := err.(*problem); !made && (!ok || p.RetryAfter != retry || p.Limit != 4 || p.Current != 4 || p.Window != 60 || p.Code != "sprite_creation_rate_limited") {
			t.Fatalf("after %v: %+v", after, p)
		}
	}
	for range 4 {
		step(0, mine, true, 0)
	}
	step(0, mine, false, 15)
	step(0, other, true, 0)
	step(5*time.Second, mine, false, 10)
	step(9900*time.Millisecond, mine, false, 1)
	step(100*time.Millisecond, mine, true, 0)
	step(0, mine, false, 15)
	step(-time.Hour, mine, false, 15) // the clock was set back: nothing is forgotten
	step(2*time.Hour, mine, true, 0)
	for range 3 {
		step(0, mine, true, 0)
	}
	step(0, mine, false, 15)
	if err := (&rates{now: time.Now}).take(mine); err != nil {
		t.Errorf("no limit: %v", err)
	}
}

// What is refused for another reason does not count, and the answer is the one
// that clients read.
func TestTooManyCreates(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	w.door.rates = rates{limit: 2, now: func() time.Time { return now }}
	w.do("POST", "/v1/sprites", `{"name":"NO"}`)
	w.create("a")
	w.do("POST", "/v1/sprites", `{"name":"a"}`)
	w.create("b")
	a := w.must(429, nil, "POST", "/v1/sprites", `{"name":"c"}`)
	var body map[string]any
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body["error"] != "sprite_creation_rate_limited" ||
		body["limit"] != 2.0 || body["window_seconds"] != 60.0 || body["retry_after_seconds"] != 30.0 || body["current_count"] != 2.0 || body["message"] == "" {
		t.Errorf("the body is %s", a.body)
	}
	for name, want := range map[string]string{"Retry-After": "30", "X-RateLimit-Limit": "2", "X-RateLimit-Remaining": "0"} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if a.header.Get("X-RateLimit-Reset") == "" {
		t.Error("no X-RateLimit-Reset")
	}
	w.create("theirs", "Authorization", "Bearer "+w.otherKey)
	now = now.Add(30 * time.Second)
	w.create("c")
}
