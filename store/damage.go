package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// streams is where the server keeps its streams, one directory for each.
func (s *Store) streams() string {
	return filepath.Join(s.dir, "jetstream", server.DEFAULT_GLOBAL_ACCOUNT, "streams")
}

// checkRecovered compares the directory with what the server could read. The
// server skips what it cannot read with a warning, and a bucket that silently
// starts empty again would make us forget machines that still run.
func (s *Store) checkRecovered(ctx context.Context, before map[string]int64) error {
	root := s.streams()
	entries, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read store directory: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // being removed by the server
		}
		_, err := s.js.Stream(ctx, e.Name())
		if err == nil {
			continue
		}
		if empty(filepath.Join(root, e.Name())) {
			// The server was killed between making the directory and
			// describing it: nothing was ever stored there.
			continue
		}
		return fmt.Errorf("%w: %s cannot be read (%w); restore that directory from a copy, or move it away to start without its records",
			ErrDamaged, filepath.Join(root, e.Name()), err)
	}
	return s.reportLoss(ctx, before)
}

// reportLoss tells of records whose bytes are damaged. The others stay usable:
// one bad block of a disk must not keep all machines from being found again.
// before holds the sizes of the files of messages before the server read them:
// it cuts off all that follows an entry that it cannot read.
func (s *Store) reportLoss(ctx context.Context, before map[string]int64) error {
	for path, size := range messageFiles(s.streams()) {
		if cut := before[path] - size; cut > 0 {
			s.logger.Error("store cut off entries that it cannot read: damage on the disk, or a write that a power cut left unfinished",
				"file", path, "bytes", cut)
		}
	}
	info, err := s.server.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return fmt.Errorf("check the store for damage: %w", err)
	}
	for _, account := range info.AccountDetails {
		for _, stream := range account.Streams {
			if !strings.HasPrefix(stream.Name, bucketPrefix) {
				continue
			}
			// A bucket has one entry for each key.
			want, read := max(stream.State.Msgs, uint64(stream.State.NumSubjects)), uint64(0)
			err := s.scan(ctx, scan{stream: stream.Name, filter: ">"}, func(message) error { read++; return nil })
			if err != nil {
				return fmt.Errorf("read %s: %w: %w", stream.Name, ErrDamaged, err)
			}
			if read < want {
				s.logger.Error("store has records that are damaged on the disk", "stream", stream.Name, "records", want-read)
			}
		}
	}
	return nil
}

// messageFiles returns the sizes of the files of messages by their paths.
// What cannot be read is left out: opening the store reports it.
func messageFiles(streams string) map[string]int64 {
	sizes := map[string]int64{}
	filepath.WalkDir(streams, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".blk") {
			if info, err := d.Info(); err == nil {
				sizes[path] = info.Size()
			}
		}
		return nil
	})
	return sizes
}

// empty reports whether a stream directory holds no messages.
func empty(dir string) bool {
	files, err := os.ReadDir(filepath.Join(dir, "msgs"))
	if errors.Is(err, os.ErrNotExist) {
		return true
	}
	if err != nil {
		return false
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Size() > 0 {
			return false
		}
	}
	return true
}
