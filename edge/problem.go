package edge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/atoll-cloud/atoll/machine"
)

// problem is an answer of the edge's own. The JSON fields and the wording of
// "was not found" and "port is not open" are E2B's: published SDKs read them.
type problem struct {
	SandboxID string `json:"sandboxId,omitempty"`
	Message   string `json:"message"`
	Port      int    `json:"port,omitempty"`
	Code      int    `json:"code"`

	Title string   `json:"-"` // the page's heading
	Steps []string `json:"-"` // what the reader can do
}

func problemNotFound(t target) *problem {
	return &problem{
		SandboxID: t.id, Code: http.StatusBadGateway,
		Message: "The sandbox was not found",
		Title:   "This sandbox is not running",
		Steps: []string{
			"It has ended, or there never was one with this id: check the address.",
			"Sandboxes end when their time-out passes. Create a new one, with a longer time-out if need be, and use the address that it gives you.",
		},
	}
}

// problemPaused is read by SDKs as problemNotFound is, for the words that both
// have: a paused sandbox is not running.
func problemPaused(t target) *problem {
	return &problem{
		SandboxID: t.id, Code: http.StatusBadGateway,
		Message: "The sandbox was not found running, for it is paused: resume it with connect",
		Title:   "This sandbox is paused",
		Steps: []string{
			"It keeps its memory and its files, and goes on where it stopped once its owner resumes it.",
			"If it is yours, resume it with connect and load this page again. A sandbox that was created with automatic resuming wakes by itself when it is visited.",
		},
	}
}

// problemImage is about a memory image that cannot be restored, for the reason
// that follows kind in err.
func problemImage(t target, err, kind error) *problem {
	why := sentence(err, kind)
	return &problem{
		SandboxID: t.id, Code: http.StatusInternalServerError,
		Message: "The sandbox cannot wake up: " + why + "; resumed with a reboot, it starts from its disk without its memory",
		Title:   "This sandbox cannot wake up",
		Steps: []string{
			"Its memory cannot be restored: " + why + ".",
			"If it is yours, resume it with a reboot: it then starts from its disk, with its files and without the programs that ran.",
		},
	}
}

// problemLimit is about a sandbox that its team has no room for.
func problemLimit(t target, err error) *problem {
	return &problem{
		SandboxID: t.id, Code: http.StatusTooManyRequests,
		Message: "The sandbox is paused and cannot wake up now: " + sentence(err, machine.ErrLimit) + "; end or pause another one first",
		Title:   "This sandbox cannot wake up now",
		Steps: []string{
			"It is paused, and its owner has as many sandboxes running as are allowed at once.",
			"If it is yours, end or pause another one and load this page again.",
		},
	}
}

// sentence is what an error says to users: the first line of what follows the
// kind that it is of. Before that stands where it happened, which is for logs.
func sentence(err, kind error) string {
	text := err.Error()
	if _, after, ok := strings.Cut(text, kind.Error()+": "); ok {
		text = after
	}
	text, _, _ = strings.Cut(text, "\n")
	return text
}

func problemPortClosed(t target) *problem {
	return &problem{
		SandboxID: t.id, Port: t.port, Code: http.StatusBadGateway,
		Message: "The sandbox is running but port is not open",
		Title:   "Nothing listens on port " + strconv.Itoa(t.port),
		Steps: []string{
			"The sandbox is running, but no program in it listens on this port.",
			"Start the server in the sandbox, or wait until it is up, and load this page again.",
			"Check that the server uses the port in this page's address.",
		},
	}
}

func problemSilent(t target) *problem {
	return &problem{
		SandboxID: t.id, Port: t.port, Code: http.StatusBadGateway,
		Message: "The sandbox did not accept the connection in time",
		Title:   "No answer from port " + strconv.Itoa(t.port),
		Steps:   []string{"The sandbox did not accept the connection in time. It may be very busy: try again shortly."},
	}
}

func problemBroken(t target) *problem {
	return &problem{
		SandboxID: t.id, Port: t.port, Code: http.StatusBadGateway,
		Message: "The service in the sandbox closed the connection or did not answer with HTTP",
		Title:   "Port " + strconv.Itoa(t.port) + " did not answer properly",
		Steps: []string{
			"A program listens on this port, but it closed the connection or sent something that is not HTTP.",
			"Look at the program's output in the sandbox. Servers that expect TLS must be told to serve plain HTTP.",
		},
	}
}

func problemUnavailable(t target) *problem {
	return &problem{
		SandboxID: t.id, Code: http.StatusServiceUnavailable,
		Message: "The sandbox cannot be reached at the moment: try again",
		Title:   "This sandbox is not ready",
		Steps:   []string{"It is starting, or is being moved. Load this page again in a moment."},
	}
}

func problemTooMany(t target, limit int64) *problem {
	return &problem{
		SandboxID: t.id, Port: t.port, Code: http.StatusTooManyRequests,
		Message: fmt.Sprintf("The sandbox has %d requests open, the most it may have: end some or try again later", limit),
		Title:   "Too many requests at once",
		Steps:   []string{fmt.Sprintf("This sandbox has %d requests open, the most it may have. Try again shortly.", limit)},
	}
}

func problemToken(t target, what string) *problem {
	return &problem{
		SandboxID: t.id, Port: t.port, Code: http.StatusForbidden,
		Message: "Sandbox is secured with traffic access token: the header '" + strings.ToLower(headerTrafficToken) + "' " + what,
		Title:   "This sandbox is private",
		Steps:   []string{"Requests to it need the header " + strings.ToLower(headerTrafficToken) + " with the sandbox's traffic access token, which whoever created the sandbox has."},
	}
}

func problemControlRoute(t target) *problem {
	return &problem{
		SandboxID: t.id, Port: t.port, Code: http.StatusNotFound,
		Message: "This path does not exist or is reserved for the host: it cannot be reached through the sandbox's address",
		Title:   "There is nothing here",
		Steps:   []string{"This port belongs to the daemon that the SDKs talk to. Programs of your own are reached by their own port in the address."},
	}
}

func problemMethod(t target) *problem {
	return &problem{
		SandboxID: t.id, Port: t.port, Code: http.StatusMethodNotAllowed,
		Message: "CONNECT does not reach sandboxes: use a WebSocket, or forward the port with the command line",
		Title:   "CONNECT does not reach sandboxes",
		Steps:   []string{"Use a WebSocket, or forward the port with the command line."},
	}
}

func problemBadTarget(err error) *problem {
	return &problem{
		Code:    http.StatusBadRequest,
		Message: "This is not the address of a sandbox: " + err.Error(),
		Title:   "This is not the address of a sandbox",
		Steps:   []string{"Addresses have the form <port>-<sandbox id>.<domain>: " + err.Error() + "."},
	}
}

// answerProblem writes a problem as a page to people and as JSON to programs.
// A page may be shown in a frame: people see their programs in the frames of
// tools, and there is nothing to press on it.
func answerProblem(w http.ResponseWriter, r *http.Request, p *problem) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*") // let programs in browsers read the reason
	if wantsPage(r) {
		if err := answerPage(w, r, p.Code, problemPage, p, "; form-action 'none'"); err != nil {
			http.Error(w, p.Message, p.Code)
		}
		return
	}
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(p); err != nil {
		http.Error(w, p.Message, p.Code)
		return
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	answerBody(w, r, p.Code, body.Bytes())
}

// wantsPage reports whether a person looks at the answer: a browser that loads
// a page, as against a program in a page that fetches.
func wantsPage(r *http.Request) bool {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" && mode != "navigate" {
		return false
	}
	for _, accept := range r.Header["Accept"] {
		for part := range strings.SplitSeq(accept, ",") {
			kind, _, _ := strings.Cut(part, ";")
			switch strings.ToLower(strings.TrimSpace(kind)) {
			case "text/html", "application/xhtml+xml":
				return true
			case "application/json":
				return false
			}
		}
	}
	return false
}
