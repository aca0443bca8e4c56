package doortest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/atoll-cloud/atoll/client"
)

// Picture is what the fake interpreter shows as a PNG: the eight bytes that
// every one begins with, in base64.
const Picture = "iVBORw0KGgo="

// Kernel is a code interpreter with a language of its own. Each line of its
// code is a word and an argument: out and err print, text gives a result, show
// displays one as a picture and an SVG, raw writes a line of the protocol,
// raise fails, wait runs until its client goes, cut breaks the connection.
type Kernel struct {
	// Waiting gets a value when code waits.
	Waiting chan struct{}
	// Interrupted gets a value when the client of code that waits has gone.
	Interrupted chan struct{}

	mu       sync.Mutex
	count    int
	made     int
	contexts []client.CodeContext
	ran      []Ran
}

// Ran is one request to run code.
type Ran struct {
	Code      string            `json:"code"`
	ContextID string            `json:"context_id"`
	Language  string            `json:"language"`
	Env       map[string]string `json:"env_vars"`
}

// NewKernel returns an interpreter for a Door.
func NewKernel() *Kernel {
	return &Kernel{Waiting: make(chan struct{}, 16), Interrupted: make(chan struct{}, 16)}
}

// Ran is what was run, in order.
func (k *Kernel) Ran() []Ran {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.ran)
}

func (k *Kernel) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /execute", k.execute)
	mux.HandleFunc("GET /contexts", func(w http.ResponseWriter, _ *http.Request) {
		k.mu.Lock()
		defer k.mu.Unlock()
		reply(w, 200, append([]client.CodeContext{}, k.contexts...))
	})
	mux.HandleFunc("POST /contexts", k.create)
	mux.HandleFunc("DELETE /contexts/{id}", func(w http.ResponseWriter, r *http.Request) {
		if k.known(w, r.PathValue("id")) {
			k.mu.Lock()
			k.contexts = slices.DeleteFunc(k.contexts, func(c client.CodeContext) bool { return c.ID == r.PathValue("id") })
			k.mu.Unlock()
			w.WriteHeader(http.StatusNoContent)
		}
	})
	mux.HandleFunc("POST /contexts/{id}/restart", func(w http.ResponseWriter, r *http.Request) {
		if k.known(w, r.PathValue("id")) {
			w.WriteHeader(http.StatusNoContent)
		}
	})
	mux.ServeHTTP(w, r)
}

func (k *Kernel) create(w http.ResponseWriter, r *http.Request) {
	var n client.NewCodeContext
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if n.Language == "" {
		n.Language = "python"
	}
	k.made++
	c := client.CodeContext{ID: fmt.Sprintf("c%d", k.made), Language: n.Language, Cwd: n.Cwd}
	k.contexts = append(k.contexts, c)
	reply(w, 200, c)
}

// known refuses contexts that are not there.
func (k *Kernel) known(w http.ResponseWriter, id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.ContainsFunc(k.contexts, func(c client.CodeContext) bool { return c.ID == id }) {
		return true
	}
	http.Error(w, fmt.Sprintf("no such context: %q", id), http.StatusNotFound)
	return false
}

func (k *Kernel) execute(w http.ResponseWriter, r *http.Request) {
	var in Ran
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if in.Language == "cobol" {
		http.Error(w, `no kernel for the language "cobol"`, http.StatusNotFound)
		return
	}
	if in.ContextID != "" && !k.known(w, in.ContextID) {
		return
	}
	k.mu.Lock()
	k.count++
	count := k.count
	k.ran = append(k.ran, in)
	k.mu.Unlock()
	line := func(v map[string]any) {
		json.NewEncoder(w).Encode(v)
		http.NewResponseController(w).Flush()
	}
	line(map[string]any{"type": "number_of_executions", "execution_count": count})
	for code := bufio.NewScanner(strings.NewReader(in.Code)); code.Scan(); {
		word, rest, _ := strings.Cut(code.Text(), " ")
		switch word {
		case "out":
			line(map[string]any{"type": "stdout", "text": rest + "\n"})
		case "err":
			line(map[string]any{"type": "stderr", "text": rest + "\n"})
		case "text":
			line(map[string]any{"type": "result", "is_main_result": true, "text": rest, "html": "<b>" + rest + "</b>"})
		case "show":
			line(map[string]any{"type": "result", "is_main_result": false, "text": "<Figure>", "png": Picture, "svg": "<svg/>", "chart": map[string]any{"type": "line"}})
		case "raw":
			fmt.Fprintln(w, rest)
		case "raise":
			line(map[string]any{"type": "error", "name": "Oops", "value": rest, "traceback": "Traceback:\nOops: " + rest})
			line(map[string]any{"type": "end_of_execution"})
			return
		case "wait":
			http.NewResponseController(w).Flush()
			k.Waiting <- struct{}{}
			<-r.Context().Done()
			k.Interrupted <- struct{}{}
			return
		case "cut":
			panic(http.ErrAbortHandler)
		}
	}
	line(map[string]any{"type": "end_of_execution"})
}
