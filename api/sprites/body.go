package sprites

import (
	"net/http"
	"strings"

	"github.com/atoll-cloud/atoll/api/door"
)

// decode reads a JSON object into v. An empty body leaves v as it is. Fields
// that v does not have are ignored.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := door.ReadBody(w, r)
	if err != nil || len(body) == 0 {
		return err
	}
	return door.ParseObject(body, v)
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
			return invalid(`environment: %q is no name and value of a variable`, door.Clip(k))
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
			return invalid("labels: %q is not a label of 1 to %d characters", door.Clip(l), maxLabel)
		}
	}
	return nil
}
