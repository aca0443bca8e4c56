package disk

import (
	"context"
	"errors"
	"hash/maphash"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	blockSize = 4096
	readSize  = 256 << 10

	// Bounds of what is kept of bases: tables, and blocks in all of them
	// (about 40 bytes each).
	maxTables      = 16
	maxTableBlocks = 1 << 18
)

// zeroHash stands for a block of zeros; no other block is given it.
const zeroHash = 0

var (
	hashSeed  = maphash.MakeSeed()
	zeroBlock [blockSize]byte
)

func hashBlock(block []byte) uint64 {
	if [blockSize]byte(block) == zeroBlock {
		return zeroHash
	}
	return max(maphash.Bytes(hashSeed, block), 1)
}

// hashBlocks returns the hashes of a file's blocks, without a last one that is
// not full, and the file's size.
func hashBlocks(ctx context.Context, f *os.File) (hashes []uint64, size int64, err error) {
	st, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	hashes = make([]uint64, 0, st.Size()/blockSize)
	buf := make([]byte, readSize)
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		n, err := f.ReadAt(buf, at)
		for b := buf[:n]; len(b) >= blockSize; b = b[blockSize:] {
			hashes = append(hashes, hashBlock(b[:blockSize]))
		}
		at += int64(n)
		if errors.Is(err, io.EOF) {
			return hashes, at, nil
		}
		if err != nil {
			return nil, 0, err
		}
	}
}

// blockTable finds a base's blocks by their hash.
type blockTable struct {
	hashes []uint64
	first  map[uint64]int32 // where a hash is first
}

func newBlockTable(hashes []uint64) *blockTable {
	t := &blockTable{hashes: hashes, first: make(map[uint64]int32, len(hashes))}
	for i := len(hashes) - 1; i >= 0; i-- {
		t.first[hashes[i]] = int32(i)
	}
	return t
}

// baseCache keeps the tables of the bases that were used last.
type baseCache struct {
	mu     sync.Mutex
	tables []cachedTable // the last used first
}

type cachedTable struct {
	id    fileID
	table *blockTable
}

// fileID tells a file, as it is now, from others. Were it ever to match a wrong
// one, less would be shared, as the kernel compares.
type fileID struct {
	dev, ino     uint64
	size         int64
	changed, sub int64
}

func (c *baseCache) table(ctx context.Context, base *os.File) (*blockTable, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(base.Fd()), &st); err != nil {
		return nil, os.NewSyscallError("stat", err)
	}
	id := fileID{dev: st.Dev, ino: st.Ino, size: st.Size, changed: st.Ctim.Sec, sub: st.Ctim.Nsec}
	if t := c.find(id); t != nil {
		return t, nil
	}
	hashes, _, err := hashBlocks(ctx, base)
	if err != nil {
		return nil, err
	}
	t := newBlockTable(hashes)
	c.keep(id, t)
	return t, nil
}

func (c *baseCache) find(id fileID) *blockTable {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, t := range c.tables {
		if t.id == id {
			copy(c.tables[1:], c.tables[:i])
			c.tables[0] = t
			return t.table
		}
	}
	return nil
}

// keep remembers a table and forgets those that were not used for longest,
// until the rest is small enough.
func (c *baseCache) keep(id fileID, t *blockTable) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tables = append([]cachedTable{{id, t}}, c.tables...)
	blocks := 0
	for i, t := range c.tables {
		if blocks += len(t.table.hashes); i == maxTables || blocks > maxTableBlocks {
			clear(c.tables[i:])
			c.tables = c.tables[:i]
			return
		}
	}
}

type pieceKind int

const (
	pieceOwn  pieceKind = iota // only this file has it
	pieceBase                  // the base has it too
	pieceZero                  // is all zeros
)

// piece is a run of a file's blocks that have the same fate.
type piece struct {
	kind          pieceKind
	start, blocks int
	base          int // where the base has it
}

// planShare cuts a file, given as the hashes of its blocks, into pieces. Runs
// shorter than least are left to the file, as is its last block if not full.
func planShare(file []uint64, base *blockTable, least int) []piece {
	var pieces []piece
	own := 0 // where the present own piece starts
	add := func(p piece) {
		if own < p.start {
			pieces = append(pieces, piece{kind: pieceOwn, start: own, blocks: p.start - own})
		}
		if p.blocks > 0 {
			pieces = append(pieces, p)
		}
		own = p.start + p.blocks
	}
	shift := 0 // from here to there, in the last shared piece
	for i := 0; i < len(file); {
		p := piece{kind: pieceZero, start: i}
		if file[i] == zeroHash {
			p.blocks = zeroRun(file[i:])
		} else {
			p.kind = pieceBase
			p.base, p.blocks = base.longest(file[i:], i+shift)
		}
		if p.blocks < least {
			i++
			continue
		}
		if p.kind == pieceBase {
			shift = p.base - i
		}
		add(p)
		i = own
	}
	// The last block of a file may be partial, and is then beyond its hashes.
	add(piece{start: len(file) + 1})
	return pieces
}

// longest returns where the base has the beginning of a run of blocks and for
// how long: at the guess, or where its first block is first.
func (t *blockTable) longest(run []uint64, guess int) (at, blocks int) {
	if guess >= 0 && guess < len(t.hashes) {
		at, blocks = guess, runLength(run, t.hashes[guess:])
	}
	if first, ok := t.first[run[0]]; ok {
		if n := runLength(run, t.hashes[first:]); n > blocks {
			return int(first), n
		}
	}
	return at, blocks
}

// runLength tells for how many blocks two runs are the same, zeros apart.
func runLength(run, other []uint64) int {
	for i := range min(len(run), len(other)) {
		if run[i] != other[i] || run[i] == zeroHash {
			return i
		}
	}
	return min(len(run), len(other))
}

func zeroRun(run []uint64) int {
	for i, h := range run {
		if h != zeroHash {
			return i
		}
	}
	return len(run)
}

func gainOf(pieces []piece) (bytes int64) {
	for _, p := range pieces {
		if p.kind != pieceOwn {
			bytes += int64(p.blocks) * blockSize
		}
	}
	return bytes
}
