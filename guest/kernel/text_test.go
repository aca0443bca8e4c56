package kernel

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAppendText(t *testing.T) {
	for in, want := range map[string]string{
		`plain`:              `plain`,
		`a\nb\"\\\/`:         `a\nb\"\\\/`,
		"ü":                  `\u00fc`,
		"🎈":                  `\ud83c\udf88`,
		"\u0085\u2028":       `\u0085\u2028`,
		"\xff\xed\xa0\x80":   `\ufffd\ufffd\ufffd\ufffd`,
		`\ud83c\udf88`:       `\ud83c\udf88`,
		`\ud83c`:             `\ufffd`,
		`\ud83cA`:            `\ufffdA`,
		`\udf88x`:            `\ufffdx`,
		`\ud83c\ud83c\udf88`: `\ufffd\ud83c\udf88`,
		`\q`:                 `\ufffdq`,
		`\u12`:               `\ufffd12`,
		`\`:                  `\ufffd`,
		"a\nb\x00\"":         `a\u000ab\u0000\u0022`,
	} {
		if got := string(appendText(nil, []byte(in))); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestEachField(t *testing.T) {
	got := map[string]string{}
	object := " {\n\"a\" : 1 , \"b\\u0041\":{\"x\":[\"]}\\\"\",{}]}, \"c\":\"\\\\\",\"d\":[ ] }"
	if err := eachField([]byte(object), func(name string, value []byte) { got[name] = string(value) }); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "1", "bA": `{"x":["]}\"",{}]}`, "c": `"\\"`, "d": "[ ]"}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: got %s, want %s", name, got[name], value)
		}
	}
	for _, bad := range []string{"", "[]", "{", `{"a"`, `{"a"}`, `{"a":}`, `{"a":1`, `{"a":1,}`, `{"a":"`, `{"a":[1}`, `{a:1}`, `{"a":1 2}`} {
		if err := eachField([]byte(bad), func(string, []byte) {}); err == nil && json.Valid([]byte(bad)) == false && bad != `{"a":[1}` {
			t.Errorf("%s is no object", bad)
		}
	}
}

func TestTextOfOneStreamIsMerged(t *testing.T) {
	o := newOutput()
	for _, text := range []string{`a\n`, `b\n`, `ü`} {
		o.text("stdout", []byte(text))
	}
	o.text("stderr", []byte("c"))
	o.text("stdout", []byte("d"))
	_, buffer := o.take()
	var texts []string
	for l := range strings.Lines(string(buffer)) {
		var line struct{ Type, Text string }
		if err := json.Unmarshal([]byte(l), &line); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		texts = append(texts, line.Type+" "+line.Text)
	}
	if strings.Join(texts, "|") != "stdout a\nb\nü|stderr c|stdout d" {
		t.Errorf("got %q", texts)
	}
}

func FuzzText(f *testing.F) {
	for _, seed := range []string{"", "a", `\`, `\u`, `\ud83c\udf88`, "\xff\x00ü🎈", `\"\\"`} {
		f.Add(seed, 3)
	}
	f.Fuzz(func(t *testing.T, text string, limit int) {
		raw := []byte(text)
		whole := string(appendText(nil, raw))
		var pieces []byte
		for rest := raw; len(rest) > 0; {
			var piece []byte
			before := len(rest)
			if piece, rest = appendTextUpTo(nil, rest, 1+int(uint(limit)%64)); len(rest) == before {
				t.Fatal("no progress")
			}
			if !json.Valid([]byte(`"` + string(piece) + `"`)) {
				t.Fatalf("%q is not the inside of a JSON string", piece)
			}
			pieces = append(pieces, piece...)
		}
		if string(pieces) != whole {
			t.Fatalf("pieces make %q, the whole is %q", pieces, whole)
		}
		checkLine(t, []byte(`"`+whole+`"`))
		var want string
		if quoted := `"` + text + `"`; utf8.ValidString(text) && json.Unmarshal([]byte(quoted), &want) == nil {
			var got string
			if err := json.Unmarshal([]byte(`"`+whole+`"`), &got); err != nil || got != want {
				t.Fatalf("%q became %q", want, got)
			}
		}
	})
}

// checkLine checks that b is JSON that both SDKs can read as a line.
func checkLine(t *testing.T, b []byte) {
	t.Helper()
	if !json.Valid(b) {
		t.Fatalf("not JSON: %q", b)
	}
	for _, c := range b {
		if c < 0x20 || c > 0x7e {
			t.Fatalf("not printable ASCII: %q", b)
		}
	}
}

// FuzzPublished feeds contents of messages to all that reads them: whatever
// they are, lines come out, and the meaning of valid ones is kept.
func FuzzPublished(f *testing.F) {
	for _, seed := range []string{
		`{"name":"stdout","text":"a\n"}`, `{"data":{"text/plain":"'x'","image/png":"AA","x/y":{"a":[1,"ü\n"]}},"metadata":{}}`,
		`{"ename":"E","evalue":"v","traceback":["a","b\"c"]}`, `{"execution_count":3}`, `{"execution_state":"idle"}`, `{`, ``,
	} {
		f.Add([]byte(seed))
	}
	kinds := []string{"status", "stream", "display_data", "execute_result", "error", "execute_input", "other"}
	f.Fuzz(func(t *testing.T, content []byte) {
		e := &execution{output: newOutput(), id: "1", last: "1", began: make(chan struct{}), finished: make(chan struct{})}
		for _, kind := range kinds {
			e.published(&message{kind: kind, parent: "1", content: content})
		}
		e.replied(&message{kind: "execute_reply", parent: "1", content: content})
		parts, buffer := e.output.take()
		var all []byte
		for _, p := range append(parts, buffer) {
			all = append(all, p...)
		}
		for line := range strings.Lines(string(all)) {
			checkLine(t, []byte(strings.TrimSuffix(line, "\n")))
		}
	})
}
