package main

import (
	"os"
	"os/exec"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/atoll-cloud/atoll/client/doortest"
)

// TestMCPOverPipes starts the program as an agent does. The program is this
// test's own binary, which is atoll when asked for it by asAtoll.
func TestMCPOverPipes(t *testing.T) {
	_, d, _ := withKernel(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "mcp")
	cmd.Env = append(os.Environ(), asAtoll+"=1", "E2B_API_URL="+d.URL, "E2B_API_KEY="+doortest.APIKey, "ATOLL_DATA="+t.TempDir())
	cmd.Stderr = os.Stderr
	session, err := sdk.NewClient(&sdk.Implementation{Name: "agent"}, nil).Connect(t.Context(), &sdk.CommandTransport{Command: cmd}, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := session.CallTool(t.Context(), &sdk.CallToolParams{Name: "create_sandbox", Arguments: map[string]any{}})
	if err != nil || res.IsError || len(d.IDs()) != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	if err := session.Close(); err != nil { // its exit code, too
		t.Error(err)
	}
}

func TestMCPNeedsAServer(t *testing.T) {
	if got := (cli{}).run("mcp", "--data", "/nowhere"); got.code != codeFailed || got.out != "" {
		t.Errorf("%+v", got)
	}
}
