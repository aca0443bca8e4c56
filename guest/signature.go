package guest

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/atoll-cloud/atoll/wire"
)

// checkSignature lets a file request pass that carries the access token or a
// URL signed with it. operation is "read" or "write".
func checkSignature(r *http.Request, query url.Values, token, operation string, now time.Time) error {
	if token == "" || r.Header.Get(wire.AccessTokenHeader) != "" {
		return nil // nothing to prove, or proved before the handler
	}
	given := query.Get("signature")
	if given == "" {
		return withStatus(http.StatusUnauthorized, errors.New("missing signature query parameter or access token"))
	}
	expires := query.Get("signature_expiration")
	want := sign(query.Get("path"), operation, query.Get("username"), token, expires)
	if !sameSecret(given, want) {
		return withStatus(http.StatusUnauthorized, errors.New("invalid signature"))
	}
	if expires == "" {
		return nil
	}
	end, err := strconv.ParseInt(expires, 10, 64)
	if err != nil {
		return withStatus(http.StatusUnauthorized, fmt.Errorf("signature_expiration: %w", err))
	}
	if now.Unix() > end {
		return withStatus(http.StatusUnauthorized, errors.New("signature is already expired"))
	}
	return nil
}

// sign computes the first version of SDKs' URL signatures.
func sign(path, operation, user, token, expires string) string {
	text := path + ":" + operation + ":" + user + ":" + token
	if expires != "" {
		text += ":" + expires
	}
	sum := sha256.Sum256([]byte(text))
	return "v1_" + base64.RawStdEncoding.EncodeToString(sum[:])
}
