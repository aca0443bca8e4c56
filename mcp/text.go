package mcp

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// text keeps the beginning and the end of what is written to it, because both
// tell most: how it began, and how it ended.
type text struct {
	// limit is how many bytes are kept, half of them of the beginning.
	limit int
	head  []byte
	tail  []byte
	total int64
}

// Write never fails.
func (t *text) Write(p []byte) (int, error) {
	n := len(p)
	t.total += int64(n)
	if room := t.limit/2 - len(t.head); room > 0 {
		room = min(room, len(p))
		t.head, p = append(t.head, p[:room]...), p[room:]
	}
	keep := t.limit - t.limit/2
	if len(p) > keep {
		p = p[len(p)-keep:]
		t.tail = t.tail[:0]
	}
	t.tail = append(t.tail, p...)
	if len(t.tail) > 2*keep { // seldom, so that writing stays cheap
		t.tail = append(t.tail[:0], t.tail[len(t.tail)-keep:]...)
	}
	return n, nil
}

// String is what was kept, as valid UTF-8, with a note where something is left out.
func (t *text) String() string {
	tail := t.tail
	if over := len(tail) - (t.limit - t.limit/2); over > 0 {
		tail = tail[over:]
	}
	left := t.total - int64(len(t.head)+len(tail))
	if left == 0 {
		return strings.ToValidUTF8(string(t.head)+string(tail), "�")
	}
	head := t.head[:whole(t.head)]
	for len(tail) > 0 && !utf8.RuneStart(tail[0]) {
		tail = tail[1:]
	}
	return strings.ToValidUTF8(fmt.Sprintf("%s\n[… %d bytes are left out here …]\n%s", head, t.total-int64(len(head)+len(tail)), tail), "�")
}

// whole is how much of b can be shown without cutting a character at its end.
func whole(b []byte) int {
	for back := 1; back <= min(utf8.UTFMax, len(b)); back++ {
		if c := b[len(b)-back]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-back:]) {
				return len(b) - back
			}
			break
		}
	}
	return len(b)
}
