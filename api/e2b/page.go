package e2b

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/api/door"
)

const (
	maxPage      = 100
	nextTokenKey = "X-Next-Token"
)

// pageLimit reads the parameter limit: 1 to 100.
func pageLimit(q url.Values) (int, error) {
	s := q.Get("limit")
	if s == "" {
		return maxPage, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxPage {
		return 0, invalid("limit is %q: give a number from 1 to %d", door.Clip(s), maxPage)
	}
	return n, nil
}

// cursor names the last entry of a page by time and id, so that a page stays
// right when entries before it come or go. Clients take it as it is.
type cursor struct {
	at time.Time
	id string
}

func (c cursor) String() string {
	text := strconv.FormatInt(c.at.UnixNano(), 10) + " " + c.id
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

func parseCursor(s string) (cursor, error) {
	bad := invalid("nextToken is not one that this server gave out")
	text, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return cursor{}, bad
	}
	nanos, id, ok := strings.Cut(string(text), " ")
	n, err := strconv.ParseInt(nanos, 10, 64)
	if !ok || err != nil || id == "" {
		return cursor{}, bad
	}
	return cursor{at: time.Unix(0, n), id: id}, nil
}

// compare orders two entries by time, then id.
func (c cursor) compare(other cursor) int {
	if n := c.at.Compare(other.at); n != 0 {
		return n
	}
	return strings.Compare(c.id, other.id)
}

// queryNumber reads a whole number that is not negative; absent is ok=false.
func queryNumber(r *http.Request, name string) (n int64, ok bool, err error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return 0, false, nil
	}
	n, err = strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, false, invalid("%s is %q: give a whole number that is not negative", name, door.Clip(s))
	}
	return n, true, nil
}

// maxUnix is the last second of the year 9999.
const maxUnix = 253402300799

// querySpan reads the parameters start and end, in Unix seconds.
func querySpan(r *http.Request, start, end time.Time) (from, to time.Time, err error) {
	from, to = start, end
	for _, p := range []struct {
		name string
		at   *time.Time
	}{{"start", &from}, {"end", &to}} {
		n, ok, err := queryNumber(r, p.name)
		if err != nil {
			return from, to, err
		}
		if n > maxUnix {
			return from, to, invalid("%s is %d: give a time in Unix seconds, not in milliseconds", p.name, n)
		}
		if ok {
			*p.at = time.Unix(n, 0)
		}
	}
	if to.Before(from) {
		return from, to, invalid("the span of time ends before it starts")
	}
	return from, to, nil
}
