package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atoll-cloud/atoll/wire"
)

func (m *machine) readEtc(name string) string {
	m.t.Helper()
	data, err := os.ReadFile(filepath.Join(m.server.config.Root, "etc", name))
	if err != nil {
		m.t.Error(err)
	}
	return string(data)
}

func (m *machine) writeEtc(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.server.config.Root, "etc", name), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func TestInitWritesSystemFiles(t *testing.T) {
	m := newMachine(t)
	m.writeEtc("resolv.conf", "nameserver 192.0.2.1\n") // of where the image was built
	id := strings.Repeat("0a", 16)
	m.server.writeSystemFiles(&wire.Init{Hostname: "h1", MachineID: id, Nameservers: []string{"10.0.0.1", "::1"}}, &settingsCopy{})
	for name, want := range map[string]string{
		"hostname": "h1\n", "machine-id": id + "\n", "resolv.conf": "nameserver 10.0.0.1\nnameserver ::1\n",
		"hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\th1\n",
	} {
		if got := m.readEtc(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	// A copy: what the user added stays.
	m.writeEtc("hosts", m.readEtc("hosts")+"10.1.1.1 db\n")
	m.writeEtc("resolv.conf", "search corp\n"+m.readEtc("resolv.conf"))
	m.server.writeSystemFiles(&wire.Init{Hostname: "h2", Nameservers: []string{"10.0.0.2"}}, &settingsCopy{hostname: "h1", nameservers: []string{"10.0.0.1", "::1"}})
	if got := m.readEtc("hosts"); !strings.HasSuffix(got, "\n127.0.0.1\th2\n10.1.1.1 db\n") {
		t.Errorf("hosts: %q", got)
	}
	if got := m.readEtc("resolv.conf"); got != "search corp\nnameserver 10.0.0.2\n" {
		t.Errorf("resolv.conf: %q", got)
	}
	// Started from its disk, by a daemon that knows of nothing before.
	m.writeEtc("resolv.conf", "nameserver 9.9.9.9\n")
	m.server.writeSystemFiles(&wire.Init{Hostname: "h2", Nameservers: []string{"10.0.0.2"}}, &settingsCopy{})
	if got := m.readEtc("resolv.conf"); got != "nameserver 9.9.9.9\n" {
		t.Errorf("resolv.conf: %q", got)
	}
}

func TestResumeLeavesFilesAlone(t *testing.T) {
	m := newMachine(t)
	m.server.config.SystemSettings = true
	m.do("POST", "/init", `{"nameservers":["10.0.0.1"]}`)
	m.server.settings.get().wait()
	m.writeEtc("resolv.conf", "nameserver 9.9.9.9\n")
	m.do("POST", "/init", `{"nameservers":["10.0.0.1"],"restored":true}`)
	m.server.settings.get().wait()
	if got := m.readEtc("resolv.conf"); got != "nameserver 9.9.9.9\n" {
		t.Errorf("resolv.conf: %q", got)
	}
}

func TestRenameHost(t *testing.T) {
	for _, c := range []struct{ text, old, want string }{
		{"", "a", hostsDefault + "127.0.0.1\tnew\n"},
		{"127.0.0.1 localhost a\n1.2.3.4 a.example\n", "a", "127.0.0.1\tlocalhost new\n1.2.3.4 a.example\n"},
		{"127.0.1.1 a # me\n::1 a", "a", "127.0.1.1\tnew # me\n::1\tnew\n"},
		{"127.0.1.1 new\n", "new", "127.0.1.1 new\n"},
		{"# a\n10.0.0.9 b", "a", "# a\n10.0.0.9 b\n127.0.0.1\tnew\n"},
		{"127.0.0.1 localhost\n", "", "127.0.0.1 localhost\n127.0.0.1\tnew\n"},
	} {
		if got, _ := renameHost(c.text, c.old, "new"); got != c.want {
			t.Errorf("%q without %q: %q, want %q", c.text, c.old, got, c.want)
		}
	}
}

func TestReplaceNameservers(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"nameserver 10.0.0.1\n", "nameserver 10.0.0.9\nnameserver 10.0.0.8\n"},
		{"search x\nnameserver 10.0.0.2\nnameserver 10.0.0.1\noptions ndots:1\n",
			"search x\nnameserver 10.0.0.9\nnameserver 10.0.0.8\noptions ndots:1\n"},
		{"nameserver 1.1.1.1\n", "nameserver 1.1.1.1\n"},
		{"", ""},
	} {
		if got := replaceNameservers(c.text, []string{"10.0.0.1", "10.0.0.2"}, []string{"10.0.0.9", "10.0.0.8"}); got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}
