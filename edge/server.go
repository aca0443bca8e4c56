package edge

import (
	"log/slog"
	"net/http"
	"time"
)

// Server returns an HTTP server for h that speaks HTTP/1.1, HTTP/2 and, on
// connections without TLS, HTTP/2 by prior knowledge. It bounds the heads of
// requests and idle connections; bodies and answers may take as long as their
// two ends want, for streams and tunnels have no natural end.
func Server(h http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: 15 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    128 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 1000, // one SDK process runs all its commands over one connection
			SendPingTimeout:      30 * time.Second,
			PingTimeout:          15 * time.Second,
		},
	}
}
