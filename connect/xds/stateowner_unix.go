//go:build unix

package xds

import (
	"fmt"
	"os"
	"syscall"
)

// ownedByUs refuses a folder or file of somebody else, who could put a configuration of
// theirs into it.
func ownedByUs(dir string, info os.FileInfo) error {
	if s, ok := info.Sys().(*syscall.Stat_t); ok && int(s.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d and we are %d: it must be ours alone", dir, s.Uid, os.Geteuid())
	}
	return nil
}
