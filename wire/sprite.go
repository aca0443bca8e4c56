package wire

const (
	// SpritePath is where the guest daemon serves what the Sprites API offers
	// of one sprite: SpritePath + "exec" answers /v1/sprites/{name}/exec. The
	// host forwards such requests with ControlHeader and otherwise as they are.
	SpritePath = "/sprite/"

	// SpriteURLPortPath answers a URLPort: where requests to the sprite's URL go.
	SpriteURLPortPath = SpritePath + "url-port"

	// SpritePolicyPath takes (PUT) the network policy as the Sprites API writes
	// it, when it has changed; see SpriteInit.Policy.
	SpritePolicyPath = SpritePath + "policy/network"

	// CallsPath upgrades a connection (Upgrade: CallsProtocol) on which the
	// roles are then reversed: the daemon is the client of HTTP/2 and the host
	// serves the routes below to this one machine. A new connection replaces
	// the former.
	CallsPath     = "/atoll/calls"
	CallsProtocol = "atoll-calls"

	// CallInfo (GET) answers a SpriteInfo.
	CallInfo = "/info"
	// CallActivity (PUT) takes an Activity.
	CallActivity = "/activity"
	// CallCheckpoint (POST) and CallCheckpoints (GET; with an id GET, DELETE,
	// and POST …/restore) are those of the Sprites API for this sprite.
	CallCheckpoint  = "/checkpoint"
	CallCheckpoints = "/checkpoints"
	// CallOrgs (GET) lists the organisations of the sprite's team.
	// Below it, with an organisation first, is the Sprites API itself, which the
	// sprite may use if it was allowed to: /orgs/{org}/sprites… is
	// /v1/sprites…, whoever asks being the sprite's team.
	CallOrgs = "/orgs"
	// CallUpgradeHeader marks a request that asked for a WebSocket.
	CallUpgradeHeader = "Atoll-Upgrade"
	// CallPolicy (GET) answers the network policy in force.
	CallPolicy = "/policy/network"
)

// URLPort is where requests to a sprite's URL go.
type URLPort struct {
	Port int `json:"port"`
	// Service is the one that holds the port; empty if none does.
	Service string `json:"service,omitempty"`
}

// Activity says that a machine is in use though no request is open to it.
type Activity struct {
	Until string `json:"until"` // RFC 3339
}

// SpriteInfo is what a sprite may know of itself.
type SpriteInfo struct {
	Version string `json:"version"`
	Name    string `json:"sprite_name"`
	URL     string `json:"sprite_url"`
	ID      string `json:"sprite_id"`
	Org     string `json:"org"`
}

// SpriteInit is the part of Init for machines that are sprites.
type SpriteInit struct {
	Name string `json:"name"`
	// Policy is the network policy in force, as the Sprites API writes it; it is
	// shown at /.sprite/policy/network.json.
	Policy string `json:"policy,omitempty"`
	// Fresh says why the machine had to start from its disk though it was
	// asleep with its memory; empty otherwise.
	Fresh string `json:"fresh,omitempty"`
}
