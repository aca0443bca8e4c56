package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// jsonFlag adds --json to a command.
func jsonFlag(cmd *cobra.Command, to *bool) {
	cmd.Flags().BoolVar(to, "json", false, "print JSON for programs")
}

// printJSON writes v, indented, as one document.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// style is how one piece of text is coloured.
type style string

const (
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
)

// paint colours text that goes to w if a person looks at it and has not
// asked for none (NO_COLOR).
func (a *app) paint(w io.Writer, s style, text string) string {
	if _, tty := isTerminal(w); !tty || a.env("NO_COLOR") != "" || a.env("TERM") == "dumb" || s == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// width is how many columns w has; 0 when it is no terminal.
func width(w io.Writer) int {
	fd, tty := isTerminal(w)
	if !tty {
		return 0
	}
	n, _, err := term.GetSize(fd)
	if err != nil || n < 20 {
		return 80
	}
	return n
}

// column is one column of a table.
type column struct {
	title string
	// min is the least width it may be cut to on a narrow terminal; 0: never cut.
	min   int
	right bool
	// drop, if not 0, allows the column to be left out where even cut columns
	// do not fit; the highest goes first.
	drop int
	// paint chooses the colour of a cell by its text; nil: none.
	paint func(cell string) style
}

// table prints rows for people. On a terminal no line is longer than it is
// wide: columns that may be left out go first, then the widest of those that
// may be cut are cut.
func (a *app) table(cols []column, rows [][]string) {
	if limit := width(a.out); limit > 0 {
		cols, rows = narrowed(cols, rows, limit)
	}
	widths := make([]int, len(cols))
	for i, c := range cols {
		widths[i] = utf8.RuneCountInString(c.title)
	}
	for _, r := range rows {
		for i := range r {
			r[i] = printable(r[i])
			widths[i] = max(widths[i], utf8.RuneCountInString(r[i]))
		}
	}
	limit := width(a.out)
	if limit > 0 {
		fit(cols, widths, limit)
	}
	head := make([]string, len(cols))
	for i, c := range cols {
		head[i] = c.title
	}
	a.row(cols, widths, limit, head, func(int, string) style { return bold })
	for _, r := range rows {
		a.row(cols, widths, limit, r, func(i int, cell string) style {
			if cols[i].paint == nil {
				return ""
			}
			return cols[i].paint(cell)
		})
	}
}

// narrowed leaves out columns until the others, cut as far as they may be, fit.
func narrowed(cols []column, rows [][]string, limit int) ([]column, [][]string) {
	for {
		total, worst := -gap, -1
		for i, c := range cols {
			w := utf8.RuneCountInString(c.title)
			for _, r := range rows {
				w = max(w, utf8.RuneCountInString(r[i]))
			}
			if c.min > 0 {
				w = min(w, c.min)
			}
			total += w + gap
			if c.drop > 0 && (worst < 0 || c.drop > cols[worst].drop) {
				worst = i
			}
		}
		if total <= limit || worst < 0 {
			return cols, rows
		}
		cols = slices.Delete(slices.Clone(cols), worst, worst+1)
		for i, r := range rows {
			rows[i] = slices.Delete(slices.Clone(r), worst, worst+1)
		}
	}
}

const gap = 2 // blanks between columns

// fit narrows widths until a line takes at most limit columns, or nothing more
// may be cut.
func fit(cols []column, widths []int, limit int) {
	total := gap * (len(cols) - 1)
	for _, w := range widths {
		total += w
	}
	for ; total > limit; total-- {
		widest := -1
		for i, c := range cols {
			if c.min > 0 && widths[i] > c.min && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

func (a *app) row(cols []column, widths []int, limit int, cells []string, paint func(int, string) style) {
	var b strings.Builder
	used := 0
	for i, cell := range cells {
		room := widths[i]
		if limit > 0 && used+room > limit {
			room = max(limit-used, 0) // not even cut columns fit: drop what is beyond the edge
		}
		text := cut(cell, room)
		pad := strings.Repeat(" ", room-utf8.RuneCountInString(text))
		painted := a.paint(a.out, paint(i, cell), text)
		switch {
		case cols[i].right:
			b.WriteString(pad + painted)
		case i == len(cells)-1:
			b.WriteString(painted)
		default:
			b.WriteString(painted + pad)
		}
		used += room + gap
		if limit > 0 && used >= limit {
			break
		}
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", gap))
		}
	}
	fmt.Fprintln(a.out, strings.TrimRight(b.String(), " "))
}

// cut shortens s to n characters, the last of them "…" if something was lost.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	if n <= 0 {
		return ""
	}
	r := []rune(s)
	return string(r[:n-1]) + "…"
}

// wrapped breaks text between words into lines of at most limit columns, 0 for
// any, each of which begins with indent.
func wrapped(text, indent string, limit int) string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && limit > 0 && utf8.RuneCountInString(indent+line+" "+word) > limit {
			lines = append(lines, indent+line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return strings.Join(append(lines, indent+line), "\n")
}

// printable takes terminal control out of text that others wrote.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '·'
		}
		return r
	}, s)
}

// bytesText is a size for people: 1.5 GiB.
func bytesText(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for ; f >= 999.5 && i < len(units)-1; i++ {
		f /= 1024
	}
	if f < 10 {
		return fmt.Sprintf("%.1f %ciB", f, units[i])
	}
	return fmt.Sprintf("%.0f %ciB", f, units[i])
}

// span is a duration for people, in one or two units: 3m 20s.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm %ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh %dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd %dh", int(d.Hours())/24, int(d.Hours())%24)
}

// age is how long since t, or a dash.
func age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return span(max(time.Since(t).Truncate(time.Second), time.Second))
}

// ago is age in words.
func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return age(t) + " ago"
}

// millis is a measured time with the precision that a person compares by.
func millis(d time.Duration) string {
	if d >= 10*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// note prints a line about what is going on to standard error.
func (a *app) note(format string, args ...any) {
	fmt.Fprintln(a.err, a.paint(a.err, dim, oneLine(fmt.Sprintf(format, args...))))
}

// aside tells of something beside a program's output; with the terminal in raw
// mode a line does not begin at the left by itself.
func (a *app) aside(raw bool, text string) {
	if raw {
		text = "\r\n" + text + "\r"
	}
	fmt.Fprintln(a.err, text)
}
