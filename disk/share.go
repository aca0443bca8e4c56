package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// File names a file by its tree and its path inside, with "/" between.
type File struct {
	Tree string
	Path string
}

// Shared is what Share did to a file, in bytes of it.
type Shared struct {
	Size   int64
	Base   int64 // are stored where the base has them
	Zero   int64 // are not stored any more
	Copied int64 // had to be stored anew so that the rest could be freed
}

const (
	// shareRun is the shortest run of equal blocks that is shared. Each run
	// costs an extent and a seek more when the file is read.
	shareRun = 8
	// A gain below this much, or this share of a file, is not worth the work.
	minShareBytes = 256 << 10
	minShareRatio = 10 // one part in
	// shareStep bounds how long both files are locked against page faults.
	shareStep = 1 << 20
)

// Share lets a file use the storage of a base file for the 4 KiB blocks that
// also occur there, at whatever offsets, and frees what the file had them in
// and what it had runs of zeros in. Its content does not change: the kernel
// compares before it shares. The file must be in a writable tree and nobody
// may write to either file meanwhile; reading is no matter, and so is ending
// the context at any moment or a power cut. Once shared, the blocks stay until
// the last file that has them is gone, so the base may be removed.
//
// A base's table of blocks is kept for the next file. One file is shared at a
// time. The copy driver returns errors.ErrUnsupported.
func (d *Disk) Share(ctx context.Context, file, base File) (Shared, error) {
	if err := d.enter(file.Tree, base.Tree); err != nil {
		return Shared{}, err
	}
	defer d.leave()
	s, err := d.driver.share(ctx, file, base)
	if err != nil {
		return s, fmt.Errorf("share blocks of %s in tree %s: %w", file.Path, file.Tree, err)
	}
	return s, nil
}

func (c *copyDriver) share(context.Context, File, File) (Shared, error) {
	return Shared{}, fmt.Errorf("the copy driver stores every file whole: %w", errors.ErrUnsupported)
}

func (b *btrfsDriver) share(ctx context.Context, file, base File) (s Shared, err error) {
	select {
	case b.sharing <- struct{}{}:
		defer func() { <-b.sharing }()
	case <-ctx.Done():
		return s, ctx.Err()
	}
	from, err := b.openFile(base, os.O_RDONLY)
	if err != nil {
		return s, err
	}
	defer from.Close()
	to, err := b.openFile(file, os.O_RDWR)
	if err != nil {
		return s, err
	}
	defer to.Close()
	table, err := b.bases.table(ctx, from)
	if err != nil {
		return s, fmt.Errorf("read the base: %w", err)
	}
	blocks, size, err := hashBlocks(ctx, to)
	if err != nil {
		return s, err
	}
	s.Size = size
	pieces := planShare(blocks, table, shareRun)
	if gain := gainOf(pieces); gain < max(minShareBytes, size/minShareRatio) {
		return s, nil
	}
	for i := range pieces {
		if err := pieces[i].apply(ctx, to, from, &s); err != nil {
			return s, err
		}
	}
	s.Copied, err = copyRest(ctx, to, pieces)
	return s, err
}

func (b *btrfsDriver) openFile(file File, flags int) (*os.File, error) {
	root, err := openTreeRoot(b.root, file.Tree)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return openRegular(root, file.Path, flags)
}

// apply shares a piece or makes a hole of it. A piece that cannot be shared
// becomes one that the file has for its own.
func (p *piece) apply(ctx context.Context, to, from *os.File, s *Shared) error {
	if p.kind == pieceOwn {
		return ctx.Err()
	}
	start, end := int64(p.start)*blockSize, int64(p.start+p.blocks)*blockSize
	if p.kind == pieceZero {
		const mode = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
		if err := unix.Fallocate(int(to.Fd()), mode, start, end-start); err != nil {
			return os.NewSyscallError("punch hole", err)
		}
		s.Zero += end - start
		return ctx.Err()
	}
	source := int64(p.base) * blockSize
	for at := start; at < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := dedupe(to, at, from, source+at-start, min(end-at, shareStep))
		if err != nil {
			return err
		}
		if n == 0 { // a hash that was equal by chance
			p.kind = pieceOwn
			return nil
		}
		at += n
		s.Base += n
	}
	return nil
}

// dedupe makes a range of a file share the storage of another's, and returns
// how much of it the kernel did: nothing where they differ.
func dedupe(to *os.File, at int64, from *os.File, source, length int64) (int64, error) {
	args := unix.FileDedupeRange{
		Src_offset: uint64(source), Src_length: uint64(length),
		Info: []unix.FileDedupeRangeInfo{{Dest_fd: int64(to.Fd()), Dest_offset: uint64(at)}},
	}
	if err := unix.IoctlFileDedupeRange(int(from.Fd()), &args); err != nil {
		return 0, os.NewSyscallError("share blocks", err)
	}
	if status := args.Info[0].Status; status < 0 {
		return 0, os.NewSyscallError("share blocks", unix.Errno(-status))
	} else if status == unix.FILE_DEDUPE_RANGE_DIFFERS {
		return 0, nil
	}
	return int64(args.Info[0].Bytes_deduped), nil
}

// copyRest writes a file's own pieces to a new place where their extent has
// become too large for them: btrfs frees an extent only when no part of it is
// used any more.
func copyRest(ctx context.Context, file *os.File, pieces []piece) (copied int64, err error) {
	// Of a call before that was cut short, what it wrote may still be on its way.
	if err := flushFile(file); err != nil {
		return 0, err
	}
	extents, err := diskExtents(file)
	if err != nil {
		return 0, err
	}
	used := make(map[uint64]uint64) // of an extent, by this file
	for _, e := range extents {
		used[e.disk] += e.length
	}
	buf := make([]byte, readSize)
	for _, e := range extents {
		if e.disk == 0 || e.diskLength-min(used[e.disk], e.diskLength) <= e.diskLength/8 {
			continue
		}
		for _, p := range pieces {
			start, end := max(int64(p.start)*blockSize, int64(e.offset)), min(int64(p.start+p.blocks)*blockSize, int64(e.offset+e.length))
			if p.kind != pieceOwn || start >= end {
				continue
			}
			n, err := rewrite(ctx, file, start, end, buf)
			copied += n
			if err != nil {
				return copied, err
			}
		}
	}
	return copied, nil
}

// rewrite writes what a range of a file has there again. Whoever reads it
// meanwhile sees the same.
func rewrite(ctx context.Context, file *os.File, start, end int64, buf []byte) (done int64, err error) {
	for at := start; at < end; {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		n, err := file.ReadAt(buf[:min(int64(len(buf)), end-at)], at)
		if n == 0 {
			if errors.Is(err, io.EOF) {
				return done, nil
			}
			return done, err
		}
		if _, err := file.WriteAt(buf[:n], at); err != nil {
			return done, err
		}
		at += int64(n)
		done += int64(n)
	}
	return done, nil
}
