package client_test

import (
	"io"
	"path/filepath"
	"testing"

	"github.com/atoll-cloud/atoll/client"
)

// BenchmarkRun is one short program from start to end, through the fake edge.
func BenchmarkRun(b *testing.B) {
	g := guest(b)
	for b.Loop() {
		if _, err := g.Output(b.Context(), client.Command{Path: "true"}, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStdin sends 64 MiB to a program.
func BenchmarkStdin(b *testing.B) {
	g, size := guest(b), int64(64<<20)
	b.SetBytes(size)
	for b.Loop() {
		p, err := g.Start(b.Context(), client.Command{Path: "cat", Args: []string{"-"}, Stdin: true})
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			if client.Feed(b.Context(), io.LimitReader(zeros{}, size), p.Write) == nil {
				p.CloseStdin(b.Context())
			}
		}()
		if exit, err := p.Copy(io.Discard, io.Discard); err != nil || exit.Code != 0 {
			b.Fatal(exit, err)
		}
	}
}

// BenchmarkUpload sends 100 MiB to a file.
func BenchmarkUpload(b *testing.B) {
	g, size, path := guest(b), int64(100<<20), filepath.Join(b.TempDir(), "f")
	b.SetBytes(size)
	for b.Loop() {
		if err := g.Upload(b.Context(), path, io.LimitReader(zeros{}, size)); err != nil {
			b.Fatal(err)
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
