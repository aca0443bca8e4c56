package e2b

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/atoll-cloud/atoll/api/door"
)

// decode reads a JSON object into v. An empty body leaves v as it is if that
// is allowed. Fields that v does not have are ignored, as E2B does, and named
// in the log at debug.
func (d *Door) decode(w http.ResponseWriter, r *http.Request, v any, optional bool) error {
	body, err := door.ReadBody(w, r)
	if err != nil {
		return err
	}
	return d.parse(r, body, v, optional)
}

func (d *Door) parse(r *http.Request, body []byte, v any, optional bool) error {
	if len(body) == 0 {
		if optional {
			return nil
		}
		return invalid("the request has no body; send a JSON object")
	}
	if err := door.ParseObject(body, v); err != nil {
		return err
	}
	if d.logger.Enabled(r.Context(), slog.LevelDebug) {
		strict := json.NewDecoder(bytes.NewReader(body))
		strict.DisallowUnknownFields()
		if err := strict.Decode(v); err != nil {
			d.logger.Debug("request has a field that is ignored", "path", door.Clip(r.URL.Path), "detail", door.Clip(err.Error()))
		}
	}
	return nil
}
