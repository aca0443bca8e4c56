package guest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/atoll-cloud/atoll/wire"
	fspb "github.com/atoll-cloud/atoll/wire/filesystem"
	processpb "github.com/atoll-cloud/atoll/wire/process"
)

func TestCopyEndsAllAuthority(t *testing.T) {
	for _, c := range []struct{ name, before, after string }{
		{"of a secure machine, secure", "old", "new"},
		{"of a secure machine, open", "old", ""},
		{"of an open machine, secure", "", "new"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			m.do("POST", "/init", fmt.Sprintf(`{"controlToken":"c1","accessToken":%q,"envVars":{"A":"1","ID":"one"}}`, c.before))
			path := url.QueryEscape(m.home + "/f")
			signed := "/files?path=" + path + "&signature=" + url.QueryEscape(sign(m.home+"/f", "write", "", "old", ""))
			for _, bad := range []struct{ control, body string }{
				{"c2", `{"copy":true,"controlToken":"c3"}`}, {"c1", `{"copy":true}`}, {"c1", `{"copy":true,"controlToken":"c1"}`},
			} {
				if status, _, _ := m.do("POST", "/init", bad.body, wire.ControlHeader, bad.control); status/100 != 4 {
					t.Error(bad, status)
				}
			}
			status, body, _ := m.do("POST", "/init", fmt.Sprintf(`{"copy":true,"controlToken":"c2","accessToken":%q,"envVars":{"ID":"two"}}`, c.after), wire.ControlHeader, "c1")
			if status != 204 {
				t.Fatal(status, body)
			}
			if status, _, _ := m.do("POST", "/init", "", wire.ControlHeader, "c1"); status != 401 {
				t.Error("the old control token:", status)
			}
			if c.after != "" {
				for _, token := range []string{"", "old"} {
					if status, _, _ := m.do("GET", "/envs", "", wire.AccessTokenHeader, token); status != 401 {
						t.Errorf("access token %q: %d", token, status)
					}
				}
				if status, _, _ := m.do("POST", signed, "x"); status != 401 {
					t.Error("a URL that was signed before:", status)
				}
			}
			if _, body, _ := m.do("GET", "/envs", "", wire.AccessTokenHeader, c.after); strings.TrimSpace(body) != `{"A":"1","ID":"two"}` {
				t.Error(body)
			}
		})
	}
}

func TestCopyHasNoPolledWatchers(t *testing.T) {
	m := newMachine(t)
	made, err := m.filesystem.CreateWatcher(deadline(t), connect.NewRequest(&fspb.CreateWatcherRequest{Path: m.home}))
	if err != nil {
		t.Fatal(err)
	}
	m.do("POST", "/init", `{"copy":true,"controlToken":"c"}`)
	_, err = m.filesystem.GetWatcherEvents(deadline(t), connect.NewRequest(&fspb.GetWatcherEventsRequest{WatcherId: made.Msg.GetWatcherId()}))
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Error(err)
	}
}

// TestRestoredEndsDeadConnections: whatever was open when a machine was stored
// ends, and what was started through it goes on.
func TestRestoredEndsDeadConnections(t *testing.T) {
	m := newMachine(t)
	m.server.connections.inside = func(net.Conn) bool { return false }
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	two := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	ctx := deadline(t)

	command := m.talk("/bin/sh", "-c", "echo ready; while read x; do echo got $x; done")
	command.line()
	tag := "terminal"
	terminal, err := m.process.Start(ctx, connect.NewRequest(&processpb.StartRequest{
		Process: &processpb.ProcessConfig{Cmd: "/bin/cat"}, Pty: &processpb.PTY{}, Tag: &tag,
	}))
	if err != nil || !terminal.Receive() {
		t.Fatal(err)
	}
	watching, err := m.filesystem.WatchDir(ctx, connect.NewRequest(&fspb.WatchDirRequest{Path: m.home}))
	if err != nil || !watching.Receive() {
		t.Fatal(err)
	}
	overTwo, err := two.Get(m.url + "/health")
	if err != nil {
		t.Fatal(err)
	}
	overTwo.Body.Close()
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	innerEnded := make(chan error, 1)
	go func() {
		conn, err := echo.Accept()
		if err == nil {
			_, err = io.Copy(io.Discard, conn)
			conn.Close()
		}
		innerEnded <- err
	}()
	tunnel, tunnelReader, response := m.dialTunnel(echo.Addr().(*net.TCPAddr).Port, "")
	if response.StatusCode != 101 {
		t.Fatal(response.Status)
	}
	_ = tunnel

	host, err := net.Dial("tcp", strings.TrimPrefix(m.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	reader := bufio.NewReader(host)
	for range 2 { // the connection that says so outlives it
		fmt.Fprintf(host, "POST /init HTTP/1.1\r\nHost: guest\r\nContent-Length: 17\r\n\r\n{\"restored\":true}")
		if answer, err := http.ReadResponse(reader, nil); err != nil || answer.StatusCode != 204 {
			t.Fatal(answer, err)
		}
	}
	if terminal.Receive() || watching.Receive() {
		t.Error("a stream went on")
	}
	if _, err := tunnelReader.ReadByte(); err == nil {
		t.Error("the tunnel went on")
	}
	<-innerEnded
	eventually(t, "nothing is left of the connections", func() bool {
		m.server.connections.mu.Lock()
		defer m.server.connections.mu.Unlock()
		return len(m.server.connections.open) == 1
	})
	for _, p := range m.server.table.all() {
		eventually(t, "nobody reads the output of a process", func() bool {
			p.out.mu.Lock()
			defer p.out.mu.Unlock()
			return len(p.out.readers) == 0
		})
	}

	// The processes are still there, by number and by tag.
	again, err := m.process.Connect(ctx, connect.NewRequest(&processpb.ConnectRequest{Process: selector(command.pid)}))
	if err != nil || !again.Receive() {
		t.Fatal(err)
	}
	m.send(selector(command.pid), &processpb.ProcessInput{Input: &processpb.ProcessInput_Stdin{Stdin: []byte("it\n")}})
	if !again.Receive() || string(again.Msg().GetEvent().GetData().GetStdout()) != "got it\n" {
		t.Error(again.Msg(), again.Err())
	}
	byTag := &processpb.ProcessSelector{Selector: &processpb.ProcessSelector_Tag{Tag: tag}}
	tty, err := m.process.Connect(ctx, connect.NewRequest(&processpb.ConnectRequest{Process: byTag}))
	if err != nil || !tty.Receive() {
		t.Fatal(err)
	}
	m.send(byTag, &processpb.ProcessInput{Input: &processpb.ProcessInput_Pty{Pty: []byte("echo\n")}})
	if !tty.Receive() || !strings.HasPrefix(string(tty.Msg().GetEvent().GetData().GetPty()), "echo") {
		t.Error(tty.Msg(), tty.Err())
	}
}

func (m *machine) send(to *processpb.ProcessSelector, input *processpb.ProcessInput) {
	m.t.Helper()
	if _, err := m.process.SendInput(deadline(m.t), connect.NewRequest(&processpb.SendInputRequest{Process: to, Input: input})); err != nil {
		m.t.Error(err)
	}
}

// TestSignedURLsFollowTheWallClock: a URL that was signed before a long sleep
// has expired after it.
func TestSignedURLsFollowTheWallClock(t *testing.T) {
	now := time.Now()
	expires := fmt.Sprint(now.Add(time.Hour).Unix())
	query := url.Values{"path": {"/f"}, "signature": {sign("/f", "read", "", "token", expires)}, "signature_expiration": {expires}}
	for sleep, ok := range map[time.Duration]bool{0: true, 24 * time.Hour: false} {
		r := &http.Request{Header: http.Header{}}
		if err := checkSignature(r, query, "token", "read", now.Add(sleep)); (err == nil) != ok {
			t.Error(sleep, err)
		}
	}
}
