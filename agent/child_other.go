//go:build !linux

package agent

import "syscall"

// childAttributes put the child into a group of its own, so that Ctrl-C reaches
// it through us.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
