package main

import "strings"

// block gathers lines of code until they can run together. It is a rule of
// thumb, not a parser: the kernel has the last word on what is code.
type block struct {
	language string
	lines    []string
}

// add takes a line and reports whether what was gathered can run. Pasted text
// goes on over empty lines.
func (b *block) add(line string, pasted bool) (ready bool) {
	empty := strings.TrimSpace(line) == ""
	if empty && len(b.lines) == 0 {
		return false
	}
	b.lines = append(b.lines, line)
	switch {
	case pasted:
		return false
	case empty:
		return true
	}
	return !b.continues()
}

// wants reports whether a line of a script belongs to what was gathered: what
// is open, an indented line, or a clause of the statement above.
func (b *block) wants(line string) bool {
	if len(b.lines) == 0 {
		return true
	}
	if b.open() {
		return true
	}
	if line == "" || strings.TrimLeft(line, " \t") != line || strings.TrimSpace(line) == "" {
		return true
	}
	word := line
	if i := strings.IndexAny(line, " \t:("); i >= 0 {
		word = line[:i]
	}
	switch word {
	case "else", "elif", "except", "finally":
		return true
	}
	return strings.HasPrefix(b.last(), "@") // what a decorator is for
}

// take returns the code and begins anew.
func (b *block) take() string {
	code := strings.Join(b.lines, "\n")
	b.lines = nil
	return strings.TrimRight(code, " \t\n")
}

// last is the last line that is not empty.
func (b *block) last() string {
	for i := len(b.lines) - 1; i >= 0; i-- {
		if s := strings.TrimSpace(b.lines[i]); s != "" {
			return s
		}
	}
	return ""
}

// continues reports whether more lines must come: something is open, or a
// suite has begun, which only an empty line ends.
func (b *block) continues() bool {
	if b.open() {
		return true
	}
	for i, l := range b.lines {
		if s := strings.TrimSpace(l); b.hasSuites() && strings.HasSuffix(s, ":") || i == len(b.lines)-1 && strings.HasPrefix(s, "@") {
			return true
		}
	}
	return false
}

// hasSuites reports whether a colon begins an indented part.
func (b *block) hasSuites() bool { return b.language == "" || strings.HasPrefix(b.language, "python") }

// open reports whether a bracket, a text over several lines, or a line that
// ends in a backslash is not finished.
func (b *block) open() bool {
	code := strings.Join(b.lines, "\n")
	if strings.HasSuffix(code, "\\") {
		return true
	}
	depth, end := 0, ""
	for i := 0; i < len(code); {
		rest := code[i:]
		switch {
		case end != "": // within a text
			switch {
			case rest[0] == '\\':
				i++
			case strings.HasPrefix(rest, end):
				i += len(end) - 1
				end = ""
			case rest[0] == '\n' && len(end) == 1 && end != "`" && b.language != "bash":
				end = "" // an error that the kernel tells of
			}
		case b.comment(rest):
			if n := strings.IndexByte(rest, '\n'); n >= 0 {
				i += n
			} else {
				i = len(code)
			}
		case b.hasSuites() && (strings.HasPrefix(rest, `"""`) || strings.HasPrefix(rest, "'''")):
			end = rest[:3]
			i += 2
		case rest[0] == '"' || rest[0] == '\'' || rest[0] == '`' && !b.hasSuites():
			end = rest[:1]
		case strings.IndexByte("([{", rest[0]) >= 0:
			depth++
		case strings.IndexByte(")]}", rest[0]) >= 0:
			depth--
		}
		i++
	}
	return depth > 0 || len(end) == 3 || end == "`" || end != "" && b.language == "bash"
}

// comment reports whether a comment begins here.
func (b *block) comment(rest string) bool {
	switch b.language {
	case "javascript", "typescript", "java", "js", "ts":
		return strings.HasPrefix(rest, "//")
	}
	return rest[0] == '#'
}
