package e2b

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
)

// maxBody bounds the body of a request, in bytes.
const maxBody = 1 << 20

// readBody returns the body of a request. Its declared type is not looked at:
// clients get it wrong and only JSON is ever meant.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, fail(http.StatusRequestEntityTooLarge, "the request body is larger than %d bytes", maxBody)
	}
	if err != nil {
		return nil, invalid("the request body could not be read: %v", err)
	}
	return body, nil
}

// decode reads a JSON object into v. An empty body leaves v as it is if that
// is allowed. Fields that v does not have are ignored, as E2B does, and named
// in the log at debug.
func (d *Door) decode(w http.ResponseWriter, r *http.Request, v any, optional bool) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	return d.parse(r, body, v, optional)
}

func (d *Door) parse(r *http.Request, body []byte, v any, optional bool) error {
	trimmed := bytes.TrimSpace(body)
	if len(trimmed) == 0 {
		if optional {
			return nil
		}
		return invalid("the request has no body; send a JSON object")
	}
	if trimmed[0] != '{' {
		return invalid("the request body must be a JSON object")
	}
	if err := json.Unmarshal(trimmed, v); err != nil {
		return jsonProblem(err)
	}
	if d.logger.Enabled(r.Context(), slog.LevelDebug) {
		strict := json.NewDecoder(bytes.NewReader(trimmed))
		strict.DisallowUnknownFields()
		if err := strict.Decode(v); err != nil {
			d.logger.Debug("request has a field that is ignored", "path", clip(r.URL.Path), "detail", clip(err.Error()))
		}
	}
	return nil
}

// jsonProblem says in a sentence what is wrong with a body.
func jsonProblem(err error) error {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		field := wrongType.Field
		if field == "" {
			field = "the body"
		}
		return invalid("%s must be %s, not a JSON %s", clip(field), kindName(wrongType), clip(wrongType.Value))
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return invalid("the request body is not valid JSON: %v (at byte %d)", syntax, syntax.Offset)
	}
	return invalid("the request body is not valid JSON: %s", clip(err.Error()))
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
	return fmt.Sprintf("a %s", name)
}
