package gvisor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// ImageKey says where a checkpoint can be restored: only where it is the same.
// It stands for the version of gVisor and the features of the CPU, which a
// guest was told and relies on. Every checkpoint carries it.
func (r *Runtime) ImageKey() string { return r.key }

// ImageKeyOf is the ImageKey of guests that run on the helper binaries in
// binDir (see Spec.BinDir). It is ErrIncompatible if they are not there.
func (r *Runtime) ImageKeyOf(binDir string) (string, error) {
	return r.imageKeyOf(context.Background(), binDir)
}

func (r *Runtime) imageKeyOf(ctx context.Context, binDir string) (string, error) {
	h, release, err := r.helpersOf(binDir)
	if err != nil {
		return "", err
	}
	defer release()
	return h.imageKey(ctx)
}

// imageKey makes the key from the version of gVisor and what this host is.
func imageKey(version string) (string, error) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", fmt.Errorf("read CPU features: %w", err)
	}
	features := sha256.Sum256(cpuFeatures(info))
	return version + "-" + runtime.GOARCH + "-" + hex.EncodeToString(features[:6]), nil
}

// compareKeys explains in which way a checkpoint does not fit, as
// ErrIncompatible.
func compareKeys(image, ours string) error {
	if image == ours {
		return nil
	}
	imageVersion, imageCPU := cutKey(image)
	version, cpu := cutKey(ours)
	if imageVersion != version {
		return fmt.Errorf("%w: it was written by gVisor %s, and this is gVisor %s", ErrIncompatible, imageVersion, version)
	}
	return fmt.Errorf("%w: it was written on a processor with other features (%s) than this one has (%s)", ErrIncompatible, imageCPU, cpu)
}

// cutKey undoes imageKey: the version, and the architecture with the features.
func cutKey(key string) (version, cpu string) {
	at := strings.LastIndexByte(key, '-')
	if at < 0 {
		return key, ""
	}
	if at = strings.LastIndexByte(key[:at], '-'); at < 0 {
		return key, ""
	}
	return key[:at], key[at+1:]
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
