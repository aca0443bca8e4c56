package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrDamaged means that an image does not have the content it was written with.
var ErrDamaged = errors.New("the checkpoint is damaged")

// ImageFile is the file of an image's directory that describes the others. It
// is written last.
const ImageFile = "image.json"

// maxImageFile bounds the description in bytes; three files need a few hundred.
const maxImageFile = 64 << 10

// Image describes a checkpoint: what it needs, and what its files must be.
type Image struct {
	Key   string `json:"key"`
	Files []File `json:"files"`
}

// File is one file of an image. The checksum is CRC-32 with Castagnoli's
// polynomial, which processors compute faster than memory delivers.
type File struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	CRC  uint32 `json:"crc32c"`
	// Unsummed files have no checksum yet: summing them up is slower than
	// writing them was, and is done later.
	Unsummed bool `json:"unsummed,omitempty"`
}

// Bytes is the size of the files.
func (i Image) Bytes() (n int64) {
	for _, f := range i.Files {
		n += f.Size
	}
	return n
}

// sealed is what is in ImageFile: an Image, and its own checksum.
type sealed struct {
	Image json.RawMessage `json:"image"`
	CRC   uint32          `json:"crc32c"`
}

// WriteImage writes the description into the image's directory, in place of an
// earlier one.
func WriteImage(dir string, i Image) error {
	b, err := json.Marshal(i)
	if err == nil {
		b, err = json.Marshal(sealed{b, crc32.Checksum(b, castagnoli)})
	}
	path := filepath.Join(dir, ImageFile)
	if err == nil {
		err = os.WriteFile(path+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("describe the checkpoint: %w", err)
	}
	return nil
}

// ReadImage reads the description. One that is missing or makes no sense is
// ErrDamaged.
func ReadImage(dir string) (Image, error) {
	f, err := os.OpenFile(filepath.Join(dir, ImageFile), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return Image{}, unreadable(ImageFile, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxImageFile+1))
	if err != nil {
		return Image{}, unreadable(ImageFile, err)
	}
	return parseImage(b)
}

// unreadable tells what is wrong with the image from what is wrong with the
// host, which may pass.
func unreadable(name string, err error) error {
	for _, wrong := range []error{unix.ENOENT, unix.EISDIR, unix.ENOTDIR, unix.ELOOP, unix.EIO} {
		if errors.Is(err, wrong) {
			return fmt.Errorf("%w: %s cannot be read: %w", ErrDamaged, name, wrong)
		}
	}
	return fmt.Errorf("read the checkpoint: %w", err)
}

func parseImage(b []byte) (Image, error) {
	var i Image
	if len(b) > maxImageFile {
		return i, fmt.Errorf("%w: %s is too large", ErrDamaged, ImageFile)
	}
	var s sealed
	if err := json.Unmarshal(b, &s); err != nil {
		return i, fmt.Errorf("%w: %s cannot be read: %w", ErrDamaged, ImageFile, err)
	}
	if crc32.Checksum(s.Image, castagnoli) != s.CRC {
		return i, fmt.Errorf("%w: %s has another checksum", ErrDamaged, ImageFile)
	}
	if err := json.Unmarshal(s.Image, &i); err != nil {
		return i, fmt.Errorf("%w: %s cannot be read: %w", ErrDamaged, ImageFile, err)
	}
	if i.Key == "" || len(i.Files) == 0 {
		return i, fmt.Errorf("%w: %s is not complete", ErrDamaged, ImageFile)
	}
	for _, f := range i.Files {
		if f.Name != filepath.Base(f.Name) || !filepath.IsLocal(f.Name) || f.Size < 0 {
			return i, fmt.Errorf("%w: %s names a file %q of %d bytes", ErrDamaged, ImageFile, f.Name, f.Size)
		}
	}
	return i, nil
}

// Check compares a file in dir with what it must be. Another content, size or
// kind is ErrDamaged.
func (want File) Check(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, want.Name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return unreadable(want.Name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return unreadable(want.Name, err)
	}
	if !info.Mode().IsRegular() || info.Size() != want.Size {
		return fmt.Errorf("%w: %s has %d bytes, not %d", ErrDamaged, want.Name, info.Size(), want.Size)
	}
	if want.Unsummed {
		return nil
	}
	var sum Sum
	if err := sum.Follow(f); err != nil {
		return unreadable(want.Name, err)
	}
	if sum.CRC != want.CRC {
		return fmt.Errorf("%w: %s has another checksum", ErrDamaged, want.Name)
	}
	return nil
}

// SumUp gives the files of an image the checksums that they lack, and reports
// whether any did.
func (i *Image) SumUp(dir string) (bool, error) {
	changed := false
	for n := range i.Files {
		file := &i.Files[n]
		if !file.Unsummed {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, file.Name), os.O_RDONLY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return false, unreadable(file.Name, err)
		}
		var sum Sum
		err = sum.Follow(f)
		f.Close() // read only
		if err != nil {
			return false, unreadable(file.Name, err)
		}
		if sum.Size != file.Size {
			return false, fmt.Errorf("%w: %s has %d bytes, not %d", ErrDamaged, file.Name, sum.Size, file.Size)
		}
		file.CRC, file.Unsummed, changed = sum.CRC, false, true
	}
	return changed, nil
}

// Sum is the checksum of a file's first Size bytes.
type Sum struct {
	Size int64
	CRC  uint32

	buffer []byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumBuffer fits the caches of a processor, so that the second look at what was
// read is free.
const sumBuffer = 256 << 10

// Follow extends the sum to the present end of the file.
func (s *Sum) Follow(f *os.File) error {
	if s.buffer == nil {
		s.buffer = make([]byte, sumBuffer)
	}
	for {
		n, err := f.ReadAt(s.buffer, s.Size)
		s.CRC = crc32.Update(s.CRC, castagnoli, s.buffer[:n])
		s.Size += int64(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
