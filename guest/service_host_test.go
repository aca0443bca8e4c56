package guest

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atoll-cloud/atoll/wire"
)

func TestServicesOfSprites(t *testing.T) {
	m := newMachine(t)
	if status, _, _ := m.do("GET", "/sprite/services", ""); status != 404 {
		t.Error("before init:", status)
	}
	status, body, _ := m.do("POST", "/init", `{"controlToken":"secret","envVars":{"FROM":"init"},"defaultUser":"user","sprite":{"name":"mine","policy":"{}"}}`)
	if status != 204 {
		t.Fatal(status, body)
	}
	for _, path := range []string{"/sprite/services", "/sprite/url-port", wire.CallsPath} {
		if status, _, _ := m.do("GET", path, ""); status != 401 {
			t.Error(path, "without the control token:", status)
		}
	}
	token := []string{wire.ControlHeader, "secret"}
	definition := `{"cmd":"sh","args":["-c","echo $FROM $MORE $USER; pwd; exec sleep 1000"],"env":{"MORE":"put"}}`
	if status, body, _ := m.do("PUT", "/sprite/services/x?duration=0", definition, token...); status != 200 || !strings.Contains(body, `"started"`) {
		t.Fatal(status, body)
	}
	eventually(t, "it runs as the user, in the user's folder, with the machine's variables", func() bool {
		_, body, _ := m.do("GET", "/sprite/services/x/logs", "", token...)
		return strings.Contains(body, "init put user") && strings.Contains(body, m.home)
	})
	if status, body, _ := m.do("PUT", "/sprite/services/y", `{"cmd":"sh","dir":"/no/such"}`, token...); status != 200 || !strings.Contains(body, "/no/such") {
		t.Error(status, body)
	}
	if status, body, _ := m.do("GET", "/sprite/url-port", "", token...); status != 200 || !strings.Contains(body, "8080") {
		t.Error(status, body)
	}
	local := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(m.server.config.Root, ".sprite/api.sock"))
	}}}
	defer local.CloseIdleConnections()
	answer, err := local.Get("http://sprite/v1/services/x")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 200 {
		t.Error(answer.Status)
	}
	if data, err := os.ReadFile(filepath.Join(m.server.config.Root, ".sprite/policy/network.json")); err != nil || string(data) != "{}\n" {
		t.Errorf("%q, %v", data, err)
	}
}
