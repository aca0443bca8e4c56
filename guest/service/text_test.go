package service

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 7 * time.Second, "30s": 30 * time.Second, "1m0s": time.Minute, "10.0s": 10 * time.Second, "1h1m1s": 3661 * time.Second,
		"0": 0, "0s": 0, "5": 5 * time.Second, "2.5": 2500 * time.Millisecond, "30 seconds": 30 * time.Second, "5min": 5 * time.Minute,
		"1 hour 30 minutes": 90 * time.Minute, "250ms": 250 * time.Millisecond, "1M": time.Minute, "1m30": 90 * time.Second, "3us": 3 * time.Microsecond,
	} {
		if got, err := parseDuration(text, 7*time.Second); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"soon", "-5s", "5 6", "s", "1e9", "NaN", "Inf", "1d", "9999999h", "1..5s", "5s-", "0x10"} {
		if got, err := parseDuration(text, 0); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func FuzzDuration(f *testing.F) {
	for _, text := range []string{"", "30s", "1m0s", "10.0s", "1 hour", "5", ".", "1e9", "µs", "99999999999999999999h"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDuration(text, time.Second)
		if err != nil {
			return
		}
		if d < 0 || d > maxDuration {
			t.Errorf("%q: %v", text, d)
		}
		if again, err := parseDuration(d.String(), 0); err != nil || again != d {
			t.Errorf("%q is %v, and that is %v, %v", text, d, again, err)
		}
	})
}

func FuzzDefinition(f *testing.F) {
	for _, text := range []string{
		`{"cmd":"a"}`, `{"cmd":"a","args":["b"],"env":{"C":"d"},"dir":"/e","needs":["f"],"http_port":8080}`,
		`{"cmd":"a","args":null,"needs":null,"http_port":null,"stopped":true}`, `[]`, `{"cmd":1}`, `{"cmd":"a"} x`, `{"cmd":"a","needs":["../b"]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := parseDefinition(data)
		if err != nil {
			return
		}
		if d.Cmd == "" || d.Args == nil || d.Needs == nil || d.Env == nil || len(d.Needs) > maxNeeds {
			t.Fatalf("%+v", d)
		}
		for _, need := range d.Needs {
			if checkName(need) != nil {
				t.Fatalf("%+v", d)
			}
		}
		kept, err := json.Marshal(record{Definition: d, Stopped: true})
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseRecord(kept)
		if err != nil || !reflect.DeepEqual(again, record{d, true}) {
			t.Fatalf("%+v became %+v, %v", d, again, err)
		}
	})
}

func FuzzLogLine(f *testing.F) {
	f.Add("2026-01-02T03:04:05.678Z [stderr] text")
	f.Add("no")
	f.Fuzz(func(t *testing.T, line string) {
		got := parseLine(line)
		if got.stream != stdout && got.stream != stderr || got.at.IsZero() && got.text == line {
			t.Errorf("%+v", got)
		}
	})
}

func TestOrder(t *testing.T) {
	got := startOrder(map[string][]string{"a": {"c", "none"}, "b": nil, "c": {"b"}, "x": {"y"}, "y": {"x"}})
	if !reflect.DeepEqual(got, []string{"b", "c", "a", "y", "x"}) {
		t.Error(got)
	}
}
