package image

import (
	"bufio"
	"context"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

const (
	debianMirror   = "http://deb.debian.org/debian"
	securityMirror = "http://deb.debian.org/debian-security"
)

// standardSources are the apt sources of an ordinary Debian system.
func standardSources(suite string) string {
	lines := "deb " + debianMirror + " " + suite + " main\n"
	if suite == "sid" || suite == "unstable" || suite == "experimental" {
		return lines // these have no updates beside them
	}
	return lines + "deb " + debianMirror + " " + suite + "-updates main\n" +
		"deb " + securityMirror + " " + suite + "-security main\n"
}

// mirrorSources are those of a mirror, which may have only the suite itself.
func mirrorSources(mirror, suite string) string {
	return "deb " + strings.NewReplacer("\n", "", " ", "%20").Replace(mirror) + " " + suite + " main\n"
}

// hostSources returns the apt sources of this host that are Debian's archive
// for the suite, or "" where the host (another suite, another system) has none.
func hostSources(etcApt, suite string) string {
	files := []string{filepath.Join(etcApt, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join(etcApt, "sources.list.d", pattern))
		if err == nil {
			files = append(files, more...)
		}
	}
	var lines []string
	hasSuite := false
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		for _, s := range parseSources(bufio.NewScanner(f), strings.HasSuffix(file, ".sources")) {
			if !s.ofDebian(suite) {
				continue
			}
			hasSuite = hasSuite || s.suite == suite
			lines = append(lines, "deb "+s.uri+" "+s.suite+" main\n")
		}
		f.Close()
	}
	if !hasSuite {
		return ""
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "")
}

type aptSource struct {
	uri, suite string
	main       bool
}

// ofDebian tells a mirror of Debian from other archives for the same suite.
func (s aptSource) ofDebian(suite string) bool {
	u, err := url.Parse(s.uri)
	if err != nil || !s.main || (u.Scheme != "http" && u.Scheme != "https") {
		return false
	}
	dir := path.Base(strings.TrimSuffix(u.Path, "/"))
	return dir == "debian" && (s.suite == suite || s.suite == suite+"-updates") ||
		dir == "debian-security" && s.suite == suite+"-security"
}

// parseSources reads sources of either of apt's two formats.
func parseSources(lines *bufio.Scanner, deb822 bool) []aptSource {
	var found []aptSource
	fields := map[string][]string{}
	flush := func() {
		enabled := !slices.Contains(fields["enabled"], "no")
		for _, uri := range fields["uris"] {
			for _, suite := range fields["suites"] {
				if enabled && slices.Contains(fields["types"], "deb") {
					found = append(found, aptSource{uri, suite, slices.Contains(fields["components"], "main")})
				}
			}
		}
		clear(fields)
	}
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		switch {
		case strings.HasPrefix(line, "#"):
		case deb822 && line == "":
			flush()
		case deb822:
			if key, value, ok := strings.Cut(line, ":"); ok {
				fields[strings.ToLower(key)] = strings.Fields(value)
			}
		case strings.HasPrefix(line, "deb "):
			rest := strings.TrimSpace(line[4:])
			if strings.HasPrefix(rest, "[") {
				_, rest, _ = strings.Cut(rest, "]")
			}
			if f := strings.Fields(rest); len(f) > 2 {
				found = append(found, aptSource{f[0], f[1], slices.Contains(f[2:], "main")})
			}
		}
	}
	flush()
	return found
}

// hostProxies returns the proxy settings of this host's apt, in its syntax.
func hostProxies(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return "" // a host without apt has no such settings
	}
	var conf strings.Builder
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(line, " ")
		if strings.HasPrefix(name, "Acquire::http") && strings.Contains(strings.ToLower(name), "proxy") {
			conf.WriteString(line)
		}
	}
	return conf.String()
}
