package gvisor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// ImageKey says where a checkpoint can be restored: only where it is the same.
// It stands for the version of gVisor and the features of the CPU, which a
// guest was told and relies on. Store it with every checkpoint.
func (r *Runtime) ImageKey() string { return r.key }

func (r *Runtime) imageKey(ctx context.Context) (string, error) {
	resp, err := r.controlCall(ctx, &protocol.Request{Op: protocol.OpVersion})
	if err != nil {
		return "", fmt.Errorf("ask for the version of gVisor: %w", err)
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", fmt.Errorf("read CPU features: %w", err)
	}
	features := sha256.Sum256(cpuFeatures(info))
	return resp.Version + "-" + runtime.GOARCH + "-" + hex.EncodeToString(features[:6]), nil
}

// cpuFeatures picks the lines of /proc/cpuinfo that tell what the first CPU
// can do, and leaves out those that change, such as its clock.
func cpuFeatures(info []byte) []byte {
	first, _, _ := bytes.Cut(info, []byte("\n\n"))
	var features []byte
	for line := range bytes.Lines(first) {
		name, _, _ := bytes.Cut(line, []byte(":"))
		switch string(bytes.TrimSpace(name)) {
		case "vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features":
			features = append(features, line...)
		}
	}
	return features
}
