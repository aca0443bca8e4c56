package guest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/atoll-cloud/atoll/wire"
)

func TestInitBelongsToTheHost(t *testing.T) {
	m := newMachine(t)
	for _, c := range []struct {
		name, control, body string
		status              int
	}{
		{"the first is free", "", `{"controlToken":"secret","envVars":{"A":"1"}}`, 204},
		{"later ones are not", "", `{"envVars":{"A":"2"}}`, 401},
		{"nor with a wrong token", "secreT", `{"envVars":{"A":"2"}}`, 401},
		{"the host's pass", "secret", `{"envVars":{"B":"3"}}`, 204},
		{"rubbish", "secret", `{`, 400},
		{"bad host name", "secret", `{"hostname":"a b"}`, 400},
		{"bad variable", "secret", `{"envVars":{"":"x"}}`, 400},
		{"no body", "secret", ``, 204},
	} {
		if status, body, _ := m.do("POST", "/init", c.body, wire.ControlHeader, c.control); status != c.status {
			t.Errorf("%s: %d %s", c.name, status, body)
		}
	}
	_, body, _ := m.do("GET", "/envs", "")
	var envs map[string]string
	if json.Unmarshal([]byte(body), &envs) != nil || fmt.Sprint(envs) != "map[A:1 B:3]" {
		t.Error(body)
	}
}

func TestMetrics(t *testing.T) {
	m := newMachine(t)
	_, body, _ := m.do("GET", "/metrics", "")
	var u usage
	if err := json.Unmarshal([]byte(body), &u); err != nil || u.CPUCount < 1 || u.MemTotal == 0 || u.DiskTotal == 0 || u.Timestamp == 0 || u.MemUsed > u.MemTotal {
		t.Error(body, err)
	}
}

func TestBrowsersMayCall(t *testing.T) {
	m := newMachine(t)
	m.do("POST", "/init", `{"accessToken":"token"}`)
	status, _, h := m.do("OPTIONS", "/files", "", "Origin", "https://example.org", "Access-Control-Request-Headers", "x-access-token")
	if status != 204 || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Headers") != "x-access-token" {
		t.Error(status, h)
	}
}

// dialTunnel asks for a tunnel and returns the connection and the answer.
func (m *machine) dialTunnel(port int, control string) (net.Conn, *bufio.Reader, *http.Response) {
	m.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(m.url, "http://"))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET %s?port=%d HTTP/1.1\r\nHost: guest\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s: %s\r\n\r\nearly ", wire.TunnelPath, port, wire.TunnelProtocol, wire.ControlHeader, control)
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	return conn, reader, response
}

func TestTunnel(t *testing.T) {
	m := newMachine(t)
	m.do("POST", "/init", `{"controlToken":"secret"}`)
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			data, _ := io.ReadAll(conn) // until the client's half is closed
			fmt.Fprintf(conn, "got %s", data)
		}()
		port := listener.Addr().(*net.TCPAddr).Port
		if _, _, refused := m.dialTunnel(port, ""); refused.StatusCode != 401 {
			t.Error("without the control token:", refused.StatusCode)
		}
		conn, reader, response := m.dialTunnel(port, "secret")
		if response.StatusCode != 101 {
			t.Fatal(response.Status)
		}
		io.WriteString(conn, "late")
		conn.(*net.TCPConn).CloseWrite()
		if data, err := io.ReadAll(reader); err != nil || string(data) != "got early late" {
			t.Errorf("%s: %q, %v", address, data, err)
		}
	}
	listener, _ := net.Listen("tcp", "127.0.0.1:0")
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	if _, _, response := m.dialTunnel(port, "secret"); response.StatusCode != 502 || response.Header.Get("Content-Type") != "application/json" {
		t.Error("closed port:", response.Status)
	}
}

func TestUnknownRoutesAreTheHosts(t *testing.T) {
	m := newMachine(t)
	m.do("POST", "/init", `{"controlToken":"secret"}`)
	if status, _, _ := m.do("GET", "/debug/pprof", ""); status != 401 {
		t.Error(status)
	}
	if status, _, _ := m.do("GET", "/nothing", "", wire.ControlHeader, "secret"); status != 404 {
		t.Error(status)
	}
}
