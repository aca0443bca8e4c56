package mcp

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	// Path is where agents connect over HTTP.
	Path = "/mcp"
	// maxBody bounds a request, in bytes: a file in base64 and what is around it.
	maxBody = 16 << 20
	// sessionLife is how long a session stays that nobody uses.
	sessionLife = time.Hour
	// endWithin is how long calls may take to end with the server.
	endWithin = 5 * time.Second
)

// Handler serves the protocol's streamable HTTP at Path to those who send the
// key as a bearer token.
func (s *Server) Handler(key string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(Path, sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return s.mcp },
		&sdk.StreamableHTTPOptions{SessionTimeout: sessionLife, MaxRequestBodyBytes: maxBody, PropagateRequestCancellation: true}))
	return guarded(key, mux)
}

// guarded lets only requests with the key through.
func guarded(key string, next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(key)) // of equal length, to be compared in constant time
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(strings.TrimSpace(token)))
		if key == "" || !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="atoll"`)
			http.Error(w, "send the API key: Authorization: Bearer e2b_…", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Serve answers agents on a listener until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener, key string) error {
	h := &http.Server{Handler: s.Handler(key), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
		defer cancel()
		for session := range s.mcp.Sessions() {
			session.Close() // or its stream would stay open
		}
		err := h.Shutdown(end)
		if errors.Is(err, context.DeadlineExceeded) {
			err = h.Close()
		}
		ended <- err
	})
	err := h.Serve(l)
	if stop() || !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve agents: %w", err)
	}
	return <-ended
}
