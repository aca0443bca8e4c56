package guest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/wire"
)

const (
	// maxSystemFile bounds the files in etc that are edited, in bytes; larger
	// ones are left as they are.
	maxSystemFile = 1 << 20

	hostsDefault = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
)

// writeSystemFiles writes the files in etc that name this copy. What users
// added to them stays. before is what held until now. It lies in the way of a
// new machine's first request.
func (s *Server) writeSystemFiles(in *wire.Init, before *settingsCopy) {
	var failed []error
	// A daemon that finds its machine's name was started from the machine's disk.
	again := false
	if in.Hostname != "" {
		failed = append(failed,
			s.edit("hosts", func(text string) (changed string) {
				changed, again = renameHost(text, before.hostname, in.Hostname)
				return changed
			}),
			s.write("hostname", in.Hostname+"\n"))
	}
	if in.MachineID != "" {
		failed = append(failed, s.write("machine-id", in.MachineID+"\n"))
	}
	switch {
	case len(in.Nameservers) == 0 || slices.Equal(in.Nameservers, before.nameservers):
	case len(before.nameservers) > 0:
		failed = append(failed, s.edit("resolv.conf", func(text string) string {
			return replaceNameservers(text, before.nameservers, in.Nameservers)
		}))
	case again && strings.Contains(readBounded(s.etc("resolv.conf"), maxSystemFile), "nameserver"):
		// What stands there is meant.
	default:
		failed = append(failed, s.write("resolv.conf", nameserverLines(in.Nameservers)))
	}
	if err := errors.Join(failed...); err != nil {
		s.log.Write("error", "cannot write a system file", "error", err.Error())
	}
	if host, err := time.Parse(time.RFC3339, in.Timestamp); err == nil {
		if off := time.Since(host); off.Abs() > clockTolerance {
			s.log.Write("warn", "the clock differs from the host's", "by", off.String())
		}
	}
}

func (s *Server) etc(name string) string { return filepath.Join(s.config.Root, "etc", name) }

func (s *Server) write(name, text string) error {
	return os.WriteFile(s.etc(name), []byte(text), 0o644)
}

// edit changes a file in etc, or makes it.
func (s *Server) edit(name string, change func(text string) string) error {
	text, err := readAllBounded(s.etc(name), maxSystemFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if changed := change(text); changed != text || err != nil {
		return s.write(name, changed)
	}
	return nil
}

// readAllBounded reads a whole file, and fails when it is larger than limit.
func readAllBounded(path string, limit int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return string(data), err
}

// renameHost puts a host's new name in the place of the old one in the text of
// a hosts file, or adds it, unless it was there already.
func renameHost(text, old, name string) (changed string, was bool) {
	if strings.TrimSpace(text) == "" {
		text = hostsDefault
	}
	var out strings.Builder
	found := false
	for line := range strings.Lines(text) {
		entry, comment, commented := strings.Cut(line, "#")
		fields := strings.Fields(entry)
		if len(fields) > 1 && slices.Contains(fields[1:], name) {
			return text, true
		}
		if len(fields) > 1 && old != "" && slices.Contains(fields[1:], old) {
			for i, field := range fields[1:] {
				if field == old {
					fields[1+i] = name
				}
			}
			found = true
			line = fields[0] + "\t" + strings.Join(fields[1:], " ") + "\n"
			if commented {
				line = strings.TrimSuffix(line, "\n") + " #" + comment
			}
		}
		out.WriteString(line)
	}
	if !found {
		if !strings.HasSuffix(text, "\n") {
			out.WriteString("\n")
		}
		out.WriteString("127.0.0.1\t" + name + "\n")
	}
	return out.String(), false
}

// replaceNameservers puts new name servers in the place of the first of the
// old ones in the text of a resolv.conf, and takes the old ones out. A text that
// has none of the old ones is somebody's own and stays.
func replaceNameservers(text string, old, servers []string) string {
	var out strings.Builder
	written := false
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" || !slices.Contains(old, fields[1]) {
			out.WriteString(line)
			continue
		}
		if !written {
			out.WriteString(nameserverLines(servers))
			written = true
		}
	}
	return out.String()
}

func nameserverLines(servers []string) string {
	return "nameserver " + strings.Join(servers, "\nnameserver ") + "\n"
}
