// Package door is what the doors have in common: reading what a request carries
// and writing answers. The shape of its errors is each door's own.
package door

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// WriteJSON answers with v. Its error says that v cannot be encoded, before
// anything was written.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) // an error means that the client left
	return nil
}

// NoContent answers that all is well, and nothing else.
func NoContent(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// Clip keeps hostile input from filling logs and error messages.
func Clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > 96 {
		return strings.ToValidUTF8(s[:96], "") + "…"
	}
	return s
}

// Sentence is what an error says to users: what follows the kind that it is
// of. Before that stands where it happened, which is for logs.
func Sentence(err, kind error) string {
	if _, after, ok := strings.Cut(err.Error(), kind.Error()+": "); ok {
		return after
	}
	return err.Error()
}
