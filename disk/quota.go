package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Kinds of quota. Simple quotas (Linux 6.7) charge an extent to the tree that
// wrote it and need no scan; full ones track sharing, which slows deletes.
const (
	quotaSimple = "simple"
	quotaFull   = "full"
	quotaNone   = "none"
)

// startQuota finds which quotas the file system has, or enables them. It is
// done once in a file system's life: an enabled quota stays enabled.
func (b *btrfsDriver) startQuota() error {
	if b.quota = b.quotaMode(); b.quota != quotaNone {
		return nil
	}
	err := quotaEnable(b.dir, quotaEnableSimple)
	if err == nil {
		b.quota = quotaSimple
		return nil
	}
	b.log.Debug("disk: no simple quotas", "err", err)
	if err = quotaEnable(b.dir, quotaEnableFull); err == nil {
		b.quota = quotaFull
		b.log.Warn("disk: full quotas are used, which slow the removal of trees", "mend", "Linux 6.7 or later has simple quotas")
		return nil
	}
	b.log.Warn("disk: limits on trees do not hold: quotas cannot be enabled", "err", err)
	return nil
}

func (b *btrfsDriver) sysfs(elem ...string) string {
	return filepath.Join(append([]string{"/sys/fs/btrfs", b.fsid, "qgroups"}, elem...)...)
}

func (b *btrfsDriver) quotaMode() string {
	if mode, err := os.ReadFile(b.sysfs("mode")); err == nil {
		if strings.TrimSpace(string(mode)) == "squota" {
			return quotaSimple
		}
		return quotaFull
	}
	// Kernels before 6.7 have no mode file; without sysfs the tree tells.
	found := false
	err := treeSearch(b.dir, treeOfQuota, keyQgroupInfo, 0, 0, func(_, _ uint64, _ []byte) { found = true })
	if err == nil && found {
		return quotaFull
	}
	return quotaNone
}

func (b *btrfsDriver) usage(_ context.Context, name string) (used, limit int64, err error) {
	id, err := b.treeID(name)
	if err != nil {
		return 0, 0, err
	}
	if b.quota == quotaNone {
		return 0, 0, nil
	}
	// The running figures are in sysfs; the tree has those of the last commit.
	group := "0_" + strconv.FormatUint(id, 10)
	used, err = readCount(b.sysfs(group, "exclusive"))
	if err != nil {
		return b.committedUsage(id)
	}
	// Written but not yet on disk: reserved for the tree already.
	pending, err := readCount(b.sysfs(group, "rsv_data"))
	if err != nil {
		return 0, 0, err
	}
	flags, err := readCount(b.sysfs(group, "limit_flags"))
	if err != nil {
		return 0, 0, err
	}
	if flags&limitExclusive != 0 {
		if limit, err = readCount(b.sysfs(group, "max_exclusive")); err != nil {
			return 0, 0, err
		}
	}
	return used + pending, limit, nil
}

func (b *btrfsDriver) committedUsage(id uint64) (used, limit int64, err error) {
	field := func(item []byte, i int) int64 {
		if len(item) < 8*(i+1) {
			return 0
		}
		return int64(binary.LittleEndian.Uint64(item[8*i:]))
	}
	err = treeSearch(b.dir, treeOfQuota, keyQgroupInfo, 0, 0, func(_, group uint64, item []byte) {
		if group == id {
			used = field(item, 3)
		}
	})
	if err != nil {
		return 0, 0, err
	}
	err = treeSearch(b.dir, treeOfQuota, keyQgroupLimit, 0, 0, func(_, group uint64, item []byte) {
		if group == id && field(item, 0)&limitExclusive != 0 {
			limit = field(item, 2)
		}
	})
	return used, limit, err
}

// readCount reads a number from sysfs; "none" is 0. Counts that a deletion has
// made negative for a moment are 0 too.
func readCount(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	s := strings.TrimSpace(string(text))
	if s == "none" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return max(int64(n), 0), nil
}

func (b *btrfsDriver) setLimit(name string, limit int64) error {
	if limit < 0 {
		return errors.New("limit is negative")
	}
	t, err := openTree(b.root, name)
	if err != nil {
		return err
	}
	defer t.Close()
	if b.quota == quotaNone {
		return nil
	}
	info, err := getSubvolInfo(t)
	if err != nil {
		return err
	}
	return qgroupSetLimit(b.dir, info.treeID, limit)
}

// sweeper removes the quota groups of deleted subvolumes, which older kernels
// keep for ever, and which newer ones keep while what the tree wrote lives on
// in a clone.
type sweeper struct {
	poke chan struct{}
	quit chan struct{}
	done sync.WaitGroup
}

const (
	sweepSoon  = 5 * time.Second
	sweepLater = 5 * time.Minute
)

func startSweeper(b *btrfsDriver) *sweeper {
	s := &sweeper{poke: make(chan struct{}, 1), quit: make(chan struct{})}
	if b.quota == quotaNone {
		return s
	}
	s.done.Go(func() {
		s.wake() // what an earlier process left
		for {
			select {
			case <-s.quit:
				return
			case <-s.poke:
			}
			select {
			case <-s.quit:
				return
			case <-time.After(sweepSoon):
			}
			left, err := b.sweepQuotas()
			if err != nil {
				b.log.Warn("disk: clean up quota groups", "err", err)
			}
			if left > 0 {
				s.later()
			}
		}
	})
	return s
}

func (s *sweeper) wake() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

func (s *sweeper) later() {
	s.done.Go(func() {
		select {
		case <-s.quit:
		case <-time.After(sweepLater):
			s.wake()
		}
	})
}

func (s *sweeper) stop() {
	close(s.quit)
	s.done.Wait()
}

// sweepQuotas destroys the quota groups without a subvolume and returns how
// many are still needed to account for extents that live on elsewhere.
func (b *btrfsDriver) sweepQuotas() (left int, err error) {
	var groups []uint64
	err = treeSearch(b.dir, treeOfQuota, keyQgroupInfo, 0, 0, func(_, group uint64, _ []byte) {
		if group >= firstFreeID && group>>48 == 0 {
			groups = append(groups, group)
		}
	})
	if err != nil {
		return 0, err
	}
	// Subvolumes are listed after the groups: one made in between is no stale group.
	live := make(map[uint64]bool)
	err = treeSearch(b.dir, treeOfRoots, keyRootItem, firstFreeID, ^uint64(0)-256, func(id, _ uint64, _ []byte) {
		live[id] = true
	})
	if err != nil {
		return 0, err
	}
	for _, id := range groups {
		if live[id] {
			continue
		}
		err := qgroupDestroy(b.dir, id)
		switch {
		case errors.Is(err, unix.EBUSY), errors.Is(err, unix.ENOTEMPTY):
			left++
		case err != nil && !errors.Is(err, unix.ENOENT):
			return left, os.NewSyscallError("destroy quota group", err)
		}
	}
	return left, nil
}
