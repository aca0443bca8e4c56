package guest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of what is read of another process, whose memory may hold anything.
const (
	maxMaps     = 1 << 20 // bytes of a list of mappings
	mapsRead    = 64 << 10
	maxSegments = 64   // program headers of an image
	maxDynamic  = 512  // entries of an image's dynamic section
	maxChain    = 4096 // symbols with the same bucket
)

var errNoImage = errors.New("not an image of this processor's programs")

// image is a program or library as it lies in a process's memory.
type image struct {
	path string
	read func(address uint64, data []byte) error
	base uint64
	code []span // what may be executed
	// Set by load: how far it was moved from where it was linked, and its tables.
	bias, symbols, strings uint64
	// Of its table of hashes: where the buckets begin, how many there are, and
	// the first symbol that is in one.
	table          uint64
	buckets, first uint32
}

// span is a range of addresses.
type span struct{ start, end uint64 }

// images returns the program of a process and those of its libraries whose
// names begin with one of the prefixes.
func images(pid int, prefixes ...string) []*image {
	proc := "/proc/" + strconv.Itoa(pid)
	program, err := os.Readlink(proc + "/exe")
	if err != nil {
		return nil
	}
	const deleted = " (deleted)" // by an upgrade, say
	program = strings.TrimSuffix(program, deleted)
	found := map[string]*image{}
	var list []*image
	for line := range strings.Lines(readMaps(proc + "/maps")) {
		fields := strings.Fields(line)
		if len(fields) < 6 {
			continue
		}
		path := strings.TrimSuffix(strings.Join(fields[5:], " "), deleted)
		im := found[path]
		if im == nil {
			if path != program && !named(path, prefixes) {
				continue
			}
			im = &image{path: path, read: func(address uint64, data []byte) error { return readMemory(pid, address, data) }}
			found[path] = im
			list = append(list, im)
		}
		start, end, _ := strings.Cut(fields[0], "-")
		var s span
		s.start, _ = strconv.ParseUint(start, 16, 64)
		s.end, _ = strconv.ParseUint(end, 16, 64)
		if im.base == 0 && strings.Trim(fields[2], "0") == "" {
			im.base = s.start
		}
		if strings.Contains(fields[1], "x") {
			im.code = append(im.code, s)
		}
	}
	return list
}

// readMaps reads a list of mappings in few pieces, since each makes the kernel
// write the whole of it.
func readMaps(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	text := make([]byte, 0, mapsRead)
	for len(text) < maxMaps {
		text = slices.Grow(text, mapsRead)
		n, err := f.Read(text[len(text):cap(text)])
		text = text[:len(text)+n]
		if err != nil || n == 0 {
			break
		}
	}
	return string(text)
}

func named(path string, prefixes []string) bool {
	name := filepath.Base(path)
	for _, prefix := range prefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// readMemory fills data from a process's memory.
func readMemory(pid int, address uint64, data []byte) error {
	local := []unix.Iovec{{Base: &data[0]}}
	local[0].SetLen(len(data))
	n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(address), Len: len(data)}}, 0)
	if err == nil && n != len(data) {
		err = unix.EFAULT
	}
	return err
}

// writeMemory writes to memory that the process itself may write to.
func writeMemory(pid int, address uint64, data []byte) error {
	local := []unix.Iovec{{Base: &data[0]}}
	local[0].SetLen(len(data))
	n, err := unix.ProcessVMWritev(pid, local, []unix.RemoteIovec{{Base: uintptr(address), Len: len(data)}}, 0)
	if err == nil && n != len(data) {
		err = unix.EFAULT
	}
	return err
}

// load finds the tables of the image's symbols.
func (im *image) load() error {
	var header [64]byte
	if im.base == 0 || im.read(im.base, header[:]) != nil {
		return errNoImage
	}
	le := binary.LittleEndian
	count, size := int(le.Uint16(header[56:])), le.Uint16(header[54:])
	if !bytes.HasPrefix(header[:], []byte("\x7fELF\x02\x01")) || size != 56 || count == 0 || count > maxSegments {
		return errNoImage
	}
	segments := make([]byte, count*56)
	if err := im.read(im.base+le.Uint64(header[32:]), segments); err != nil {
		return errNoImage
	}
	const loadable, dynamicSection = 1, 2
	lowest, dynamic, length := ^uint64(0), uint64(0), uint64(0)
	for s := segments; len(s) > 0; s = s[56:] {
		address := le.Uint64(s[16:])
		switch le.Uint32(s) {
		case loadable:
			lowest = min(lowest, address&^4095)
		case dynamicSection:
			dynamic, length = address, le.Uint64(s[40:])
		}
	}
	if dynamic == 0 || lowest == ^uint64(0) {
		return errNoImage
	}
	im.bias = im.base - lowest
	return im.loadDynamic(im.bias+dynamic, int(min(length/16, maxDynamic)))
}

func (im *image) loadDynamic(address uint64, entries int) error {
	if entries == 0 {
		return errNoImage
	}
	table := make([]byte, entries*16)
	if err := im.read(address, table); err != nil {
		return errNoImage
	}
	hashes := uint64(0)
	const stringTable, symbolTable, gnuHash = 5, 6, 0x6ffffef5
	for ; len(table) > 0; table = table[16:] {
		value := binary.LittleEndian.Uint64(table[8:])
		if value < im.bias { // some loaders put addresses there, some leave it as linked
			value += im.bias
		}
		switch binary.LittleEndian.Uint64(table) {
		case stringTable:
			im.strings = value
		case symbolTable:
			im.symbols = value
		case gnuHash:
			hashes = value
		}
	}
	var header [16]byte
	if im.strings == 0 || im.symbols == 0 || hashes == 0 || im.read(hashes, header[:]) != nil {
		return errNoImage
	}
	le := binary.LittleEndian
	im.buckets, im.first = le.Uint32(header[:]), le.Uint32(header[4:])
	im.table = hashes + 16 + uint64(le.Uint32(header[8:]))*8 // a filter comes first
	return nil
}

// function returns the address of a function that the image exports, 0 when
// it exports none of that name. The image must be loaded.
func (im *image) function(name string) uint64 {
	le := binary.LittleEndian
	wanted := uint32(5381)
	for i := range len(name) {
		wanted = wanted*33 + uint32(name[i])
	}
	var word [4]byte
	if im.buckets == 0 || im.read(im.table+uint64(wanted%im.buckets)*4, word[:]) != nil {
		return 0
	}
	at := le.Uint32(word[:])
	if at < im.first {
		return 0
	}
	chains := im.table + uint64(im.buckets)*4
	var piece [16 * 4]byte
	for range maxChain / 16 {
		if im.read(chains+uint64(at-im.first)*4, piece[:]) != nil {
			return 0
		}
		for hashes := piece[:]; len(hashes) > 0; hashes = hashes[4:] {
			hash := le.Uint32(hashes)
			if hash|1 == wanted|1 {
				if address := im.named(at, name); address != 0 {
					return address
				}
			}
			if hash&1 != 0 { // the last of the bucket
				return 0
			}
			at++
		}
	}
	return 0
}

// named returns the address of a symbol if it is a function of that name.
func (im *image) named(index uint32, name string) uint64 {
	le := binary.LittleEndian
	var symbol [24]byte
	if im.read(im.symbols+uint64(index)*24, symbol[:]) != nil {
		return 0
	}
	const function, undefined = 2, 0
	if symbol[4]&15 != function || le.Uint16(symbol[6:]) == undefined {
		return 0
	}
	text := make([]byte, len(name)+1)
	if im.read(im.strings+uint64(le.Uint32(symbol[:])), text) != nil || string(text) != name+"\x00" {
		return 0
	}
	address := im.bias + le.Uint64(symbol[8:])
	for _, s := range im.code {
		if s.start <= address && address < s.end {
			return address
		}
	}
	return 0
}

// functions returns the address of each name in the first image that exports
// all of them, or false.
func functions(list []*image, names ...string) ([]uint64, bool) {
	for _, im := range list {
		addresses := make([]uint64, 0, len(names))
		for _, name := range names {
			address := im.function(name)
			if address == 0 {
				break
			}
			addresses = append(addresses, address)
		}
		if len(addresses) == len(names) {
			return addresses, true
		}
	}
	return nil, false
}
