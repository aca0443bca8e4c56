package sprite

import (
	"encoding/json"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func FuzzParseRequest(f *testing.F) {
	f.Add("cmd=sh&cmd=-c&cmd=true&env=A=1&tty=true&rows=24&cols=80&dir=/&max_run_after_disconnect=10s")
	f.Add("id=20&stdin=false")
	f.Add("cmd=&path=&rows=-1&env==&max_run_after_disconnect=1e300")
	f.Fuzz(func(t *testing.T, query string) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		r, err := parseRequest(values)
		if err != nil {
			return
		}
		if len(r.args) == 0 || r.keep < 0 || r.keep > maxKeep {
			t.Errorf("%q became %+v", query, r)
		}
		for key := range r.env {
			if key == "" || strings.ContainsAny(key, "=\x00") {
				t.Errorf("%q has the variable %q", query, key)
			}
		}
		if p := r.program(); p.Terminal == nil == r.tty {
			t.Errorf("%q became %+v", query, p)
		}
	})
}

func FuzzParseInstruction(f *testing.F) {
	f.Add([]byte(`{"type":"resize","cols":80,"rows":24}`))
	f.Add([]byte(`{"type":"signal","signal":"SIGTERM"}`))
	f.Add([]byte(`{"type":`))
	f.Fuzz(func(t *testing.T, text []byte) {
		in, known := parseInstruction(text)
		if known && !json.Valid(text) {
			t.Errorf("%q became %+v", text, in)
		}
		if signal, err := parseSignal(in.Signal); err == nil && (signal < 1 || signal > 64) {
			t.Errorf("%q is signal %d", in.Signal, signal)
		}
	})
}

func FuzzControlArguments(f *testing.F) {
	f.Add([]byte(`{"cmd":["true"],"tty":"true","env":["A=1"],"rows":24}`))
	f.Add([]byte(`"path=a&workingDir=b"`))
	f.Add([]byte(`[[[[`))
	f.Fuzz(func(t *testing.T, args []byte) {
		values, err := parseArgs(args)
		if err != nil {
			return
		}
		parseRequest(values)
		fileArgs{values: values}.mode()
		if target, err := parseTarget(targetJSON(values)); err == nil && !strings.Contains(target, ":") {
			t.Errorf("%q leads to %q", args, target)
		}
	})
}

func FuzzParseTarget(f *testing.F) {
	f.Add([]byte(`{"host":"localhost","port":8080}` + "\n"))
	f.Add([]byte(`{"host":"::1","port":65536}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		target, err := parseTarget(text)
		if err == nil && (target == "" || len(target) > 300) {
			t.Errorf("%q leads to %q", text, target)
		}
	})
}

func FuzzParseListeners(f *testing.F) {
	f.Add("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0000000000000000 100 0 0 10 0\n")
	f.Add("   1: 00000000000000000000000001000000:0050 0:0 0A a b c d e 7\n")
	f.Fuzz(func(t *testing.T, data string) {
		for _, l := range parseListeners(data) {
			if !l.address.IsValid() || l.port == 0 {
				t.Errorf("%q holds %+v", data, l)
			}
		}
		parseStat(data)
	})
}

func FuzzParseDuration(f *testing.F) {
	for _, text := range []string{"10s", "1m30s", "0", "2.5", "-1s", "NaN", "1e400", "9999999h"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := parseDuration(text); err == nil && (d < 0 || d > maxKeep) {
			t.Errorf("%q is %s", text, d)
		}
	})
}

func FuzzReplayBeginsWithALine(f *testing.F) {
	f.Add("half a line\nwhole", 4)
	f.Add("", 0)
	f.Fuzz(func(t *testing.T, text string, at int) {
		if at < 0 || at > len(text) {
			return
		}
		got := ""
		for _, c := range fromLine([]chunk{{data: []byte("\x01" + text[:at])}, {data: []byte("\x01" + text[at:])}}) {
			got += string(c.data[1:])
		}
		_, want, found := strings.Cut(text, "\n")
		if !found {
			want = text
		}
		if got != want {
			t.Errorf("%q at %d gave %q", text, at, got)
		}
	})
}

func TestListenersOfTheKernel(t *testing.T) {
	data := "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1\n" +
		"   1: 0100007F:1F91 00000000:0000 01 00000000:00000000 00:00000000 00000000  1000        0 12346 1\n" +
		"   2: 00000000000000000000000001000000:0050 0:0 0A 0 0 0 0 0 7 1\n"
	got := parseListeners(data)
	if len(got) != 2 || got[0] != (listener{netip.MustParseAddr("127.0.0.1"), 8080, 12345}) || got[1].address != netip.MustParseAddr("::1") || got[1].port != 80 {
		t.Error(got)
	}
	if parent, session := parseStat("12 (a ) b) S 3 4 5 6"); parent != 3 || session != 5 {
		t.Error(parent, session)
	}
}

func TestModes(t *testing.T) {
	for _, text := range []string{"0644", "0755", "4755", "1777", "2750", "0000"} {
		mode, given, err := fileArgs{values: url.Values{"mode": {text}}}.mode()
		if !given || err != nil || octal(mode) != text {
			t.Error(text, mode, given, err)
		}
	}
}

func TestRateForgets(t *testing.T) {
	var r rate
	now := time.Now()
	r.add(now, 1000)
	if per := r.at(now); per != 500 {
		t.Error(per)
	}
	if per := r.at(now.Add(2 * time.Second)); per != 250 {
		t.Error(per)
	}
	if per := r.at(now.Add(time.Hour)); per != 0 {
		t.Error(per)
	}
}

func TestLongTextsAreShortened(t *testing.T) {
	if text := shortened(strings.Repeat("é", 1000)); len(text) > 110 || !utf8.ValidString(text) {
		t.Error(text)
	}
}
