package guest

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"google.golang.org/protobuf/types/known/timestamppb"

	fspb "github.com/atoll-cloud/atoll/wire/filesystem"
)

// entry describes the file at path, itself a link or not.
func (s *Server) entry(path string) (*fspb.EntryInfo, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	s.users.fresh()
	return s.entryOf(path, info), nil
}

// entryOf describes a file whose Lstat is known. Names come from the users
// read last.
func (s *Server) entryOf(path string, info fs.FileInfo) *fspb.EntryInfo {
	e := &fspb.EntryInfo{
		Name: filepath.Base(path), Path: path, Size: info.Size(),
		Type: fileType(info.Mode()), Mode: uint32(info.Mode().Perm()),
		Permissions: info.Mode().String(), ModifiedTime: timestamppb.New(info.ModTime()),
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		e.Owner, e.Group = s.users.names(stat.Uid, stat.Gid)
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		describeLink(e, path)
	case info.Mode().IsRegular():
		e.Metadata = s.metadata.get(path, info)
	}
	return e
}

// describeLink gives a symbolic link its target, and the target's type and
// mode; a link that leads nowhere stays of type symlink.
func describeLink(e *fspb.EntryInfo, path string) {
	e.IsSymlink = true
	target, err := filepath.EvalSymlinks(path)
	if err == nil {
		if info, err := os.Stat(target); err == nil {
			e.Type, e.Mode = fileType(info.Mode()), uint32(info.Mode().Perm())
		}
	} else if target, err = os.Readlink(path); err != nil {
		return // it was removed meanwhile
	}
	e.SymlinkTarget = &target
}

func fileType(mode fs.FileMode) fspb.FileType {
	switch {
	case mode.IsDir():
		return fspb.FileType_FILE_TYPE_DIRECTORY
	case mode&fs.ModeSymlink != 0:
		return fspb.FileType_FILE_TYPE_SYMLINK
	case mode.IsRegular():
		return fspb.FileType_FILE_TYPE_FILE
	}
	return fspb.FileType_FILE_TYPE_UNSPECIFIED
}
