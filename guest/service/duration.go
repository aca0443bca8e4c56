package service

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxDuration bounds every duration that a client names.
const maxDuration = 30 * 24 * time.Hour

// units are the spellings of durations beyond those of Go.
var units = map[string]time.Duration{
	"ns": time.Nanosecond, "us": time.Microsecond, "µs": time.Microsecond, "μs": time.Microsecond, "ms": time.Millisecond,
	"": time.Second, "s": time.Second, "sec": time.Second, "secs": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "mins": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hrs": time.Hour, "hour": time.Hour, "hours": time.Hour,
}

// parseDuration reads a duration as the published clients write it: "1m30s" and
// "30s" (Go), "10.0s" (Python), "30 seconds" or a bare number of seconds. Empty
// text is the fallback.
func parseDuration(text string, fallback time.Duration) (time.Duration, error) {
	rest := strings.ToLower(strings.TrimSpace(text))
	if rest == "" {
		return fallback, nil
	}
	var total float64
	for rest != "" {
		end := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if end < 0 {
			end = len(rest)
		}
		number, err := strconv.ParseFloat(rest[:end], 64)
		if err != nil {
			return 0, badDuration(text)
		}
		rest = strings.TrimLeft(rest[end:], " ")
		if end = strings.IndexAny(rest, " .0123456789"); end < 0 {
			end = len(rest)
		}
		unit, ok := units[rest[:end]]
		rest = strings.TrimLeft(rest[end:], " ")
		if !ok || unit == units[""] && end == 0 && rest != "" {
			return 0, badDuration(text)
		}
		total += number * float64(unit)
	}
	if total > float64(maxDuration) {
		return 0, fmt.Errorf("duration %q is longer than %s", bounded(text), maxDuration)
	}
	return time.Duration(math.Round(total)), nil
}

func badDuration(text string) error {
	return fmt.Errorf("duration %q: write it like 30s, 1m30s or as a number of seconds", bounded(text))
}

// bounded shortens a client's text for a message.
func bounded(text string) string {
	const most = 200
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
