package sprites

import (
	"fmt"
	"strings"
	"testing"

	"github.com/atoll-cloud/atoll/machine"
)

// Clients know sprites by their names, not by the ids of machines.
func TestErrorsCallSpritesByName(t *testing.T) {
	w := newWorld(t)
	w.create("web")
	w.engine.keepWith = fmt.Errorf("keep: %w: machine %q is stored", machine.ErrConflict, "i1")
	if a := w.do("POST", "/v1/sprites/web/checkpoint", ""); !strings.Contains(a.body, `sprite \"web\" is stored`) || strings.Contains(a.body, "i1") {
		t.Errorf("a stream: %s", a.body)
	}
	m := machine.Machine{ID: "i1", Name: "web"}
	err := asText(fmt.Errorf("%w: machine %q has no checkpoint %q", machine.ErrNotFound, "i1", "v9"))
	if p := problemOf(byName(err, m)); p.Message != `sprite "web" has no checkpoint "v9"` || !p.plain || p.status != 404 {
		t.Errorf("%+v", p)
	}
	if err := fmt.Errorf("disk i1 is gone"); byName(err, m) != err || byName(nil, m) != nil {
		t.Error("what users do not see was changed")
	}
}
