package disk

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests and structures of linux/btrfs.h, for 64-bit platforms.
const (
	iocResize        = 0x50009403
	iocWaitSync      = 0x40089416
	iocStartSync     = 0x80089418
	iocDevStats      = 0xc4089434
	iocSnapDestroy   = 0x5000940f
	iocTreeSearch    = 0xd0009411
	iocSnapCreateV2  = 0x50009417
	iocSubvolCreate2 = 0x50009418
	iocSubvolGet     = 0x80089419
	iocSubvolSet     = 0x4008941a
	iocFSInfo        = 0x8400941f
	iocQuotaCtl      = 0xc0109428
	iocQgroupCreate  = 0x4010942a
	iocQgroupLimit   = 0x8030942b
	iocSubvolInfo    = 0x81f8943c
	iocSnapDestroyV2 = 0x5000943f

	subvolReadOnly      = 1 << 1
	subvolQgroupInherit = 1 << 2
	subvolSpecByID      = 1 << 4

	rootReadOnly = 1 << 0 // in subvolInfo, unlike elsewhere

	quotaEnableFull   = 1
	quotaEnableSimple = 4

	// Both kinds of quota count as exclusive what a clone does not share with
	// its source, so this one limit means the same with either.
	limitExclusive   = 1 << 1
	inheritSetLimits = 1 << 0

	firstFreeID = 256 // ids below belong to the file system itself; also the inode of a subvolume's root

	treeOfRoots    = 1
	treeOfQuota    = 8
	keyExtentData  = 108
	keyRootItem    = 132
	keyRootRef     = 156
	keyQgroupInfo  = 242
	keyQgroupLimit = 244
)

type qgroupLimit struct {
	flags, maxRfer, maxExcl, rsvRfer, rsvExcl uint64
}

type qgroupInherit struct {
	flags, num, numRef, numExcl uint64
	limit                       qgroupLimit
}

type volArgsV2 struct {
	fd      int64
	transid uint64
	flags   uint64
	size    uint64
	inherit unsafe.Pointer
	unused  [2]uint64
	name    [4040]byte // or a subvolume id, with subvolSpecByID
}

type subvolInfo struct {
	treeID     uint64
	name       [256]byte
	parentID   uint64
	dirID      uint64
	generation uint64
	flags      uint64
	uuid       [16]byte
	parentUUID [16]byte
	received   [16]byte
	transids   [4]uint64
	times      [4][2]uint64
	reserved   [8]uint64
}

func ioctl(f *os.File, req uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), req, uintptr(arg))
		runtime.KeepAlive(f)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return errno
		}
		return nil
	}
}

// subvolMake creates an empty subvolume in dir, or a snapshot of source, with
// a limit where that is not 0.
func subvolMake(dir *os.File, entry string, source *os.File, readOnly bool, limit int64) error {
	var args volArgsV2
	copy(args.name[:], entry)
	if readOnly {
		args.flags |= subvolReadOnly
	}
	inherit := &qgroupInherit{flags: inheritSetLimits, limit: qgroupLimit{flags: limitExclusive, maxExcl: uint64(limit)}}
	if limit > 0 {
		args.flags |= subvolQgroupInherit
		args.size = uint64(unsafe.Sizeof(*inherit))
		args.inherit = unsafe.Pointer(inherit)
	}
	req := uintptr(iocSubvolCreate2)
	if source != nil {
		req, args.fd = iocSnapCreateV2, int64(source.Fd())
	}
	err := ioctl(dir, req, unsafe.Pointer(&args))
	runtime.KeepAlive(inherit)
	runtime.KeepAlive(source)
	return err
}

// subvolDestroy removes the subvolume that is an entry of dir.
func subvolDestroy(dir *os.File, entry string) error {
	var args struct {
		fd   int64
		name [4088]byte
	}
	copy(args.name[:], entry)
	return ioctl(dir, iocSnapDestroy, unsafe.Pointer(&args))
}

// subvolDestroyID removes a subvolume anywhere on the file system of dir.
func subvolDestroyID(dir *os.File, id uint64) error {
	var args volArgsV2
	args.flags = subvolSpecByID
	binary.NativeEndian.PutUint64(args.name[:], id)
	return ioctl(dir, iocSnapDestroyV2, unsafe.Pointer(&args))
}

func getSubvolInfo(tree *os.File) (*subvolInfo, error) {
	var info subvolInfo
	if err := ioctl(tree, iocSubvolInfo, unsafe.Pointer(&info)); err != nil {
		return nil, os.NewSyscallError("read subvolume", err)
	}
	return &info, nil
}

func setReadOnly(tree *os.File, on bool) error {
	var flags uint64
	if err := ioctl(tree, iocSubvolGet, unsafe.Pointer(&flags)); err != nil {
		return os.NewSyscallError("read subvolume flags", err)
	}
	want := flags &^ subvolReadOnly
	if on {
		want |= subvolReadOnly
	}
	if want == flags {
		return nil
	}
	return os.NewSyscallError("set subvolume flags", ioctl(tree, iocSubvolSet, unsafe.Pointer(&want)))
}

func quotaEnable(dir *os.File, kind uint64) error {
	args := [2]uint64{kind, 0}
	return ioctl(dir, iocQuotaCtl, unsafe.Pointer(&args))
}

func qgroupDestroy(dir *os.File, id uint64) error {
	args := [2]uint64{0, id}
	return ioctl(dir, iocQgroupCreate, unsafe.Pointer(&args))
}

func qgroupSetLimit(dir *os.File, id uint64, limit int64) error {
	args := struct {
		id    uint64
		limit qgroupLimit
	}{id: id, limit: qgroupLimit{flags: limitExclusive, maxExcl: uint64(limit)}}
	if limit == 0 {
		args.limit.maxExcl = ^uint64(0) // takes the limit away
	}
	return os.NewSyscallError("set quota", ioctl(dir, iocQgroupLimit, unsafe.Pointer(&args)))
}

// resizeMax grows the file system to its device's size.
func resizeMax(dir *os.File) error {
	var args struct {
		fd   int64
		name [4088]byte
	}
	copy(args.name[:], "max")
	return os.NewSyscallError("grow btrfs", ioctl(dir, iocResize, unsafe.Pointer(&args)))
}

func formatUUID(b []byte) string {
	const digits = "0123456789abcdef"
	var s bytes.Buffer
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			s.WriteByte('-')
		}
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

// searchKey is the range of a tree search and its position.
type searchKey struct {
	tree, minObject, maxObject, minOffset, maxOffset, minTrans, maxTrans uint64
	minType, maxType, items, unused                                      uint32
	reserved                                                             [4]uint64
}

type searchHeader struct {
	transid, object, offset uint64
	kind, size              uint32
}

// treeSearch calls f for every item of one kind in a tree of the file system,
// with its object id, offset and content.
func treeSearch(dir *os.File, tree uint64, kind uint32, minObject, maxObject uint64, f func(object, offset uint64, item []byte)) error {
	type searchArgs struct {
		key searchKey
		buf [4096 - unsafe.Sizeof(searchKey{})]byte
	}
	key := searchKey{tree: tree, minObject: minObject, maxObject: maxObject, maxOffset: ^uint64(0),
		maxTrans: ^uint64(0), minType: kind, maxType: kind}
	for {
		args := searchArgs{key: key}
		args.key.items = 4096
		if err := ioctl(dir, iocTreeSearch, unsafe.Pointer(&args)); err != nil {
			return os.NewSyscallError("search btrfs tree", err)
		}
		if args.key.items == 0 {
			return nil
		}
		const headerSize = int(unsafe.Sizeof(searchHeader{}))
		pos := 0
		for range args.key.items {
			if pos+headerSize > len(args.buf) {
				break
			}
			h := *(*searchHeader)(unsafe.Pointer(&args.buf[pos]))
			pos += headerSize
			end := min(pos+int(h.size), len(args.buf))
			// A search is over one span of the three-part keys, so other
			// kinds in between come along.
			if h.kind == kind {
				f(h.object, h.offset, args.buf[pos:end])
			}
			pos = end
			key.minObject, key.minType, key.minOffset = h.object, h.kind, h.offset
		}
		if key.minOffset++; key.minOffset == 0 {
			if key.minType++; key.minType > 255 {
				key.minType = 0
				key.minObject++
			}
		}
	}
}
