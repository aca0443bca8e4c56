package image

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
)

// hashReader digests what is read through it.
type hashReader struct {
	r io.Reader
	h hash.Hash
}

func newHashReader(r io.Reader) *hashReader { return &hashReader{r, sha256.New()} }

func (h *hashReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.h.Write(p[:n])
	return n, err
}

func (h *hashReader) sum() string { return "sha256:" + hex.EncodeToString(h.h.Sum(nil)) }
