package mcp

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTextKeepsBothEnds(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"", ""},
		{"12345678", "12345678"},
		{"1234567890", "1234\n[… 2 bytes are left out here …]\n7890"},
		{"123ä5678ä0", "123\n[… 5 bytes are left out here …]\n8ä0"},
		{"\xff", "�"},
	} {
		for _, piece := range []int{1, 3, 100} {
			w := text{limit: 8}
			for rest := tc.in; rest != ""; {
				n := min(piece, len(rest))
				w.Write([]byte(rest[:n]))
				rest = rest[n:]
			}
			if got := w.String(); got != tc.want {
				t.Errorf("%q in pieces of %d: %q, want %q", tc.in, piece, got, tc.want)
			}
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("häé\xff", 3)
	f.Fuzz(func(t *testing.T, in string, piece int) {
		w := text{limit: 16}
		for rest := in; rest != ""; {
			n := min(max(piece, 1), len(rest))
			w.Write([]byte(rest[:n]))
			rest = rest[n:]
		}
		got := w.String()
		if !utf8.ValidString(got) || len(got) > 16*3+64 {
			t.Errorf("%q became %q", in, got)
		}
		if len(in) <= 16 && got != strings.ToValidUTF8(in, "�") {
			t.Errorf("%q became %q", in, got)
		}
	})
}
