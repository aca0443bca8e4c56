// Package test proves the promises of the whole: a real server on real kernel
// parts, driven by the published SDKs, killed at bad moments, and attacked from
// inside its sandboxes. It holds only tests; test/bench measures.
package test
