package e2b

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/api/door"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/observe"
)

const (
	defaultTimeoutV1 = 15 * time.Second
	defaultTimeoutV2 = 300 * time.Second

	maxEntries = 512      // of metadata, and of environment variables
	maxMapSize = 64 << 10 // bytes of keys and values together
)

// Keys of machine.Machine.Door: what the door must give back and the engine
// does not know.
const (
	doorInternet    = "e2b.internet"    // allow_internet_access as asked: "true" or "false"
	doorIdempotency = "e2b.idempotency" // see idempotency.go
	doorBody        = "e2b.body"
)

// templateRule accepts ids, names, namespaced names and tags.
var templateRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:-]{0,255}$`)

// newSandbox is the body of a create request. Fields that are only looked at
// to refuse them are raw JSON.
type newSandbox struct {
	TemplateID          string            `json:"templateID"`
	Timeout             *int32            `json:"timeout"`
	Secure              *bool             `json:"secure"`
	AllowInternetAccess *bool             `json:"allow_internet_access"`
	Network             *networkConfig    `json:"network"`
	Metadata            map[string]string `json:"metadata"`
	EnvVars             map[string]string `json:"envVars"`

	AutoPause       bool  `json:"autoPause"`
	AutoPauseMemory *bool `json:"autoPauseMemory"` // of no effect without autoPause
	AutoResume      *struct {
		Enabled *bool `json:"enabled"`
	} `json:"autoResume"`
	MCP          json.RawMessage   `json:"mcp"`
	IAM          json.RawMessage   `json:"iam"`
	VolumeMounts []json.RawMessage `json:"volumeMounts"`
}

// createV1 is what older SDKs send: a sandbox is only secure if they ask.
func (d *Door) createV1(w http.ResponseWriter, r *http.Request, c caller) error {
	return d.create(w, r, c, false, defaultTimeoutV1)
}

// createV2 is what present SDKs send: every sandbox is secure.
func (d *Door) createV2(w http.ResponseWriter, r *http.Request, c caller) error {
	return d.create(w, r, c, true, defaultTimeoutV2)
}

func (d *Door) create(w http.ResponseWriter, r *http.Request, c caller, secure bool, timeout time.Duration) error {
	raw, err := door.ReadBody(w, r)
	if err != nil {
		return err
	}
	var body newSandbox
	if err := d.parse(r, raw, &body, false); err != nil {
		return err
	}
	spec, err := d.createSpec(body, c, secure, timeout)
	if err != nil {
		return err
	}
	m, err := d.createOnce(r, c, raw, spec)
	if err != nil {
		return err
	}
	observe.SetMachine(r.Context(), m.ID)
	return door.WriteJSON(w, http.StatusCreated, d.sandbox(m))
}

// createSpec checks a create request and translates it for the engine.
func (d *Door) createSpec(body newSandbox, c caller, secure bool, timeout time.Duration) (machine.CreateSpec, error) {
	spec := machine.CreateSpec{
		Team: c.team.ID, MaxConcurrent: c.team.MaxConcurrent,
		Metadata: body.Metadata, Env: body.EnvVars, Door: map[string]string{},
	}
	if body.TemplateID == "" {
		return spec, invalid(`templateID is missing: name a template, for example "base"`)
	}
	if !templateRule.MatchString(body.TemplateID) {
		return spec, invalid("templateID %q is not a template id or name", door.Clip(body.TemplateID))
	}
	spec.Template = c.localRef(body.TemplateID)
	if err := c.mayStart(); err != nil {
		return spec, err
	}
	if err := checkLater(body); err != nil {
		return spec, err
	}
	var err error
	if spec.Lifecycle, err = body.lifecycle(); err != nil {
		return spec, err
	}
	if spec.Timeout, err = d.timeout("timeout", body.Timeout, timeout); err != nil {
		return spec, err
	}
	if err := checkMap("metadata", body.Metadata); err != nil {
		return spec, err
	}
	if err := checkEnv(body.EnvVars); err != nil {
		return spec, err
	}
	if spec.Network, err = body.Network.policy(body.AllowInternetAccess); err != nil {
		return spec, err
	}
	if secure || body.Secure != nil && *body.Secure {
		spec.AccessToken = newToken()
	}
	if n := body.Network; n != nil && n.AllowPublicTraffic != nil && !*n.AllowPublicTraffic {
		spec.TrafficToken = newToken()
	}
	if allow := body.AllowInternetAccess; allow != nil {
		spec.Door[doorInternet] = boolWord(*allow)
	}
	return spec, nil
}

// timeout checks a number of seconds. 0 means no end, where the operator
// allows that.
func (d *Door) timeout(field string, seconds *int32, absent time.Duration) (time.Duration, error) {
	longest := d.engine.MaxTimeout()
	if seconds == nil {
		if longest > 0 {
			return min(absent, longest), nil
		}
		return absent, nil
	}
	t := time.Duration(*seconds) * time.Second
	switch {
	case t < 0:
		return 0, invalid("%s is %d: give a number of seconds that is not negative", field, *seconds)
	case t == 0 && longest > 0:
		return 0, invalid("%s is 0: sandboxes without an end are not allowed on this server; give 1 to %d seconds", field, int(longest.Seconds()))
	case longest > 0 && t > longest:
		return 0, invalid("%s is %d: a sandbox on this server may live for %d seconds at most", field, *seconds, int(longest.Seconds()))
	}
	return t, nil
}

// checkMap bounds what is stored with a sandbox.
func checkMap(field string, m map[string]string) error {
	size := 0
	for k, v := range m {
		if k == "" {
			return invalid("%s has an empty key", field)
		}
		if strings.ContainsRune(k, 0) || strings.ContainsRune(v, 0) {
			return invalid("%s: the entry %q contains a zero byte", field, door.Clip(k))
		}
		size += len(k) + len(v)
	}
	if len(m) > maxEntries || size > maxMapSize {
		return invalid("%s has %d entries and %d bytes; at most %d and %d are allowed", field, len(m), size, maxEntries, maxMapSize)
	}
	return nil
}

func checkEnv(env map[string]string) error {
	for k := range env {
		if strings.Contains(k, "=") {
			return invalid(`envVars: the name %q contains "="`, door.Clip(k))
		}
	}
	return checkMap("envVars", env)
}

// newToken returns 160 random bits.
func newToken() string {
	var b [20]byte
	rand.Read(b[:]) // ends the program rather than fail
	return hex.EncodeToString(b[:])
}

func boolWord(b bool) string {
	if b {
		return "true"
	}
	return "false"
}
