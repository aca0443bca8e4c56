package sprites

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
)

// maxBody bounds the body of a request that the door reads itself, in bytes.
const maxBody = 1 << 20

// decode reads a JSON object into v. An empty body leaves v as it is. Fields
// that v does not have are ignored, and the declared type of the body is not
// looked at, for only JSON is ever meant.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return fail(http.StatusRequestEntityTooLarge, "request_too_large", "the request body is larger than %d bytes", maxBody)
	}
	if err != nil {
		return invalid("the request body could not be read: %v", err)
	}
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return nil
	}
	if body[0] != '{' {
		return invalid("the request body must be a JSON object")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return jsonProblem(err)
	}
	return nil
}

// jsonProblem says in a sentence what is wrong with a body.
func jsonProblem(err error) error {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) && wrongType.Field != "" {
		return invalid("%s must not be a JSON %s", clip(wrongType.Field), clip(wrongType.Value))
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return invalid("the request body is not valid JSON: %v (at byte %d)", syntax, syntax.Offset)
	}
	return invalid("the request body is not valid JSON: %s", clip(err.Error()))
}

const (
	maxVariables = 512
	maxEnvSize   = 64 << 10 // bytes of names and values together

	maxLabels = 64
	maxLabel  = 128 // characters
)

// checkEnv bounds the variables that a sprite is created with.
func checkEnv(env map[string]string) error {
	size := 0
	for k, v := range env {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.ContainsRune(v, 0) {
			return invalid(`environment: %q is no name and value of a variable`, clip(k))
		}
		size += len(k) + len(v)
	}
	if len(env) > maxVariables || size > maxEnvSize {
		return invalid("environment has %d variables and %d bytes; at most %d and %d are allowed", len(env), size, maxVariables, maxEnvSize)
	}
	return nil
}

// checkLabels bounds the labels of a sprite.
func checkLabels(labels []string) error {
	if len(labels) > maxLabels {
		return invalid("labels has %d entries; at most %d are allowed", len(labels), maxLabels)
	}
	for _, l := range labels {
		if n := len([]rune(l)); n == 0 || n > maxLabel || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return invalid("labels: %q is not a label of 1 to %d characters", clip(l), maxLabel)
		}
	}
	return nil
}
