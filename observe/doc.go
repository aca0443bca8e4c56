// Package observe makes the server visible: one id per request, one line per
// request in the log, and Prometheus metrics whose number of series is bounded
// whatever clients and guests send.
package observe
