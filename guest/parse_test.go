package guest

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func encodeBasic(user string) string { return base64.StdEncoding.EncodeToString([]byte(user + ":")) }

func FuzzParsePasswd(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000::/home/user:\n", "user:x:1000:\nsudo:x:27:user,root\n")
	f.Add(":::::::\na:b\n", "x:y:99999999999:z")
	f.Fuzz(func(t *testing.T, passwd, group string) {
		accounts, ids := parsePasswd(passwd)
		parseGroup(group, accounts)
		for name, a := range accounts {
			if name == "" || a.name != name || !strings.HasPrefix(a.home, "/") || a.shell == "" || len(a.groups) == 0 || a.groups[0] != a.gid {
				t.Errorf("account %+v", a)
			}
		}
		for id, name := range ids {
			if accounts[name] == nil || accounts[name].uid != id {
				t.Errorf("number %d belongs to %q", id, name)
			}
		}
	})
}

func FuzzParseBasicUser(f *testing.F) {
	f.Add("Basic " + encodeBasic("root"))
	f.Add("Basic !!")
	f.Add("Bearer abc")
	f.Fuzz(func(t *testing.T, header string) {
		if name, err := parseBasicUser(header); err != nil && name != "" || strings.Contains(name, ":") {
			t.Errorf("%q gave %q, %v", header, name, err)
		}
	})
}

func FuzzParseMetadata(f *testing.F) {
	f.Add("X-Metadata-Author", "me")
	f.Add("x-metadata-é", "\x7f")
	f.Fuzz(func(t *testing.T, name, value string) {
		metadata, err := parseMetadata(http.Header{name: {value}})
		for key, value := range metadata {
			if err != nil || !printable(key) || !printable(value) || len(key) > maxMetadataKey || key == "" {
				t.Errorf("accepted %q: %q", key, value)
			}
		}
	})
}

func TestMetadataLimits(t *testing.T) {
	h := http.Header{}
	h.Set("X-Metadata-Big", strings.Repeat("x", maxMetadata))
	if _, err := parseMetadata(h); err == nil {
		t.Error("too much metadata was accepted")
	}
	if _, err := parseMetadata(http.Header{"X-Metadata-" + strings.Repeat("k", maxMetadataKey+1): {"v"}}); err == nil {
		t.Error("too long a key was accepted")
	}
}

func FuzzPartPath(f *testing.F) {
	f.Add(`form-data; name="file"; filename="a/b \"c\".txt"`)
	f.Add(`form-data; name="file"; filename="%22q%22"`)
	f.Add(`form-data; filename*=UTF-8''%e2%82%ac`)
	f.Fuzz(func(t *testing.T, disposition string) {
		if name, err := partPath(disposition); err == nil && name == "" {
			t.Error("a file without a name was accepted")
		}
	})
}

func FuzzResolvePath(f *testing.F) {
	f.Add("a/../../b", "")
	f.Add("~/x", "/base")
	f.Add("~", "")
	f.Fuzz(func(t *testing.T, path, base string) {
		resolved, err := resolvePath(path, filepath.Join("/", base), &account{home: "/home/user"})
		if err == nil && (!filepath.IsAbs(resolved) || resolved != filepath.Clean(resolved)) {
			t.Errorf("%q became %q", path, resolved)
		}
	})
}

func FuzzParseInit(f *testing.F) {
	f.Add([]byte(`{"envVars":{"A":"b"},"hostname":"h","machineId":"0123456789abcdef0123456789abcdef","nameservers":["1.1.1.1"]}`))
	f.Add([]byte(`{"hostname":"a\nb","defaultUser":"x:y"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := parseInit(body)
		if err != nil {
			return
		}
		for _, text := range append(in.Nameservers, in.Hostname, in.MachineID, in.DefaultUser) {
			if strings.ContainsAny(text, "\n\x00") {
				t.Errorf("accepted %q", text)
			}
		}
	})
}

func FuzzCheckSignature(f *testing.F) {
	f.Add("/a", "user", "v1_x", "12")
	f.Fuzz(func(t *testing.T, path, user, signature, expires string) {
		query := url.Values{"path": {path}, "username": {user}, "signature": {signature}, "signature_expiration": {expires}}
		r := httptest.NewRequest("GET", "/files", nil)
		if err := checkSignature(r, query, "token", "read", time.Unix(0, 0)); err == nil && signature != sign(path, "read", user, "token", expires) {
			t.Error("a wrong signature passed")
		}
	})
}

// The values were computed by the published Python SDK.
func TestSignatureIsTheSDKs(t *testing.T) {
	for got, want := range map[string]string{
		sign("/home/user/a b.txt", "read", "user", "token", "1700000000"): "v1_Uc4NID7NNnqSxbrw6d22J7SS5nTrgnaLykpNFGo8Oco",
		sign("x", "write", "", "token", ""):                               "v1_zVloxgfyfP5csso77bBtcPiaDWBeWS24RsSLg4VXrfQ",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func FuzzParseProc(f *testing.F) {
	f.Add("MemTotal: 100 kB\nMemAvailable: 200 kB\n", "cpu 1 2 3 4 5 6 7 8 9\n")
	f.Fuzz(func(t *testing.T, meminfo, stat string) {
		if total, used, _ := parseMeminfo(meminfo); used > total {
			t.Error("more used than there is")
		}
		if busy, total := parseStat(stat); busy > total {
			t.Error("busier than possible")
		}
	})
}
