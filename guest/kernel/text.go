package kernel

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"
)

// errContent is reported for contents of messages that are not as Jupyter's
// protocol says.
var errContent = errors.New("content of a message is malformed")

// eachField calls visit for the fields of a JSON object, with the insides of
// their names and their values as they stand there. Strings and nested values
// are delimited, not checked: whoever passes them on uses appendText and
// appendValue. Nothing is copied, as a value may be a picture of 50 MB.
func eachField(object []byte, visit func(name string, value []byte)) error {
	i := skipSpace(object, 0)
	if i >= len(object) || object[i] != '{' {
		return errContent
	}
	i = skipSpace(object, i+1)
	if i < len(object) && object[i] == '}' {
		return nil
	}
	for {
		if i >= len(object) || object[i] != '"' {
			return errContent
		}
		end := stringEnd(object, i)
		if end < 0 {
			return errContent
		}
		name := object[i+1 : end-1]
		i = skipSpace(object, end)
		if i >= len(object) || object[i] != ':' {
			return errContent
		}
		i = skipSpace(object, i+1)
		end = valueEnd(object, i)
		if end < 0 {
			return errContent
		}
		visit(plain(name), object[i:end])
		i = skipSpace(object, end)
		switch {
		case i >= len(object):
			return errContent
		case object[i] == '}':
			return nil
		case object[i] != ',':
			return errContent
		}
		i = skipSpace(object, i+1)
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// stringEnd returns the index behind the string that begins at i, -1 when it
// does not end.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		escape := bytes.IndexByte(b[i:i+n], '\\')
		if escape < 0 {
			return i + n + 1
		}
		// Look only as far as the next quotation mark, so that long texts
		// full of escapes are not searched again and again.
		end := i + n
		for i += escape; i < end; i++ {
			if b[i] == '\\' {
				i++
			}
		}
		if i == end {
			return end + 1
		}
	}
	return -1
}

// valueEnd returns the index behind the value that begins at i, -1 when there
// is none.
func valueEnd(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	if b[i] == '"' {
		return stringEnd(b, i)
	}
	start, depth := i, 0
	for i < len(b) {
		switch b[i] {
		case '"':
			if i = stringEnd(b, i); i < 0 {
				return -1
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return orNothing(start, i)
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return orNothing(start, i)
			}
		}
		i++
	}
	return -1
}

func orNothing(start, end int) int {
	if start == end {
		return -1
	}
	return end
}

// inside returns what stands between the quotation marks of a JSON string.
func inside(value []byte) ([]byte, bool) {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return nil, false
	}
	return value[1 : len(value)-1], true
}

// plain returns the text of the inside of a JSON string.
func plain(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	var s string
	quoted := append(append([]byte{'"'}, raw...), '"')
	if json.Unmarshal(quoted, &s) != nil {
		return string(raw)
	}
	return s
}

// clean tells whether appendText would leave a byte as it is, whatever stands
// around it.
var clean = func() (table [256]bool) {
	for b := 0x20; b < 0x7f; b++ {
		table[b] = b != '\\' && b != '"'
	}
	return table
}()

// isClean reports that appendText would leave all of a text as it is.
func isClean(raw []byte) bool {
	for _, b := range raw {
		if !clean[b] {
			return false
		}
	}
	return true
}

// appendText appends the inside of a JSON string such that it is valid whatever
// it was, and ASCII only. ASCII because one published SDK decodes a response
// piece by piece, which breaks characters where pieces meet, and another takes
// characters such as U+0085 for the end of a line. Invalid UTF-8 and halves of
// surrogate pairs become U+FFFD.
func appendText(dst, raw []byte) []byte {
	dst, _ = appendTextUpTo(dst, raw, len(raw)*6)
	return dst
}

// appendTextUpTo does as appendText until about limit bytes were appended, and
// returns what is left of raw.
func appendTextUpTo(dst, raw []byte, limit int) (_, rest []byte) {
	full := len(dst) + limit
	for i := 0; i < len(raw); {
		if len(dst) >= full {
			return dst, raw[i:]
		}
		run, end := i, min(len(raw), i+full-len(dst))
		for run < end && clean[raw[run]] {
			run++
		}
		dst = append(dst, raw[i:run]...)
		if i = run; i == end {
			continue
		}
		switch b := raw[i]; {
		case b == '\\':
			var n int
			dst, n = appendEscape(dst, raw[i:])
			i += n
		case b < utf8.RuneSelf:
			dst = appendUnit(dst, rune(b)) // control characters and lone quotation marks
			i++
		default:
			r, n := utf8.DecodeRune(raw[i:])
			dst = appendUnit(dst, r)
			i += n
		}
	}
	return dst, nil
}

// appendEscape appends the escape sequence that raw begins with, and returns
// how many bytes of raw it was.
func appendEscape(dst, raw []byte) ([]byte, int) {
	if len(raw) < 2 {
		return append(dst, `\ufffd`...), len(raw)
	}
	switch raw[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return append(dst, raw[:2]...), 2
	case 'u':
		unit, ok := escapedUnit(raw)
		switch {
		case !ok:
			return append(dst, `\ufffd`...), 2
		case unit < 0xd800 || unit > 0xdfff:
			return append(dst, raw[:6]...), 6
		case unit < 0xdc00:
			if low, ok := escapedUnit(raw[6:]); ok && low >= 0xdc00 && low <= 0xdfff {
				return append(dst, raw[:12]...), 12
			}
		}
		return append(dst, `\ufffd`...), 6
	}
	return append(dst, `\ufffd`...), 1
}

// escapedUnit reads \uXXXX.
func escapedUnit(raw []byte) (uint64, bool) {
	if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
		return 0, false
	}
	for _, b := range raw[2:6] {
		if !(b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F') {
			return 0, false
		}
	}
	unit, err := strconv.ParseUint(string(raw[2:6]), 16, 32)
	return unit, err == nil
}

// appendUnit appends a character as one or two \uXXXX.
func appendUnit(dst []byte, r rune) []byte {
	if r > 0xffff {
		r -= 0x10000
		return appendUnit(appendUnit(dst, 0xd800+r>>10), 0xdc00+r&0x3ff)
	}
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}

// appendString appends a string of ours as JSON, in ASCII.
func appendString(dst []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		return append(dst, `""`...)
	}
	dst = append(dst, '"')
	dst = appendText(dst, quoted[1:len(quoted)-1])
	return append(dst, '"')
}

// appendValue appends any JSON value on one line and in ASCII; ok is false when
// it is not JSON.
func appendValue(dst, value []byte) (_ []byte, ok bool) {
	if raw, isString := inside(value); isString && stringEnd(value, 0) == len(value) {
		dst = append(dst, '"')
		dst = appendText(dst, raw)
		return append(dst, '"'), true
	}
	if !json.Valid(value) {
		return dst, false
	}
	for i := 0; i < len(value); {
		switch value[i] {
		case '"':
			end := stringEnd(value, i)
			dst = append(dst, '"')
			dst = appendText(dst, value[i+1:end-1])
			dst = append(dst, '"')
			i = end
		case '\n', '\r', '\t', ' ':
			i++
		default:
			dst = append(dst, value[i])
			i++
		}
	}
	return dst, true
}
