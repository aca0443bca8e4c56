package client

import (
	"context"
	"net/http"
	"time"
)

// Mask is how a secret is shown once it can no longer be read.
type Mask struct {
	Prefix            string `json:"prefix"`
	ValueLength       int    `json:"valueLength"`
	MaskedValuePrefix string `json:"maskedValuePrefix"`
	MaskedValueSuffix string `json:"maskedValueSuffix"`
}

func (m Mask) String() string {
	return m.Prefix + m.MaskedValuePrefix + "..." + m.MaskedValueSuffix
}

// APIKey is a team's key. Key itself is known only in the answer to CreateKey.
type APIKey struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Key       string     `json:"key,omitempty"`
	Mask      Mask       `json:"mask"`
	CreatedAt time.Time  `json:"createdAt"`
	LastUsed  *time.Time `json:"lastUsed,omitempty"`
}

// Keys lists the team's API keys.
func (c *Client) Keys(ctx context.Context) ([]APIKey, error) {
	return fetch[[]APIKey](ctx, c, call{method: http.MethodGet, path: []string{"api-keys"}})
}

// CreateKey makes a key. Its value is in the answer and nowhere else.
func (c *Client) CreateKey(ctx context.Context, name string) (APIKey, error) {
	in := struct {
		Name string `json:"name"`
	}{name}
	return fetch[APIKey](ctx, c, call{method: http.MethodPost, path: []string{"api-keys"}, in: in})
}

// DeleteKey makes a key worthless.
func (c *Client) DeleteKey(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: []string{"api-keys", id}})
	return err
}
