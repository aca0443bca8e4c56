package disk

import (
	"encoding/binary"
	"os"
	"unsafe"
)

// Of linux/fiemap.h.
const (
	iocFiemap  = 0xc020660b
	fiemapSync = 1

	extentLast     = 0x0001
	extentUnknown  = 0x0002 // not on the disk yet
	extentDelalloc = 0x0004 // waits to be written
	extentInline   = 0x0200
	extentShared   = 0x2000
)

// fileExtent is one piece of a file that is stored in one place.
type fileExtent struct {
	offset, disk, length uint64 // bytes
	reserved             [2]uint64
	flags                uint32
	more                 [3]uint32
}

// fileExtents calls f for each extent of a file, in order.
func fileExtents(file *os.File, flags uint32, f func(fileExtent)) error {
	var args struct {
		start, length   uint64
		flags, mapped   uint32
		count, reserved uint32
		extents         [256]fileExtent
	}
	for start := uint64(0); ; {
		args.start, args.length, args.flags, args.mapped, args.count = start, ^uint64(0)-start, flags, 0, uint32(len(args.extents))
		if err := ioctl(file, iocFiemap, unsafe.Pointer(&args)); err != nil {
			return os.NewSyscallError("read extents", err)
		}
		for _, e := range args.extents[:min(int(args.mapped), len(args.extents))] {
			f(e)
			start = e.offset + e.length
			if e.flags&extentLast != 0 {
				return nil
			}
		}
		if args.mapped == 0 {
			return nil
		}
	}
}

// diskExtent is a piece of a file and the extent on the disk it is a part of.
type diskExtent struct {
	offset, length   uint64 // in the file
	disk, diskLength uint64 // of the whole extent; 0 for a hole
}

// diskExtents returns the extents of a file that are written, in order, but for
// those that are small enough to be kept beside the file's metadata.
func diskExtents(file *os.File) ([]diskExtent, error) {
	var extents []diskExtent
	ino := fstatIno(file)
	const treeOfFile = 0
	err := treeSearch(file, treeOfFile, keyExtentData, ino, ino, func(_, offset uint64, item []byte) {
		// struct btrfs_file_extent_item
		const size, kindAt, kindInline = 53, 20, 0
		if len(item) < size || item[kindAt] == kindInline {
			return
		}
		field := func(i int) uint64 { return binary.LittleEndian.Uint64(item[21+8*i:]) }
		extents = append(extents, diskExtent{offset: offset, disk: field(0), diskLength: field(1), length: field(3)})
	})
	return extents, err
}
