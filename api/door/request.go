package door

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// MaxBody bounds the body of a request that a door reads itself, in bytes.
const MaxBody = 1 << 20

// Refusal is an error with the status that it is answered with.
type Refusal struct {
	Status  int
	Message string
}

// Error returns the message, which is for users.
func (r *Refusal) Error() string { return r.Message }

// Refuse makes a refusal.
func Refuse(status int, format string, args ...any) error {
	return &Refusal{Status: status, Message: fmt.Sprintf(format, args...)}
}

// Bearer returns the token of the header Authorization, or "".
func Bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// ReadBody returns the body of a request, without the white space around it.
// Its declared type is not looked at: clients get it wrong, and only JSON is
// ever meant. The error is a Refusal.
func ReadBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, Refuse(http.StatusRequestEntityTooLarge, "the request body is larger than %d bytes", MaxBody)
	}
	if err != nil {
		return nil, Refuse(http.StatusBadRequest, "the request body could not be read: %v", err)
	}
	return bytes.TrimSpace(body), nil
}

// ParseObject reads a JSON object into v. Fields that v does not have are
// ignored. The error is a Refusal.
func ParseObject(body []byte, v any) error {
	if !bytes.HasPrefix(body, []byte("{")) {
		return Refuse(http.StatusBadRequest, "the request body must be a JSON object")
	}
	err := json.Unmarshal(body, v)
	if err == nil {
		return nil
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := wrong.Field
		if field == "" {
			field = "the body"
		}
		return Refuse(http.StatusBadRequest, "%s must be %s, not a JSON %s", Clip(field), kindName(wrong), Clip(wrong.Value))
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return Refuse(http.StatusBadRequest, "the request body is not valid JSON: %v (at byte %d)", syntax, syntax.Offset)
	}
	return Refuse(http.StatusBadRequest, "the request body is not valid JSON: %s", Clip(err.Error()))
}

// kindName is the JSON name of a Go type.
func kindName(err *json.UnmarshalTypeError) string {
	name := err.Type.Kind().String()
	switch {
	case strings.HasPrefix(name, "int"), strings.HasPrefix(name, "uint"):
		return "a whole number within range"
	case name == "string":
		return "a string"
	case name == "bool":
		return "true or false"
	case name == "slice":
		return "a list"
	case name == "map", name == "struct":
		return "an object"
	}
	return "a " + name
}
