package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// metadataHeader begins the headers that carry a file's metadata.
	metadataHeader = "X-Metadata-"
	// metadataPrefix is the name space of metadata among extended attributes.
	metadataPrefix = "user.e2b."
	// maxMetadataKey is what Linux leaves of an attribute's 255-byte name.
	maxMetadataKey = 255 - len(metadataPrefix)
	// maxMetadata bounds all metadata of a file, prefixes included, in bytes.
	maxMetadata = 4096
	// maxRemembered bounds the files whose metadata is kept in memory.
	maxRemembered = 16 << 10
)

// metadataStore keeps what clients attach to files: in extended attributes,
// or in memory on file systems that have none. Memory is part of a machine's
// snapshots, and inode numbers are not used twice on the disks of machines.
type metadataStore struct {
	mu          sync.Mutex
	remembered  map[inode]map[string]string
	unsupported map[uint64]bool // devices without extended attributes
}

type inode struct{ device, number uint64 }

func newMetadataStore() *metadataStore {
	return &metadataStore{remembered: map[inode]map[string]string{}, unsupported: map[uint64]bool{}}
}

// parseMetadata reads and checks the metadata in a request's headers.
func parseMetadata(h http.Header) (map[string]string, error) {
	var metadata map[string]string
	total := 0
	for name, values := range h {
		if len(name) <= len(metadataHeader) || !strings.EqualFold(name[:len(metadataHeader)], metadataHeader) || len(values) == 0 {
			continue
		}
		key, value := strings.ToLower(name[len(metadataHeader):]), values[0]
		if len(key) > maxMetadataKey {
			return nil, fmt.Errorf("metadata key %q is longer than %d bytes", key[:32]+"…", maxMetadataKey)
		}
		if !printable(key) || !printable(value) {
			return nil, fmt.Errorf("metadata %q: keys and values must be printable US-ASCII", key)
		}
		if total += len(metadataPrefix) + len(key) + len(value); total > maxMetadata {
			return nil, fmt.Errorf("metadata takes more than %d bytes", maxMetadata)
		}
		if metadata == nil {
			metadata = map[string]string{}
		}
		metadata[key] = value
	}
	return metadata, nil
}

func printable(text string) bool {
	for i := range len(text) {
		if text[i] < 0x20 || text[i] > 0x7e {
			return false
		}
	}
	return true
}

// set replaces a file's metadata.
func (m *metadataStore) set(file *os.File, metadata map[string]string) error {
	id, err := inodeOf(file)
	if err != nil {
		return err
	}
	if m.supported(id.device) {
		err := replaceAttributes(file, metadata)
		if !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		m.mu.Lock()
		m.unsupported[id.device] = true
		m.mu.Unlock()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(metadata) == 0 {
		delete(m.remembered, id)
		return nil
	}
	if _, known := m.remembered[id]; !known && len(m.remembered) >= maxRemembered {
		return withStatus(http.StatusInsufficientStorage, fmt.Errorf("metadata of %d files is kept already: no room for more", maxRemembered))
	}
	m.remembered[id] = maps.Clone(metadata)
	return nil
}

func (m *metadataStore) supported(device uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.unsupported[device]
}

// get returns a regular file's metadata, nil if it has none.
func (m *metadataStore) get(path string, info fs.FileInfo) map[string]string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	id := inode{uint64(stat.Dev), stat.Ino}
	m.mu.Lock()
	unsupported, remembered := m.unsupported[id.device], m.remembered[id]
	m.mu.Unlock()
	if unsupported {
		return maps.Clone(remembered)
	}
	metadata, err := readAttributes(path)
	if errors.Is(err, unix.EOPNOTSUPP) {
		m.mu.Lock()
		m.unsupported[id.device] = true
		m.mu.Unlock()
	}
	return metadata
}

// forget drops what memory holds of a file that is removed.
func (m *metadataStore) forget(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.remembered) == 0 {
		return
	}
	if info, err := os.Lstat(path); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink <= 1 {
			delete(m.remembered, inode{uint64(stat.Dev), stat.Ino})
		}
	}
}

// replaceAttributes removes old attributes that are not wanted and sets the
// wanted ones.
func replaceAttributes(file *os.File, metadata map[string]string) error {
	fd := int(file.Fd())
	names, err := listAttributes(func(buffer []byte) (int, error) { return unix.Flistxattr(fd, buffer) })
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, keep := metadata[name]; !keep {
			if err := unix.Fremovexattr(fd, metadataPrefix+name); err != nil && !errors.Is(err, unix.ENODATA) {
				return fmt.Errorf("remove metadata %q: %w", name, err)
			}
		}
	}
	for key, value := range metadata {
		if err := unix.Fsetxattr(fd, metadataPrefix+key, []byte(value), 0); err != nil {
			return fmt.Errorf("store metadata %q: %w", key, err)
		}
	}
	return nil
}

func readAttributes(path string) (map[string]string, error) {
	names, err := listAttributes(func(buffer []byte) (int, error) { return unix.Llistxattr(path, buffer) })
	if err != nil || len(names) == 0 {
		return nil, err
	}
	metadata := make(map[string]string, len(names))
	value := make([]byte, maxMetadata)
	for _, name := range names {
		n, err := unix.Lgetxattr(path, metadataPrefix+name, value)
		if err == nil && printable(name) && printable(string(value[:n])) {
			metadata[name] = string(value[:n])
		}
	}
	return metadata, nil
}

// listAttributes returns the names of metadata attributes without the prefix.
func listAttributes(list func([]byte) (int, error)) ([]string, error) {
	buffer := make([]byte, 1<<10)
	n, err := list(buffer)
	if errors.Is(err, unix.ERANGE) {
		buffer = make([]byte, 64<<10) // the most that Linux returns
		n, err = list(buffer)
	}
	if err != nil || n == 0 {
		return nil, err
	}
	var names []string
	for name := range strings.SplitSeq(string(buffer[:n]), "\x00") {
		if key, ok := strings.CutPrefix(name, metadataPrefix); ok && key != "" {
			names = append(names, key)
		}
	}
	return names, nil
}

func inodeOf(file *os.File) (inode, error) {
	info, err := file.Stat()
	if err != nil {
		return inode{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}, errors.New("file without an inode")
	}
	return inode{uint64(stat.Dev), stat.Ino}, nil
}
