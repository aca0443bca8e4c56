package edge

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestParseHost(t *testing.T) {
	long := strings.Repeat("a", 40)
	for _, c := range []struct {
		host string
		id   string
		port int
		ok   bool
		err  error
	}{
		{"49983-" + testID + ".atoll.test", testID, 49983, true, nil},
		{"3000-" + testID + ".localhost", testID, 3000, true, nil},
		{"3000-" + testID + ".localhost:8080", testID, 3000, true, nil},
		{"3000-" + testID + ".anything.example.org:443", testID, 3000, true, nil},
		{"3000-" + strings.ToUpper(testID) + ".LOCALHOST", testID, 3000, true, nil},
		{"3000-" + testID + ".localhost.", testID, 3000, true, nil},
		{"1-" + long + ".x", long, 1, true, nil},
		{"65535-" + testID + ".x", testID, 65535, true, nil},
		{"49983-" + testID + "-atoll.atoll.test", testID, 49983, true, nil}, // from SDKs before version 2
		{"65536-" + testID + ".x", "", 0, true, errBadPort},
		{"0-" + testID + ".x", "", 0, true, errBadPort},
		{"080-" + testID + ".x", "", 0, true, errBadPort},
		{host: "123456-" + testID + ".x"},
		{host: "-" + testID + ".x"},
		{host: "+80-" + testID + ".x"},
		{host: "80-short.x"},
		{host: "80-" + long + "a.x"},
		{host: "80-" + testID},
		{host: "80-" + testID + "."},
		{host: "80-" + testID + ":80"},
		{host: "80-" + testID + ".:80"},
		{host: "80-" + testID + "-extra.x"},
		{host: "80-abc_defgh.x"},
		{host: "80-abcdéfgh.x"},
		{host: testID + ".x"},
		{host: "localhost:8080"},
		{host: "127.0.0.1:8080"},
		{host: "[::1]:8080"},
		{host: "api.atoll.test"},
		{host: ""},
		{host: "."},
		{host: "3000-" + testID + ".own.test"},      // the domain itself, see below
		{host: "3000-" + testID + ".own.test:8080"}, // likewise
	} {
		got, ok, err := parseHost(c.host, "3000-"+testID+".own.test")
		if ok != c.ok || !errors.Is(err, c.err) || (ok && err == nil && got != target{c.id, c.port}) {
			t.Errorf("parseHost(%q) = %v %v %v, want %v %v %v %v", c.host, got, ok, err, c.id, c.port, c.ok, c.err)
		}
	}
}

func TestFindTargetByHeaders(t *testing.T) {
	for _, c := range []struct {
		name, host, id, port string
		want                 target
		forGuest             bool
		err                  error
	}{
		{"both", "localhost:8080", testID, "49983", target{testID, 49983}, true, nil},
		{"id of an old SDK", "localhost:8080", testID + "-atoll", "49983", target{testID, 49983}, true, nil},
		{"none", "localhost:8080", "", "", target{}, false, nil},
		{"the host decides", "3000-" + testID + ".x", "iotherother", "49983", target{testID, 3000}, true, nil},
		{"no port", "localhost", testID, "", target{}, true, errHeaderMissing},
		{"no id", "localhost", "", "80", target{}, true, errHeaderMissing},
		{"bad port", "localhost", testID, "99999", target{}, true, errBadPort},
		{"port with a sign", "localhost", testID, "+80", target{}, true, errBadPort},
		{"id with a slash", "localhost", "../../etc/x", "80", target{}, true, errBadID},
		{"id in capitals", "localhost", strings.ToUpper(testID), "80", target{}, true, errBadID},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Host = c.host
			if c.id != "" {
				r.Header.Set("e2b-sandbox-id", c.id)
			}
			if c.port != "" {
				r.Header.Set("E2B-SANDBOX-PORT", c.port)
			}
			got, forGuest, err := findTarget(r, "atoll.test")
			if forGuest != c.forGuest || !errors.Is(err, c.err) || (err == nil && got != c.want) {
				t.Errorf("got %v %v %v, want %v %v %v", got, forGuest, err, c.want, c.forGuest, c.err)
			}
		})
	}
}

func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"3000-" + testID + ".localhost:80", "1-a.b", "-.", "99999-aaaaaaaa.:", "3000-aaaaaaaa.x\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		got, ok, err := parseHost(host, "atoll.test")
		if !ok || err != nil {
			return
		}
		if got.port < 1 || got.port > 65535 || !validID(got.id) {
			t.Errorf("%q gives %v", host, got)
		}
		if !strings.HasPrefix(strings.ToLower(host), fmt.Sprintf("%d-%s.", got.port, got.id)) {
			t.Errorf("%q gives %v, which is not what it starts with", host, got)
		}
	})
}
