package guest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// errUnknownUser is reported for users that the machine does not have.
var errUnknownUser = errors.New("unknown user")

// maxUserFile bounds how much of passwd and group is read, in bytes.
const maxUserFile = 4 << 20

// account is one line of passwd with the groups its user is in.
type account struct {
	name   string
	uid    uint32
	gid    uint32
	home   string
	shell  string
	groups []uint32
}

// users answers who is who from passwd and group, which it reads again when
// they change.
type users struct {
	passwdPath string
	groupPath  string

	mu       sync.Mutex
	stamp    [2]fileStamp
	accounts map[string]*account
	userIDs  map[uint32]string
	groupIDs map[uint32]string
}

// fileStamp tells two versions of a file apart.
type fileStamp struct {
	modified time.Time
	size     int64
}

func newUsers(root string) *users {
	return &users{passwdPath: filepath.Join(root, "etc/passwd"), groupPath: filepath.Join(root, "etc/group")}
}

// find returns the account of a user, named or by number.
func (u *users) find(name string) (*account, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.refresh()
	if a, ok := u.accounts[name]; ok {
		return a, nil
	}
	if id, err := strconv.ParseUint(name, 10, 32); err == nil {
		if a, ok := u.accounts[u.userIDs[uint32(id)]]; ok {
			return a, nil
		}
	}
	return nil, fmt.Errorf("%w: %q is not in this machine's /etc/passwd", errUnknownUser, name)
}

// names returns the names of an owner and a group, or their numbers.
func (u *users) names(uid, gid uint32) (owner, group string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	owner, ok := u.userIDs[uid]
	if !ok {
		owner = strconv.FormatUint(uint64(uid), 10)
	}
	if group, ok = u.groupIDs[gid]; !ok {
		group = strconv.FormatUint(uint64(gid), 10)
	}
	return owner, group
}

// fresh makes names answer from the files as they are now.
func (u *users) fresh() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.refresh()
}

// refresh reads the files again if they changed; u.mu is held.
func (u *users) refresh() {
	stamp := [2]fileStamp{stampOf(u.passwdPath), stampOf(u.groupPath)}
	if u.accounts != nil && stamp == u.stamp {
		return
	}
	u.stamp = stamp
	u.accounts, u.userIDs = parsePasswd(readBounded(u.passwdPath, maxUserFile))
	u.groupIDs = parseGroup(readBounded(u.groupPath, maxUserFile), u.accounts)
}

func stampOf(path string) fileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{}
	}
	return fileStamp{info.ModTime(), info.Size()}
}

// parsePasswd reads the lines of passwd; the first line of a name or number
// wins, lines that make no sense are passed over.
func parsePasswd(data string) (map[string]*account, map[uint32]string) {
	accounts, ids := map[string]*account{}, map[uint32]string{}
	for line := range strings.Lines(data) {
		f := strings.Split(strings.TrimRight(line, "\r\n"), ":")
		if len(f) != 7 || f[0] == "" {
			continue
		}
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if _, seen := accounts[f[0]]; seen || err1 != nil || err2 != nil {
			continue
		}
		a := &account{name: f[0], uid: uint32(uid), gid: uint32(gid), home: f[5], shell: f[6]}
		if !strings.HasPrefix(a.home, "/") {
			a.home = "/"
		}
		if a.shell == "" {
			a.shell = "/bin/sh"
		}
		a.groups = []uint32{a.gid}
		accounts[a.name] = a
		if _, seen := ids[a.uid]; !seen {
			ids[a.uid] = a.name
		}
	}
	return accounts, ids
}

// parseGroup reads the lines of group, and adds each group to its members.
func parseGroup(data string, accounts map[string]*account) map[uint32]string {
	ids := map[uint32]string{}
	for line := range strings.Lines(data) {
		f := strings.Split(strings.TrimRight(line, "\r\n"), ":")
		if len(f) != 4 || f[0] == "" {
			continue
		}
		gid, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil {
			continue
		}
		if _, seen := ids[uint32(gid)]; !seen {
			ids[uint32(gid)] = f[0]
		}
		for member := range strings.SplitSeq(f[3], ",") {
			if a, ok := accounts[member]; ok && uint32(gid) != a.gid {
				a.groups = append(a.groups, uint32(gid))
			}
		}
	}
	return ids
}

// requestUser returns whom a request acts as: the name in its Authorization
// header (HTTP basic, the password is ignored), else the default.
func (s *Server) requestUser(h http.Header) (*account, error) {
	name, err := parseBasicUser(h.Get("Authorization"))
	if err != nil {
		return nil, err
	}
	return s.userOrDefault(name)
}

func (s *Server) userOrDefault(name string) (*account, error) {
	if name == "" {
		name = s.settings.get().user
	}
	return s.users.find(name)
}

// parseBasicUser returns the user name of an Authorization header; no header
// is no name.
func parseBasicUser(header string) (string, error) {
	if header == "" {
		return "", nil
	}
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", nil // a proxy's bearer token is not meant for us
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return "", fmt.Errorf("%w: Authorization header: %v", errUnknownUser, err)
	}
	name, _, _ := strings.Cut(string(decoded), ":")
	return name, nil
}

func validUserName(name string) bool {
	return name != "" && len(name) <= 256 && !strings.ContainsAny(name, ":/\x00\n")
}
