package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// bucketPrefix is what the streams of buckets are called.
const bucketPrefix = "KV_"

// Bucket holds the newest value of each key.
type Bucket struct {
	name string
	kv   jetstream.KeyValue
	s    *Store
}

// Bucket opens a bucket and makes it first if it does not exist.
func (s *Store) Bucket(ctx context.Context, name string) (*Bucket, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	cfg := jetstream.KeyValueConfig{
		Bucket:       name,
		History:      1,
		MaxValueSize: MaxRecord,
		Storage:      jetstream.FileStorage,
	}
	kv, err := s.js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = s.js.CreateKeyValue(ctx, cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", name, err)
	}
	return &Bucket{name: name, kv: kv, s: s}, nil
}

// Put stores v, encoded as JSON, whatever was there before, and returns the
// record's new revision. If ctx ends while it waits, v may or may not have
// been stored; the same holds for the other writes.
func (b *Bucket) Put(ctx context.Context, key string, v any) (uint64, error) {
	data, err := encode(key, v)
	if err != nil {
		return 0, fmt.Errorf("put in %s: %w", b.name, err)
	}
	rev, err := b.kv.Put(ctx, key, data)
	if err != nil {
		return 0, fmt.Errorf("put %s in %s: %w", key, b.name, err)
	}
	return rev, nil
}

// Create stores v only if the key has no value; else it fails with ErrExists.
func (b *Bucket) Create(ctx context.Context, key string, v any) (uint64, error) {
	data, err := encode(key, v)
	if err != nil {
		return 0, fmt.Errorf("create in %s: %w", b.name, err)
	}
	rev, err := b.kv.Create(ctx, key, data)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return 0, fmt.Errorf("create %s in %s: %w", key, b.name, ErrExists)
	}
	if err != nil {
		return 0, fmt.Errorf("create %s in %s: %w", key, b.name, err)
	}
	return rev, nil
}

// Update stores v only if the record still has revision rev; else it fails
// with ErrConflict.
func (b *Bucket) Update(ctx context.Context, key string, v any, rev uint64) (uint64, error) {
	data, err := encode(key, v)
	if err != nil {
		return 0, fmt.Errorf("update in %s: %w", b.name, err)
	}
	next, err := b.kv.Update(ctx, key, data, rev)
	if isWrongRevision(err) {
		return 0, fmt.Errorf("update %s in %s: %w", key, b.name, ErrConflict)
	}
	if err != nil {
		return 0, fmt.Errorf("update %s in %s: %w", key, b.name, err)
	}
	return next, nil
}

// Get decodes the record of a key into v, a pointer, and returns its revision.
// It fails with ErrNotFound if there is none.
func (b *Bucket) Get(ctx context.Context, key string, v any) (uint64, error) {
	if err := checkKey(key); err != nil {
		return 0, fmt.Errorf("get from %s: %w", b.name, err)
	}
	entry, err := b.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, fmt.Errorf("get %s from %s: %w", key, b.name, ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("get %s from %s: %w", key, b.name, err)
	}
	if err := json.Unmarshal(entry.Value(), v); err != nil {
		return 0, fmt.Errorf("decode %s of %s: %w: %w", key, b.name, ErrDamaged, err)
	}
	return entry.Revision(), nil
}

// Delete removes a key. Deleting one that has no value is no error.
//
// A marker stays for the key, for good: what JetStream forgets it does not
// erase, and after a kill it finds again in its files what no later message
// under that key denies.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return fmt.Errorf("delete from %s: %w", b.name, err)
	}
	if err := b.kv.Delete(ctx, key); err != nil {
		return fmt.Errorf("delete %s from %s: %w", key, b.name, err)
	}
	return nil
}

// All calls f for each record, in the order in which they were last written.
// Records written meanwhile may or may not be among them. An error of f ends
// the walk and is returned. f must not keep data.
func (b *Bucket) All(ctx context.Context, f func(key string, data []byte) error) error {
	prefix := "$KV." + b.name + "."
	err := b.s.scan(ctx, scan{stream: bucketPrefix + b.name, filter: prefix + ">", from: 1}, func(m message) error {
		if m.header.Get("KV-Operation") != "" || m.header.Get("Nats-Marker-Reason") != "" {
			return nil // the marker of a deleted key
		}
		return f(m.subject[len(prefix):], m.data)
	})
	if err != nil {
		return fmt.Errorf("list %s: %w", b.name, err)
	}
	return nil
}

func encode(key string, v any) ([]byte, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w: %w", key, ErrInvalid, err)
	}
	if len(data) > MaxRecord {
		return nil, fmt.Errorf("%w: value of %s has %d bytes, more than %d", ErrInvalid, key, len(data), MaxRecord)
	}
	return data, nil
}

func isWrongRevision(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) ||
		errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}
